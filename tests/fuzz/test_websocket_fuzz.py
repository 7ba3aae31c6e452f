"""For any conversation, over any number of connections, with anything said in it and anything sent instead of it:

The messages of a session are numbered 1, 2, 3 ... without a gap, over all its connections; what is resumed comes in
order and once. Every question is answered, and with its `ref`. Every stream begins once, its chunks are counted up and
are what the provider said, and it ends once; nothing of it follows the end, and no text a pause. A connection is closed
for a reason that docs/websocket.md names, and never by 1011. When everybody has left, nothing is left: no session, no
room, no call, no provider's stream, no task; and the log has no error.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.flows.talk import Message, masked
from tests.fuzz.effort import effort
from tests.fuzz.house import House, open_house, turns
from tests.fuzz.strategies import DEEP, JSON, TEXT
from tests.fuzz.websocket_talk import SETTLED, Client, Session, Speaker, chunk

CONFIG = """
[websocket]
port = 0
heartbeat = "0s"
messages_per_second = 1000
max_message = "20KB"
max_streams = 6
max_rooms = 2
resumable_for = "100s"
[cache]
enabled = false
[batch]
enabled = false
"""
PATIENCE = 100.0
"""Seconds a session waits for its client."""


# -- what can be said


REFS = st.none() | st.integers(0, 5) | st.just("r") | st.just(1.5)
ROOMS = st.sampled_from(["a", "b", "c"])
QUESTION = b'{"event":"chat:stream","payload":{"model":"m","messages":[{"role":"user","content":"x"}],"x":'
HALF = [
    *(
        b'{"event":"ping" | [] | "ping" | null |  | \xff | {"event":"\\ud800"} | {"event":"ping","event":"ping"}'.split(
            b" | "
        )
    ),
    *(b'{"event":1} | {"event":"ping","ref":[]} | {"event":"ping","payload":NaN}'.split(b" | ")),
    b'{"event":"chat:stream","payload":' + b'{"a":' * 260 + b"1" + b"}" * 261,
    QUESTION + b"[" * 251 + b"]" * 251 + b"}}",
]
EVENTS = st.sampled_from(
    ["chat:stream", "chat:message", "stream:control", "room:join", "room:leave", "session:resume", "ping", "pong", ""]
)
ASK = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "nobody", "simulated", 5, None]),
        "messages": st.sampled_from([[], "x", [{"role": "user", "content": "zz"}], [{"role": 1}], None]),
        "stream": st.booleans() | st.none(),
        "stream_options": st.sampled_from([None, {}, {"include_usage": False}, []]),
        "room": st.sampled_from(["a", "none", 5, "", "x" * 300]),
        "n": st.sampled_from([0, 2, "x"]),
        "action": st.sampled_from(["pause", "resume", "cancel", "", 5]),
        "stream_id": st.sampled_from(["stream_x", "", 5]),
        "session_id": st.sampled_from(["session_x", 5]),
        "last_seq": st.sampled_from([0, -1, 2**64 - 1, "0", 1.0]),
    },
)
PAYLOADS = ASK | JSON | st.dictionaries(TEXT, JSON | DEEP, max_size=2)
FRAMES = st.builds(
    lambda first, mask, length, payload: bytes([first, mask | length]) + payload,
    st.integers(0, 255),
    st.sampled_from([0, 128]),
    st.sampled_from([0, 1, 5, 125, 126, 127]),
    st.binary(max_size=14),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


ENDED: dict[str, list[bytes | None]] = {
    "end": [chunk({}, "stop") + b"data: [DONE]\n\n"],
    "break": [None],
    "nonsense": [b'data: {"x\n\n', None],
    "error": [b'data: {"error":{"message":"busy"}}\n\n', None],
    "deep": [b'data: {"choices":[{"index":0,"delta":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}\n\n", None],
}
ENDINGS = st.sampled_from(["end", *ENDED])


class Conversations(RuleBasedStateMachine):
    """Clients that do whatever comes to their minds."""

    clients: Bundle[Client] = Bundle("clients")
    lost: Bundle[Session] = Bundle("lost")

    def __init__(self, house: House, speaker: Speaker) -> None:
        super().__init__()
        self.house = house
        self.speaker = speaker
        self.everybody: list[Client] = []
        self.said: dict[str, str] = {}
        self.over: dict[str, str] = {}
        """How the provider ended its streams, by question."""
        self._refs = 0
        self._questions = 0
        random.seed(0)  # masks

    def _ref(self) -> str:
        self._refs += 1
        return f"ref {self._refs}"

    @initialize(target=clients)
    def first(self) -> Client:
        self.house.begin()
        self.speaker.told.clear()
        return self.connect()

    @rule(target=clients)
    def connect(self) -> Client:
        """One more."""
        client = Client(self.house, Session())
        self.house.run(client.connect())
        self.everybody.append(client)
        return client

    @rule(client=clients)
    def ask(self, client: Client) -> None:
        """For a stream."""
        self._ask(client, "chat:stream")

    @rule(client=clients)
    def ask_whole(self, client: Client) -> None:
        """For an answer."""
        self._ask(client, "chat:message")

    @rule(client=clients, room=ROOMS)
    def ask_in_a_room(self, client: Client, room: str) -> None:
        """For a stream, by one who is in the room or is not."""
        self._ask(client, "chat:stream", room=room)

    def _ask(self, client: Client, event: str, **more: object) -> str:
        self._questions += 1
        name, ref = f"question {self._questions}", self._ref()
        client = self._there(client)
        self.said[name] = ""
        client.session.unanswered[ref] = event if event == "chat:message" else f"stream {name}"
        payload = {"model": "m", "messages": [{"role": "user", "content": name}], **more}
        self.house.run(client.say(event, payload, ref))
        self.house.run(turns(SETTLED))
        self.house.run(client.hear_all())
        assert event == "chat:message" or ref not in client.session.unanswered, "a question was not answered"
        return name

    def _there(self, client: Client) -> Client:
        self.house.run(client.come_back())
        return client

    @rule(client=clients, words=st.lists(WORDS, min_size=1, max_size=3), how=st.none() | ENDINGS)
    def talk(self, client: Client, words: list[str], how: str | None) -> None:
        """A stream that says something, and may end."""
        name = self._ask(client, "chat:stream")
        for word in words:
            self._speak(name, word, more=False)
        if how is not None:
            self._end(name, how)

    @rule(data=st.data(), words=WORDS | st.sampled_from(["", "[DONE]"]), more=st.booleans())
    def speak(self, data: st.DataObject, words: str, more: bool) -> None:
        """The provider says something in one of the streams that run."""
        if self.speaker.open:
            self._speak(data.draw(st.sampled_from(sorted(self.speaker.open))), words, more=more)

    def _speak(self, name: str, words: str, *, more: bool) -> None:
        if name in self.speaker.open:
            self.said[name] = self.said.get(name, "") + words
            delta: Message = {"content": words, "role": "assistant"}
            if more:
                delta["tool_calls"] = [{"index": 0}]
            self.speaker.told[name].put_nowait(chunk(delta))
            self.house.run(turns(SETTLED))

    @rule(data=st.data(), how=ENDINGS)
    def end(self, data: st.DataObject, how: str) -> None:
        """A stream comes to its end, or to an end that is none."""
        if self.speaker.open:
            self._end(data.draw(st.sampled_from(sorted(self.speaker.open))), how)

    def _end(self, name: str, how: str) -> None:
        if name in self.speaker.open:
            self.over.setdefault(name, how)
            for told in ENDED[how]:
                self.speaker.told[name].put_nowait(told)
            self.house.run(turns(SETTLED))

    @rule(client=clients, data=st.data(), action=st.sampled_from(["pause", "resume", "cancel"]), ref=REFS)
    def control(self, client: Client, data: st.DataObject, action: str, ref: object) -> None:
        """One's own stream, or another's."""
        client = self._there(client)
        running = [identity for identity in client.session.asked if identity not in client.session.ended]
        others = [identity for one in self.everybody for identity in one.session.indexes]
        ids = running or others
        if ids:
            identity = data.draw(st.sampled_from(ids))
            self.house.run(client.say("stream:control", {"action": action, "stream_id": identity}, ref))
            self.house.run(turns(SETTLED))
            self.house.run(client.hear_all())
            if action == "cancel" and identity in running and client.is_open:
                assert identity in client.session.ended, "a cancelled stream goes on"

    @rule(client=clients, event=st.sampled_from(["room:join", "room:leave"]), room=ROOMS)
    def enter(self, client: Client, event: str, room: str) -> None:
        client = self._there(client)
        self.house.run(client.say(event, {"room": room}, self._ref()))
        self.house.run(client.hear_all())

    @rule(client=clients, event=EVENTS | TEXT, payload=PAYLOADS, ref=REFS | JSON)
    def say_anything(self, client: Client, event: str, payload: Any, ref: Any) -> None:
        """A message that means nothing, or by chance something."""
        client = self._there(client)
        self.house.run(client.say(event, payload, ref))
        self.house.run(client.hear_all())

    @rule(client=clients, text=st.sampled_from(HALF) | st.binary(max_size=20), opcode=st.sampled_from([1, 1, 2]))
    def say_nonsense(self, client: Client, text: bytes, opcode: int) -> None:
        client = self._there(client)
        self.house.run(client.write(masked(text, opcode)))
        self.house.run(client.hear_all())

    @rule(
        client=clients, words=st.lists(st.sampled_from([b'{"event":', b'"ping"', b"}", b" "]), min_size=1, max_size=4)
    )
    def say_in_parts(self, client: Client, words: list[bytes]) -> None:
        """A message of several frames, a ping between them."""
        client = self._there(client)
        parts = [masked(word, 0 if at else 1, final=at == len(words) - 1) for at, word in enumerate(words)]
        self.house.run(client.write(masked(b"between", 9).join(parts)))
        self.house.run(client.hear_all())

    @rule(client=consumes(clients), target=lost, frame=FRAMES)
    def send_bytes(self, client: Client, frame: bytes) -> Session:
        """What may be a frame, or a part of one; then gone."""
        client = self._there(client)
        self.house.run(client.write(frame))
        self.house.run(turns(SETTLED))
        self.house.run(client.leave())
        self.everybody.remove(client)
        return client.session

    @rule(client=clients, size=st.sampled_from([19_000, 21_000, 70_000, 2**40]))
    def send_much(self, client: Client, size: int) -> None:
        """A message up to the limit, and beyond; or one that only says how long it will be."""
        client = self._there(client)
        if size > 2**20:
            self.house.run(client.write(b"\x81\xff" + size.to_bytes(8, "big") + b"0000"))
        else:
            self.house.run(client.write(masked(b'{"event":"ping","payload":"' + b"x" * size + b'"}')))
        self.house.run(client.hear_all())
        assert not client.is_open or size < 20_000

    @rule(client=clients)
    def listen(self, client: Client) -> None:
        self.house.run(client.hear_all())

    @rule(client=consumes(clients), target=lost, code=st.none() | st.sampled_from([1000, 1001, 1011, 3000, 5, 0]))
    def leave(self, client: Client, code: int | None) -> Session:
        """A lost connection, or one that is closed as it should be, or with a code that is none."""
        if code is not None:
            self.house.run(client.write(masked(code.to_bytes(2, "big"), 8)))
            self.house.run(turns(SETTLED))
        self.house.run(client.leave())
        self.everybody.remove(client)
        return client.session

    @rule(old=consumes(lost), back=st.integers(0, 3), target=clients)
    def come_back(self, old: Session, back: int) -> Any:
        """With all that was heard, or a little less: what is missing comes, and nothing else."""
        client = self.connect()
        resumed = self.house.run(client.resume(old, max(old.seq - back, 0)))
        assert resumed or client.is_open
        self.house.run(client.hear_all())
        return multiple(client)

    @rule(target=clients, old=st.none() | lost, how=st.sampled_from(["own", "unknown", "ahead", "late"]))
    def come_back_wrongly(self, old: Session | None, how: str) -> Client:
        """To a session that is not there, is one's own, or has not said so much; or too late. The new one goes on."""
        client = self.connect()
        meant = client.session if how == "own" or old is None else old
        identity, last_seq = meant.id, meant.seq + (10**6 if how == "ahead" else 0)
        if how == "late":
            self.house.run(client.say("chat:none", {}))
        if how != "unknown" and not (how == "late" and old is None):
            self.house.run(client.say("session:resume", {"session_id": identity, "last_seq": last_seq}, "wrong"))
        else:
            self.house.run(client.say("session:resume", {"session_id": "session_of_nobody", "last_seq": 0}, "wrong"))
        self.house.run(client.hear_all())
        assert client.is_open
        return client

    @rule(client=clients, other=clients)
    def take_over(self, client: Client, other: Client) -> None:
        """A session that has a connection still goes on with another, if that has said nothing yet."""
        client, other = self._there(client), self._there(other)
        if client.session is other.session:
            return
        mine, theirs = client.session, other.session
        self.house.run(other.hear_all())
        self.house.run(client.hear_all())
        if client.is_open and other.is_open and self.house.run(client.resume(theirs, theirs.seq)):
            assert self.house.run(other.closed()) == 1008
            other.session = mine  # which is over
        self.house.run(client.hear_all())

    @rule(seconds=st.sampled_from([1.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.house.pass_time(seconds)

    def teardown(self) -> None:
        """Whoever is there hears the rest; what it heard is what was said. Then all leave."""
        try:
            for client in self.everybody:
                self.house.run(self._there(client).hear_all())
                self._judge(client.session)
        finally:
            for client in self.everybody:
                self.house.run(client.leave())
            self.house.pass_time(PATIENCE + 1)
        self.house.clients_are_gone()
        assert not self.speaker.open, "a provider's call was left running"

    def _judge(self, session: Session) -> None:
        """What a client that is there must have heard by now."""
        for identity, name in session.asked.items():
            assert self.said[name].startswith(session.texts[identity]), "it heard what nobody said"
            if name in self.over and identity not in session.paused:
                assert identity in session.ended, "an end was not told"
            if self.over.get(name) == "end" and session.ended.get(identity) == "stream:complete":
                assert session.texts[identity] == self.said[name], "something is missing"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[tuple[House, Speaker]]:
    speaker = Speaker()
    with open_house(tmp_path, speaker.script, CONFIG) as opened:
        yield opened, speaker


def test_any_conversation_is_answered_and_forgotten(house: tuple[House, Speaker]) -> None:
    """See above."""
    run_state_machine_as_test(partial(Conversations, *house), settings=effort(15, steps=25))
