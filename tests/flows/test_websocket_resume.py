"""A lost connection loses nothing: sessions go on, and what was missed comes in order, each message once."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.talk import ANSWER, Flood, Message, Raw, Speaker, masked, message, question, talking, text_of
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider

Standing = tuple[Gateway, FakeProvider, Speaker]


@pytest.fixture
async def standing(gateway: StartGateway, provider: StartProvider) -> Standing:
    speaker = Speaker()
    up = await provider(speaker.script)
    return await gateway(relay(up.url), ENVIRON), up, speaker


async def test_what_was_missed_comes_before_what_is_new(standing: Standing) -> None:
    """The stream goes on while the client is away; its messages follow with their own numbers, then
    `session:resumed` with how many they were, then live.
    """
    gate, _, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        speaker.say("one", "a")
        await talk.wait("stream:chunk")
        talk.lose()
        session, seq, heard = talk.session, talk.seq, talk.heard
    await until(lambda: gate.app.live.sessions.away == 1)
    for word in "bcd":
        speaker.say("one", word)
        await settled_session(gate, session)
    async with talking(gate) as again:
        own = again.session
        assert own != session
        told = await again.resume(session, seq)
        assert told["event"] == "session:resumed"
        missed = again.heard[1:-1]
        assert told["payload"] == {"session_id": session, "replayed": len(missed), "received": 1}
        assert [one["seq"] for one in (*missed, told)] == list(range(seq + 1, seq + 2 + len(missed)))
        speaker.say("one", "e")
        speaker.end("one")
        await again.wait("stream:complete")
        assert text_of([*heard, *again.heard], stream_id) == "abcde"
    async with talking(gate) as other:
        assert (await other.resume(own, 1))["event"] == "session:lost", "the connection's own new session is dropped"


async def settled_session(gate: Gateway, identity: str) -> None:
    """Until the session has been told everything there is."""
    session, _ = gate.app.live.sessions._away[identity]
    await settled(lambda: session.outbox.last, polls=4)


async def test_nothing_was_missed(standing: Standing) -> None:
    """Lost while nothing happened: nothing is sent again."""
    gate, _, _ = standing
    async with talking(gate) as talk:
        await talk.ask("ping")
        talk.lose()
    async with talking(gate) as again:
        told = await again.resume(talk.session, talk.seq)
        assert told["event"] == "session:resumed"
        assert told["payload"]["replayed"] == 0
        assert told["seq"] == talk.seq + 1


async def test_a_client_that_has_nothing_gets_all(standing: Standing) -> None:
    """`last_seq` 0, with `connected` as the first of the old session."""
    gate, _, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        speaker.say("one", "a")
        await talk.wait("stream:chunk")
        talk.lose()
    async with talking(gate) as again:
        told = await again.resume(talk.session, 0)
        assert again.heard[1:-1] == talk.heard
        assert told["payload"]["replayed"] == len(talk.heard)
        assert text_of(again.heard, stream_id) == "a"


async def test_an_end_that_was_missed_comes_too(standing: Standing) -> None:
    """A stream and a whole answer that ended while nobody was there."""
    gate, up, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        await talk.say("chat:message", question("whole"), "mine")
        await until(lambda: len(up.requests) == 2)
        talk.lose()
    await until(lambda: gate.app.live.sessions.away == 1)
    speaker.say("one", "a")
    speaker.end("one")
    speaker.say("whole", "now")
    await until(lambda: not gate.app.running._tasks)
    async with talking(gate) as again:
        told = await again.resume(talk.session, talk.seq)
        assert told["event"] == "session:resumed"
        events = {one["event"]: one for one in again.heard}
        assert events["chat:response"]["payload"] == ANSWER
        assert events["chat:response"]["ref"] == "mine"
        assert events["stream:complete"]["payload"]["stream_id"] == stream_id


async def test_control_reaches_a_stream_of_the_resumed_session(standing: Standing) -> None:
    """It is the client's own still, paused as it was, and can be cancelled."""
    gate, up, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        await until(lambda: len(up.requests) == 1)
        await talk.control("pause", stream_id)
        talk.lose()
    async with talking(gate) as again:
        await again.resume(talk.session, talk.seq)
        speaker.say("one", "a")
        assert (await again.control("resume", stream_id))["event"] == "stream:resumed"
        assert (await again.wait("stream:chunk"))["payload"]["chunk"] == "a"
        assert (await again.control("cancel", stream_id))["event"] == "stream:cancelled"
        await until(lambda: up.open == 0, seconds=1.0)


async def test_how_many_messages_arrived_is_told(standing: Standing) -> None:
    """`received` counts what the client said, also what was refused, without pings and resumes: what was sent after
    those never arrived, and may be said again.
    """
    gate, _, _ = standing
    async with talking(gate) as talk:
        await talk.ask("ping")
        for event, payload in (("room:join", {"room": "r"}), ("nothing", None), ("chat:stream", {})):
            await talk.ask(event, payload)
        await talk.ws.send_str("garbage")
        await talk.ws.send_bytes(b"binary")
        await talk.all_heard()
        talk.lose()
    for times in (1, 2):
        async with talking(gate) as again:
            await again.ask("ping")
            told = await again.resume(talk.session, talk.seq)
            assert told["payload"]["received"] == 5 + times - 1
            await again.ask("room:join", {"room": "s"})
            again.lose()
            talk = again


@pytest.mark.parametrize("last_seq", [3, 10**6, 2**63 - 1])
async def test_nobody_has_had_what_was_not_said(last_seq: int, standing: Standing) -> None:
    """An absurd `last_seq` is lost with a reason, the new session goes on, and the old one still waits."""
    gate, _, _ = standing
    async with talking(gate) as talk:
        await talk.ask("ping")
        talk.lose()
    async with talking(gate) as again:
        own = again.session
        told = await again.resume(talk.session, last_seq)
        assert (told["event"], told["payload"]["session_id"]) == ("session:lost", talk.session)
        assert str(last_seq) in told["payload"]["reason"]
        assert (await again.ask("ping"))["event"] == "pong"
        assert again.session == own
    async with talking(gate) as third:
        assert (await third.resume(talk.session, 2))["event"] == "session:resumed"


async def test_resume_comes_first_or_not_at_all(standing: Standing) -> None:
    """After another message it is refused: this session has begun. A ping before it does no harm, a second resume
    does nothing.
    """
    gate, _, _ = standing
    async with talking(gate) as talk:
        talk.lose()
    async with talking(gate) as again:
        await again.ask("ping")
        assert (await again.resume(talk.session, 1))["event"] == "session:resumed"
        assert await again.refused("session:resume", {"session_id": talk.session, "last_seq": 1}) == "bad_message"
    async with talking(gate) as late:
        await late.ask("room:join", {"room": "r"})
        assert await late.refused("session:resume", {"session_id": talk.session, "last_seq": 1}) == "bad_message"
    async with talking(gate) as own:
        assert await own.refused("session:resume", {"session_id": own.session, "last_seq": 1}) == "bad_message"


KEYS = (
    '[[auth.keys]]\nname = "a"\nkey = "env:A"\ntenant = "t"\n'
    '[[auth.keys]]\nname = "b"\nkey = "env:B"\ntenant = "t"\n'
    '[[auth.keys]]\nname = "anonymous"\nkey = "env:C"\n'
)
SECRETS = {**ENVIRON, "A": "key-a", "B": "key-b", "C": "key-c"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("key-a", "key-b"), ("key-a", None), (None, "key-a"), ("key-c", None), (None, "key-c"), ("key-a", "key-c")],
)
async def test_another_key_finds_nothing(
    first: str | None, second: str | None, gateway: StartGateway, provider: StartProvider
) -> None:
    """Not of its tenant either, and not a key that is called like nobody; it learns no more than of a session that
    never was, and the session goes on.
    """
    gate = await gateway(relay((await provider(Speaker().script)).url, extra=KEYS), SECRETS)

    def headers(key: str | None) -> dict[str, str]:
        return {"x-api-key": key} if key is not None else {}

    async with talking(gate, headers=headers(first)) as talk:
        async with talking(gate, headers=headers(second)) as thief:
            stolen = await thief.resume(talk.session, 0)
        async with talking(gate, headers=headers(second)) as guesser:
            guessed = await guesser.resume("session_" + "0" * 32, 0)
        assert stolen["event"] == "session:lost"
        assert stolen["payload"]["reason"] == guessed["payload"]["reason"]
        assert (await talk.ask("ping"))["event"] == "pong"
        talk.lose()
    async with talking(gate, headers=headers(first)) as again:
        assert (await again.resume(talk.session, talk.seq))["event"] == "session:resumed"


async def test_the_later_connection_has_the_session(standing: Standing) -> None:
    """While the first one is still open (a network may lose a connection without a word): it is closed with 1008, and
    everything goes to the second.
    """
    gate, _, speaker = standing
    async with talking(gate) as first, talking(gate) as second:
        stream_id = await first.start("one")
        speaker.say("one", "a")
        await first.wait("stream:chunk")
        assert (await second.resume(first.session, first.seq))["event"] == "session:resumed"
        assert await first.closed() == 1008
        speaker.say("one", "b")
        speaker.end("one")
        await second.wait("stream:complete")
        assert text_of([*first.heard, *second.heard], stream_id) == "ab"
        sessions = gate.app.live.sessions
        await until(lambda: sessions.connections == 1)
        assert (len(list(sessions)), sessions.away) == (1, 0)


async def test_two_connections_may_fight_for_a_session(standing: Standing) -> None:
    """Each takes it from the other, twenty times: the last one has it, whole, and nothing is left over."""
    gate, _, speaker = standing
    heard: list[Message] = []
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        heard += talk.heard
        session, seq = talk.session, talk.seq
        for number in range(20):
            async with talking(gate) as next_one:
                speaker.say("one", f"{number} ")
                assert (await next_one.resume(session, seq))["event"] == "session:resumed"
                while text_of([*heard, *next_one.heard[1:]], stream_id).count(" ") <= number:
                    await next_one.next()
                heard += next_one.heard[1:]
                seq = next_one.seq
        async with talking(gate) as last:
            await last.resume(session, seq)
            speaker.end("one")
            await last.wait("stream:complete")
            assert text_of([*heard, *last.heard[1:]], stream_id) == "".join(f"{number} " for number in range(20))
    await until(lambda: gate.app.live.sessions.connections == 0)
    assert len(gate.app.live.sessions._away) <= 2


async def test_a_connection_that_has_lost_its_session_says_nothing_in_it_any_more(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """The client was told how many of its messages arrived, and says the others again: what still comes in on the old
    connection, whose socket is full and which is not closed yet, would be done twice.
    """
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as old, talking(gate) as new:
        await old.wait("connected")
        await old.say("chat:stream", question("one"))
        (session,) = (one for one in gate.app.live.sessions if one.id == old.session)
        await until(lambda: session.is_full)
        await settled(lambda: flood.sent)
        assert (await new.resume(old.session, session.outbox.last))["payload"]["received"] == 1
        await old.write(masked(message("chat:stream", question("two"), "late").encode()))
        for _ in range(20):
            await new.ask("ping")
        assert "late" not in [told.get("ref") for told in new.heard]
        assert session.received == 1
        assert len(up.requests) == 1


async def test_past_its_time_a_session_is_lost(gateway: StartGateway, provider: StartProvider) -> None:
    """`resumable_for`, which `connected` tells; the rooms it was in are left, and the reason says so."""
    extra = '[websocket]\nresumable_for = "50ms"\n'
    gate = await gateway(relay((await provider(Speaker().script)).url, extra=extra), ENVIRON)
    async with talking(gate) as talk:
        assert talk.heard[0]["payload"]["resumable_for"] == 0.05
        await talk.ask("room:join", {"room": "r"})
        talk.lose()
    sessions = gate.app.live.sessions
    await until(lambda: sessions.connections == 0)
    await until(lambda: sessions.away == 0)
    assert len(gate.app.live.rooms) == 0
    assert sessions._ledger.bytes == 0
    async with talking(gate) as again:
        told = await again.resume(talk.session, talk.seq)
        assert told["event"] == "session:lost"
        assert "over" in told["payload"]["reason"]


async def test_no_more_sessions_wait_than_connections_may_be(gateway: StartGateway, provider: StartProvider) -> None:
    """`max_connections`: who has been away longest is let go of first, and its provider calls end."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[websocket]\nmax_connections = 3\n"), ENVIRON)
    gone = []
    for number in range(5):
        async with talking(gate) as talk:
            await talk.start(f"{number}")
            await until(lambda number=number: len(up.requests) == number + 1)  # type: ignore[misc]
            talk.lose()
            gone.append((talk.session, talk.seq))
        await until(lambda: gate.app.live.sessions.connections == 0)
    assert gate.app.live.sessions.away == 3
    await until(lambda: speaker.gone == {"0", "1"}, seconds=1.0)
    for (session, seq), event in zip(gone, ["session:lost"] * 2 + ["session:resumed"] * 3, strict=True):
        async with Raw.connected(gate) as raw:
            await raw.wait("connected")
            await raw.say("session:resume", {"session_id": session, "last_seq": seq})
            assert (await raw.next())["event"] == event
            if event == "session:lost":
                gate.app.live.sessions.drop(*(one for one in gate.app.live.sessions))


async def test_while_the_client_is_away_streams_wait_when_enough_is_kept(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """One stream of 20 MB: what is kept is bounded, the provider is slowed down, and who comes back has all of it."""
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start()
        await talk.wait("stream:chunk")
        talk.lose()
    stopped = await settled(lambda: flood.sent)
    assert stopped < 16_000_000
    sessions = gate.app.live.sessions
    assert sessions.away == 1
    assert sessions._ledger.bytes < 2_100_000
    async with talking(gate) as again:
        assert (await again.resume(talk.session, talk.seq))["event"] == "session:resumed"
        await again.wait("stream:complete")
        assert text_of([*talk.heard, *again.heard], stream_id) == flood.text


async def test_many_streams_are_kept_too(gateway: StartGateway, provider: StartProvider) -> None:
    """Fifty at once while the client is away, each fast and each read of it large: together they stop at what is kept,
    not each; nothing is lost.
    """
    flood = Flood(480_000, block=60_000)
    flood.go.clear()
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        ids = [await talk.start(f"{number}") for number in range(50)]
        talk.lose()
    await until(lambda: gate.app.live.sessions.away == 1)
    flood.go.set()
    await settled(lambda: flood.sent)
    assert gate.app.live.sessions._ledger.bytes < 2_500_000
    async with talking(gate) as again:
        assert (await again.resume(talk.session, talk.seq))["event"] == "session:resumed"
        for _ in ids:
            await again.wait("stream:complete")
        for stream_id in ids:
            assert text_of([*talk.heard, *again.heard], stream_id) == flood.text


async def test_a_client_that_is_lost_again_and_again_while_it_catches_up(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """As much as may be kept is missed, and each connection brings a single message before it is lost: nothing is."""
    flood = Flood(6_000_000, block=30_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start()
        talk.lose()
        session, seq, heard = talk.session, talk.seq, list(talk.heard)
    await until(lambda: gate.app.live.sessions.away == 1)
    await settled(lambda: flood.sent)
    for _ in range(10):
        async with Raw.connected(gate) as raw:
            await raw.wait("connected")
            await raw.say("session:resume", {"session_id": session, "last_seq": seq})
            told = await raw.next()
            assert told["event"] != "session:lost", told
            assert told["seq"] == seq + 1
            heard.append(told)
            seq += 1
            raw.cut()
        await until(lambda: gate.app.live.sessions.away == 1)
    async with talking(gate) as last:
        assert (await last.resume(session, seq))["event"] == "session:resumed"
        await last.wait("stream:complete")
        assert text_of([*heard, *last.heard[1:]], stream_id) == flood.text


class Wanderer:
    """A client that is cut over and over: at the border of every message, and in the middle of every frame."""

    def __init__(self, gate: Gateway) -> None:
        self.gate = gate
        self.session = ""
        self.heard: dict[int, Message] = {}
        self.lives = 0

    async def live(self, asks: list[str]) -> bool:
        """One connection: resumes, hears one message more, and half of the next; whether the last has ended."""
        async with Raw.connected(self.gate) as raw:
            self.lives += 1
            await raw.next()
            if not self.session:
                self.session = raw.session
                for text in asks:
                    await raw.say("chat:stream", question(text), text)
            else:
                await raw.say("session:resume", {"session_id": self.session, "last_seq": max(self.heard, default=1)})
            self._hear(await raw.next())
            if self.lives % 2:
                await raw.read(3)
            raw.cut()
        ends = sum(told["event"] == "stream:complete" for told in self.heard.values())
        return ends == len(asks)

    def _hear(self, told: Message) -> None:
        assert told["event"] != "session:lost", told
        assert told["seq"] not in self.heard, "each message comes once"
        assert told["seq"] == max(self.heard, default=1) + 1, "none is left out"
        self.heard[told["seq"]] = told


async def test_cut_at_every_message_and_inside_every_frame(standing: Standing) -> None:
    """Fifty streams, a connection for each message: the text of every stream is exact."""
    gate, _, speaker = standing
    names = [f"q{number}" for number in range(50)]
    words = [f"{number}, " for number in range(6)]
    wanderer = Wanderer(gate)
    await wanderer.live(names)
    speaking = asyncio.ensure_future(_speak(speaker, names, words))
    async with asyncio.timeout(30):
        while not await wanderer.live(names):
            pass
    await speaking
    heard = wanderer.heard.values()
    ids: dict[str, str] = {
        told["ref"]: told["payload"]["stream_id"] for told in heard if told["event"] == "stream:started"
    }
    assert ids.keys() == set(names)
    for name in names:
        assert text_of(heard, ids[name]) == f"{name}: " + "".join(words)
    assert wanderer.lives > 50 * len(words)


async def _speak(speaker: Speaker, names: list[str], words: list[str]) -> None:
    for word in words:
        for name in names:
            speaker.say(name, f"{name}: {word}" if word is words[0] else word)
            await asyncio.sleep(0.001)
    for name in names:
        speaker.end(name)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_cut_after_every_byte(pieces: int, standing: Standing) -> None:
    """One short stream: whatever part of a message a connection has brought before it was lost, the message comes
    again, whole.
    """
    gate, _, speaker = standing
    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        await raw.say("chat:stream", question("one"))
        await raw.wait("stream:started")
        session, seq = raw.session, raw.seq
    for number in range(pieces):
        speaker.say("one", f"word {number} ")
    speaker.end("one")
    await until(lambda: not gate.app.running._tasks)
    whole, size = b"", 0
    while len(whole) == size:
        size += 7
        async with Raw.connected(gate) as raw:
            await raw.wait("connected")
            await raw.say("session:resume", {"session_id": session, "last_seq": seq})
            got = await raw.read(size)
            assert got.startswith(whole)
            whole = got
            raw.cut()
        if b'"session:resumed"' in whole:
            break
    told = [orjson.loads(part) for part in _payloads(whole)]
    assert "".join(one["payload"]["chunk"] for one in told if one["event"] == "stream:chunk") == "".join(
        f"word {number} " for number in range(pieces)
    )
    assert [one["event"] for one in told].count("stream:complete") == 1


def _payloads(data: bytes) -> list[bytes]:
    """The whole frames at the beginning of `data`."""
    found: list[Any] = []
    while len(data) > 4:
        size, start = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
        if len(data) < start + size:
            break
        found.append(data[start : start + size])
        data = data[start + size :]
    return found
