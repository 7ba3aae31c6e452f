"""Rooms: everybody in one hears its streams, only who began a stream controls it, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.talk import Flood, Raw, Speaker, Talk, question, talking, text_of
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider

Standing = tuple[Gateway, FakeProvider, Speaker]
ROOM = {"room": "r"}


@pytest.fixture
async def standing(gateway: StartGateway, provider: StartProvider) -> Standing:
    speaker = Speaker()
    up = await provider(speaker.script)
    return await gateway(relay(up.url), ENVIRON), up, speaker


async def join(talk: Talk, room: str = "r") -> dict[str, object]:
    told = await talk.ask("room:join", {"room": room})
    assert told["event"] == "room:joined", told
    payload: dict[str, object] = told["payload"]
    return payload


def events_of(talk: Talk, stream_id: str) -> list[str]:
    return [told["event"] for told in talk.heard if told["payload"].get("stream_id") == stream_id]


async def test_everybody_in_the_room_hears_its_streams(standing: Standing) -> None:
    """The same chunks, from the beginning to the end, with `room` at the start; nobody outside hears a word."""
    gate, up, speaker = standing
    async with talking(gate) as owner, talking(gate) as member, talking(gate) as outside, talking(gate) as elsewhere:
        assert await join(owner) == {"room": "r", "members": 1, "streams": []}
        assert await join(member) == {"room": "r", "members": 2, "streams": []}
        await join(elsewhere, "other")
        await owner.say("chat:stream", question("one", room="r"), "mine")
        started = await owner.wait("stream:started")
        assert started["ref"] == "mine"
        assert started["payload"]["room"] == "r"
        stream_id = started["payload"]["stream_id"]
        heard = await member.wait("stream:started")
        assert "ref" not in heard
        assert heard["payload"] == started["payload"]
        for word in "abc":
            speaker.say("one", word)
            await owner.wait("stream:chunk")
        speaker.end("one")
        done = await owner.wait("stream:complete")
        assert (await member.wait("stream:complete"))["payload"] == done["payload"]
        assert text_of(owner.heard, stream_id) == text_of(member.heard, stream_id) == "abc"
        for talk in (outside, elsewhere):
            await talk.all_heard()
            assert not events_of(talk, stream_id)
        assert await join(owner) == {"room": "r", "members": 2, "streams": []}
    assert "room" not in up.requests[0].json


async def test_who_comes_late_gets_the_text_so_far_and_then_goes_on_live(standing: Standing) -> None:
    """`stream:started` and one chunk, numbered so that what follows continues it; joining again tells nothing twice."""
    gate, _, speaker = standing
    async with talking(gate) as owner, talking(gate) as late:
        await join(owner)
        one, two = await owner.start("one", room="r"), await owner.start("two", room="r")
        for word in "abc":
            speaker.say("one", word)
            await owner.wait("stream:chunk", stream_id=one)
        joined = await join(late)
        assert joined == {"room": "r", "members": 2, "streams": [one, two]}
        told = [await late.next() for _ in range(3)]
        assert [(one["event"], one["payload"]["stream_id"]) for one in told] == [
            ("stream:started", one),
            ("stream:chunk", one),
            ("stream:started", two),
        ]
        assert told[0]["payload"]["room"] == "r"
        so_far = told[1]["payload"]
        assert (so_far["chunk"], so_far["index"]) == ("abc", 2)
        await join(late)
        speaker.say("one", "d")
        live = (await late.wait("stream:chunk"))["payload"]
        assert (live["chunk"], live["index"]) == ("d", 3)
        speaker.end("one")
        await late.wait("stream:complete", stream_id=one)
        assert events_of(late, one) == ["stream:started", "stream:chunk", "stream:chunk", "stream:complete"]


async def test_joining_at_any_moment_misses_nothing(standing: Standing) -> None:
    """Twenty members that come while the stream runs: each has the whole text, no piece twice."""
    gate, _, speaker = standing
    words = [f"{number} " for number in range(200)]

    async def visit() -> str:
        async with talking(gate) as talk:
            streams = (await join(talk))["streams"]
            assert isinstance(streams, list)
            await talk.wait("stream:complete")
            chunks = [told["payload"] for told in talk.heard if told["event"] == "stream:chunk"]
            numbers = [told["index"] for told in chunks]
            assert numbers[1:] == list(range(numbers[0] + 1, numbers[-1] + 1))
            return "".join(told["chunk"] for told in chunks)

    async with talking(gate) as owner:
        await join(owner)
        await owner.start("one", room="r")
        visits = []
        for number, word in enumerate(words):
            if number % 10 == 5:
                visits.append(asyncio.ensure_future(visit()))
            speaker.say("one", word)
            await owner.wait("stream:chunk")
        await until(lambda: gate.app.live.sessions.connections == 21)
        speaker.end("one")
        await owner.wait("stream:complete")
        assert await asyncio.gather(*visits) == ["".join(words)] * 20


async def test_only_the_owner_controls_a_stream(standing: Standing) -> None:
    """Members hear that it was paused; they may not do it themselves; who is not in the room cannot see it."""
    gate, up, speaker = standing
    async with talking(gate) as owner, talking(gate) as member, talking(gate) as outside:
        await join(owner)
        await join(member)
        stream_id = await owner.start("one", room="r")
        for action in ("pause", "resume", "cancel"):
            payload = {"action": action, "stream_id": stream_id}
            assert await member.refused("stream:control", payload) == "unauthorized"
            assert await outside.refused("stream:control", payload) == "not_found"
        assert (await owner.control("pause", stream_id))["event"] == "stream:paused"
        assert "ref" not in await member.wait("stream:paused", stream_id=stream_id)
        await owner.control("resume", stream_id)
        speaker.say("one", "a")
        await member.wait("stream:chunk")
        await owner.control("cancel", stream_id)
        await member.wait("stream:cancelled", stream_id=stream_id)
        await until(lambda: up.open == 0, seconds=1.0)
        assert (await join(member))["streams"] == []


async def test_who_is_not_in_a_room_starts_nothing_there(standing: Standing) -> None:
    """`not_found`, the same for rooms that are and rooms that are not; leaving ends the right."""
    gate, up, _ = standing
    async with talking(gate) as talk, talking(gate) as member:
        await join(member)
        assert await talk.refused("chat:stream", question(room="r")) == "not_found"
        assert await talk.refused("chat:stream", question(room="nowhere")) == "not_found"
        await join(talk)
        left = await talk.ask("room:leave", ROOM)
        assert (left["event"], left["payload"]) == ("room:left", {"room": "r", "members": 1, "streams": []})
        assert await talk.refused("chat:stream", question(room="r")) == "not_found"
        assert await talk.refused("room:leave", ROOM) == "not_found"
    assert not up.requests


async def test_who_leaves_hears_no_more(standing: Standing) -> None:
    """The others do; the stream goes on."""
    gate, _, speaker = standing
    async with talking(gate) as owner, talking(gate) as member:
        await join(owner)
        await join(member)
        stream_id = await owner.start("one", room="r")
        await member.ask("room:leave", ROOM)
        speaker.say("one", "a")
        speaker.end("one")
        await owner.wait("stream:complete")
        await member.all_heard()
        assert events_of(member, stream_id) == ["stream:started"]


async def test_an_owner_that_left_the_room_still_owns_its_stream(standing: Standing) -> None:
    """The room goes on hearing it; the owner may end it, and is answered."""
    gate, up, speaker = standing
    async with talking(gate) as owner, talking(gate) as member:
        await join(owner)
        await join(member)
        stream_id = await owner.start("one", room="r")
        await owner.ask("room:leave", ROOM)
        speaker.say("one", "a")
        await member.wait("stream:chunk")
        await owner.say("stream:control", {"action": "cancel", "stream_id": stream_id}, "end it")
        await member.wait("stream:cancelled")
        await until(lambda: up.open == 0, seconds=1.0)
        await owner.all_heard()
        assert [told["event"] for told in owner.heard if told.get("ref") == "end it"] == ["stream:cancelled"]


@pytest.mark.parametrize("how", ["leaves the room", "loses its connection", "is away for good"])
async def test_the_stream_outlives_its_owner_while_anybody_is_there(
    how: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """And ends, within a second, with the last member."""
    speaker = Speaker()
    up = await provider(speaker.script)
    extra = '[websocket]\nresumable_for = "50ms"\n' if how == "is away for good" else ""
    gate = await gateway(relay(up.url, extra=extra), ENVIRON)
    async with talking(gate) as member:
        async with talking(gate) as owner:
            await join(owner)
            await join(member)
            stream_id = await owner.start("one", room="r")
            await until(lambda: len(up.requests) == 1)
            if how == "leaves the room":
                await owner.ask("room:leave", ROOM)
            else:
                owner.lose()
            if how == "is away for good":
                await until(lambda: gate.app.live.sessions.away == 0 and gate.app.live.sessions.connections == 1)
            speaker.say("one", "a")
            await member.wait("stream:chunk")
            assert up.open == 1
        payload = {"action": "cancel", "stream_id": stream_id}
        assert await member.refused("stream:control", payload) == "unauthorized"
        await member.ask("room:leave", ROOM)
        if how == "loses its connection":
            assert up.open == 1, "the owner may come back"
        else:
            await until(lambda: up.open == 0, seconds=1.0)


async def test_a_member_that_comes_back_has_missed_nothing(standing: Standing) -> None:
    """Its session stays in the room while its connection is gone."""
    gate, _, speaker = standing
    async with talking(gate) as owner:
        await join(owner)
        async with talking(gate) as member:
            await join(member)
            stream_id = await owner.start("one", room="r")
            speaker.say("one", "a")
            await member.wait("stream:chunk")
            member.lose()
        await until(lambda: gate.app.live.sessions.away == 1)
        speaker.say("one", "b")
        await owner.wait("stream:chunk")
        await owner.wait("stream:chunk")
        assert (await join(owner))["members"] == 2
        async with talking(gate) as again:
            await again.resume(member.session, member.seq)
            speaker.say("one", "c")
            speaker.end("one")
            await again.wait("stream:complete")
            assert text_of([*member.heard, *again.heard], stream_id) == "abc"


async def test_rooms_and_members_are_limited(gateway: StartGateway, provider: StartProvider) -> None:
    """`max_rooms` of a session, `max_members` of a room; leaving makes room, joining again costs nothing."""
    up = await provider(Speaker().script)
    gate = await gateway(relay(up.url, extra="[websocket]\nmax_rooms = 2\nmax_members = 2\n"), ENVIRON)
    async with talking(gate) as one, talking(gate) as two, talking(gate) as three:
        await join(one, "a")
        await join(one, "b")
        assert await one.refused("room:join", {"room": "c"}) == "too_many_rooms"
        await join(one, "b")
        await join(two, "a")
        assert await three.refused("room:join", {"room": "a"}) == "too_many_members"
        assert await three.refused("chat:stream", question(room="a")) == "not_found"
        await one.ask("room:leave", {"room": "a"})
        assert (await join(three, "a"))["members"] == 2
        await join(one, "c")
    assert len(gate.app.live.rooms) <= 3


async def test_nothing_is_left_of_a_room_nobody_is_in(standing: Standing) -> None:
    """Rooms are there while somebody is in them: hundreds that were joined and left cost nothing."""
    gate, _, _ = standing
    async with talking(gate) as talk:
        for number in range(50):
            await join(talk, f"{number}")
            await talk.ask("room:leave", {"room": f"{number}"})
        assert len(gate.app.live.rooms) == 0


KEYS = "".join(
    f'[[auth.keys]]\nname = "{name}"\nkey = "env:{name.upper()}"\n{tenant}'
    for name, tenant in (
        ("a", 'tenant = "t"\n'),
        ("b", 'tenant = "t"\n'),
        ("c", 'tenant = "u"\n'),
        ("t", ""),
        ("alone", ""),
        ("anonymous", ""),
        ("nobody", ""),
    )
)
SECRETS = {**ENVIRON, **{name: f"key-{name.lower()}" for name in ("A", "B", "C", "T", "ALONE", "ANONYMOUS", "NOBODY")}}


async def test_tenants_do_not_see_each_other(gateway: StartGateway, provider: StartProvider) -> None:
    """The same name is another room for another tenant, for a key without one, for a key that is called like a tenant
    or like nobody, and for callers without a key, who share theirs.
    """
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra=KEYS), SECRETS)
    async with AsyncExitStack() as stack:

        async def caller(name: str) -> Talk:
            headers = {"x-api-key": f"key-{name}"} if name else {}
            return await stack.enter_async_context(talking(gate, headers=headers))

        a = await caller("a")
        assert (await join(a))["members"] == 1
        others = [await caller(name) for name in ("c", "t", "alone", "anonymous", "nobody", "")]
        for talk in others:
            assert (await join(talk))["members"] == 1
        same, unknown = await caller("b"), await caller("")
        assert (await join(same))["members"] == 2
        assert (await join(unknown))["members"] == 2
        stream_id = await a.start("one", room="r")
        assert (await same.wait("stream:started"))["payload"]["stream_id"] == stream_id
        speaker.say("one", "secret")
        await same.wait("stream:chunk")
        for talk in (*others, unknown):
            payload = {"action": "cancel", "stream_id": stream_id}
            assert await talk.refused("stream:control", payload) == "not_found"
            assert not events_of(talk, stream_id)


async def test_a_slow_member_slows_nobody(
    gateway: StartGateway, provider: StartProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """One reads nothing while the others hear twenty megabytes: they have all of it, and the one that did not read is
    cut with a reason.
    """
    flood = Flood(20_000_000, block=16_000)
    flood.go.clear()
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra='[websocket]\nmax_kept = "30MB"\n'), ENVIRON)
    async with talking(gate) as owner, talking(gate) as member, Raw.connected(gate, buffer=4096) as slow:
        for talk in (owner, member):
            await join(talk)
        await slow.wait("connected")
        await slow.say("room:join", ROOM)
        await slow.wait("room:joined")
        stream_id = await owner.start(room="r")
        (session,) = (one for one in gate.app.live.sessions if one.id == slow.session)
        socket = session.socket
        assert socket is not None
        socket._max_waiting = 1_000_000
        flood.go.set()
        await asyncio.gather(owner.wait("stream:complete"), member.wait("stream:complete"))
        assert text_of(owner.heard, stream_id) == text_of(member.heard, stream_id) == flood.text
        await until(lambda: gate.app.live.sessions.connections == 2)
    cuts = [record.getMessage() for record in caplog.records if record.name == "runestone.websocket"]
    assert len(cuts) == 1
    assert "too much waits" in cuts[0]
    assert [record.levelno for record in caplog.records if record.name == "runestone.websocket"] == [logging.WARNING]


async def test_a_member_that_was_cut_may_come_back(gateway: StartGateway, provider: StartProvider) -> None:
    """It was cut because as much waited for it as may be kept: what it missed is no more than that and what its socket
    held, and it resumes from the last message it has.
    """
    flood = Flood(800_000, block=16_000)
    flood.go.clear()
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as owner:
        await join(owner)
        async with Raw.connected(gate, buffer=4096) as slow:
            await slow.wait("connected")
            await slow.say("room:join", ROOM)
            await slow.wait("room:joined")
            ids = [await owner.start(room="r") for _ in range(2)]
            flood.go.set()
            for _ in ids:
                await owner.wait("stream:complete")
            await until(lambda: gate.app.live.sessions.connections == 1)
            assert gate.app.live.sessions.away == 1
        async with talking(gate) as again:
            assert (await again.resume(slow.session, slow.seq))["event"] == "session:resumed"
            for stream_id in ids:
                assert text_of(again.heard, stream_id) == flood.text


async def test_the_text_of_a_rooms_stream_is_bounded(gateway: StartGateway, provider: StartProvider) -> None:
    """It is kept for who comes late; a stream that grows past that ends with an error that says so, for everybody."""
    flood = Flood(3_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as owner, talking(gate) as member:
        await join(owner)
        await join(member)
        await owner.start(room="r")
        for talk in (owner, member):
            error = (await talk.wait("stream:error"))["payload"]["error"]
            assert "characters" in error["message"]
        await settled(lambda: up.open, polls=5)
        assert up.open == 0
