"""Rooms: what one begins, all hear."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from runestone.client import Limits, Overrun, Refused, Room, Session, StreamFailed
from tests.client.conftest import MakeClient, StartProxy
from tests.client.talking import FAST, MODEL, UP, Told, Words, ask, works
from tests.client.test_client_session import begin, text_of
from tests.conftest import StartGateway, StartProvider, until
from tests.gateway import Gateway


@pytest.fixture
async def told(gateway: StartGateway, provider: StartProvider) -> tuple[Gateway, Told]:
    source = Told()
    return await gateway(UP.format((await provider(source.script)).url)), source


async def opened(stack: AsyncExitStack, client: MakeClient, url: str, **options: object) -> Session:
    return await stack.enter_async_context(client(url, **options).session())


async def next_text(room: Room) -> str:
    return await text_of(await anext(room))


async def test_all_members_hear_a_stream(gateway: StartGateway, client: MakeClient, stack: AsyncExitStack) -> None:
    """Who began it finds the very same object in the room; the text is everybody's."""
    gate = await gateway(FAST)
    one, other = await opened(stack, client, gate.url), await opened(stack, client, gate.url)
    mine = await one.join("room")
    yours = await other.join("room")
    assert (mine.members, yours.members, yours.streams) == (1, 2, ())
    assert await other.join("room") is yours
    stream = await one.stream(model="simulated", messages=ask(), room="room")
    heard = await anext(yours)
    assert await anext(mine) is stream
    assert (heard.id, heard.room, heard.is_mine, stream.is_mine) == (stream.id, "room", False, True)
    text = await text_of(stream)
    assert await text_of(heard) == text
    assert text
    assert heard.finish_reason == stream.finish_reason == "stop"


async def test_who_comes_late_hears_what_was_said(
    told: tuple[Gateway, Told], client: MakeClient, stack: AsyncExitStack
) -> None:
    """The text so far, then live."""
    gate, source = told
    one, other = await opened(stack, client, gate.url), await opened(stack, client, gate.url)
    await one.join("room")
    stream = await begin(one, source, room="room")
    texts = aiter(stream)
    for text in "ab":
        source.say(text)
        assert await anext(texts) == text
    room = await other.join("room")
    assert room.streams == (stream.id,)
    source.say("c")
    source.end()
    assert await next_text(room) == "abc"


async def test_only_who_began_a_stream_controls_it(
    told: tuple[Gateway, Told], client: MakeClient, stack: AsyncExitStack
) -> None:
    """A listener is refused, and hears when it is cancelled: as a failure, since the text is not whole."""
    gate, source = told
    one, other = await opened(stack, client, gate.url), await opened(stack, client, gate.url)
    await one.join("room")
    room = await other.join("room")
    stream = await begin(one, source, room="room")
    heard = await anext(room)
    for forbidden in (heard.pause, heard.cancel):
        with pytest.raises(Refused) as refused:
            await forbidden()
        assert refused.value.code == "unauthorized"
    await stream.pause()
    await until(lambda: heard.is_paused)
    await stream.cancel()
    assert await text_of(stream) == ""
    with pytest.raises(StreamFailed) as failed:
        await text_of(heard)
    assert failed.value.code == "cancelled"


async def test_a_stream_that_is_not_read_fails_alone(
    gateway: StartGateway, provider: StartProvider, client: MakeClient, stack: AsyncExitStack
) -> None:
    """A listener cannot make it pause: past the bound that one is given up, and the listener hears the next."""
    words = Words(size=1000)
    gate = await gateway(UP.format((await provider(words.script)).url))
    one = await opened(stack, client, gate.url)
    other = await opened(stack, client, gate.url, limits=Limits(heard=50_000))
    await one.join("room")
    room = await other.join("room")
    assert await text_of(await one.stream(model=MODEL, messages=ask("100"), room="room")) == words.text(100)
    heard = await anext(room)
    await heard.over.wait()
    assert heard.waiting == 0
    with pytest.raises(Overrun):
        await text_of(heard)
    assert await text_of(await one.stream(model=MODEL, messages=ask("10"), room="room")) == words.text(10)
    assert await next_text(room) == words.text(10)


async def test_a_room_that_is_not_listened_to_is_bounded(
    gateway: StartGateway, client: MakeClient, stack: AsyncExitStack
) -> None:
    """The oldest streams are let go of, which is said once; the others are there."""
    gate = await gateway(FAST)
    session = await opened(stack, client, gate.url, limits=Limits(waiting_streams=2))
    room = await session.join("room")
    streams = [await session.stream(model="simulated", messages=ask(str(one)), room="room") for one in range(5)]
    with pytest.raises(Overrun, match="3 streams"):
        await anext(room)
    assert [await anext(room), await anext(room)] == streams[3:]


async def test_leaving_a_room_ends_what_is_heard_there(
    told: tuple[Gateway, Told], client: MakeClient, stack: AsyncExitStack
) -> None:
    """The iteration ends, a stream that runs fails with a code of its own; others hear on, and one may come back."""
    gate, source = told
    one, other = await opened(stack, client, gate.url), await opened(stack, client, gate.url)
    await one.join("room")
    room = await other.join("room")
    stream = await begin(one, source, room="room")
    heard = await anext(room)
    waiting = asyncio.ensure_future(anext(room, None))
    await room.leave()
    await room.leave()
    assert (await waiting, room.members, room.is_open) == (None, 1, False)
    with pytest.raises(StreamFailed) as failed:
        await text_of(heard)
    assert failed.value.code == "left"
    source.say("a")
    again = await other.join("room")
    assert again is not room
    source.end()
    assert await next_text(again) == await text_of(stream) == "a"


async def test_who_begins_and_leaves_leaves_the_stream_to_the_others(
    told: tuple[Gateway, Told], client: MakeClient, stack: AsyncExitStack
) -> None:
    """Also by closing its session; when nobody is there any more, the stream ends."""
    gate, source = told
    other = await opened(stack, client, gate.url)
    room = await other.join("room")
    async with client(gate.url).session() as one:
        await one.join("room")
        await begin(one, source, room="room")
        await begin(one, source, room="room")
    heard, last = await anext(room), await anext(room)
    source.say("a")
    source.end()
    assert await text_of(heard) == "a"
    await room.leave()
    assert not last.cancelled
    await until(lambda: not works(gate) and not len(gate.app.live.rooms))


async def test_a_room_survives_a_lost_connection(
    told: tuple[Gateway, Told], client: MakeClient, stack: AsyncExitStack, proxy: StartProxy
) -> None:
    """Membership and what was said meanwhile, streams that began meanwhile too."""
    gate, source = told
    between = await proxy(gate.port)
    one, other = await opened(stack, client, gate.url), await opened(stack, client, between.url)
    await one.join("room")
    room = await other.join("room")
    await begin(one, source, room="room")
    heard = await anext(room)
    between.refusing = True
    between.cut()
    source.say("a")
    await begin(one, source, room="room")
    source.say("b", stream=1)
    for number in range(2):
        source.end(stream=number)
    between.refusing = False
    assert await text_of(heard) == "a"
    assert await next_text(room) == "b"
