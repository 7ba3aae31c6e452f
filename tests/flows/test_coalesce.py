"""The same question in flight is asked once, JSON or stream, whoever leaves and whoever reads slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.test_cached_answers import ANSWER, ASK, UP, Heard, ask
from tests.flows.test_failing_providers import metric
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import Gateway
from tests.provider import FakeProvider, Seen, Wire

COLLAPSE = "[cache]\n"


class Held:
    """A provider that answers when it is told to: a stream block by block, JSON at once."""

    def __init__(self) -> None:
        self.told = asyncio.Queue[bytes | None]()
        self.release = asyncio.Event()
        self.leaving: asyncio.Future[None]

    async def script(self, seen: Seen, wire: Wire) -> None:
        if not seen.json.get("stream"):
            released, left = asyncio.ensure_future(self.release.wait()), asyncio.ensure_future(wire.left(30))
            await asyncio.wait((released, left), return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if released.done():
                await wire.answer(ANSWER)
            else:
                released.cancel()
                wire.close()
            return
        await wire.begin_stream()
        self.leaving = asyncio.ensure_future(wire.left(30))
        self.leaving.add_done_callback(lambda _: self.told.put_nowait(None))
        while block := await self.told.get():
            await wire.chunk(block)
        if self.leaving.done():
            wire.close()
        else:
            self.leaving.cancel()
            await wire.end_stream()

    def tell(self, *blocks: bytes) -> None:
        for block in blocks:
            self.told.put_nowait(block)

    def end(self) -> None:
        self.tell(STOP + DONE)
        self.told.put_nowait(None)


Standing = tuple[Gateway, FakeProvider, Held]


@pytest.fixture
async def held(gateway: StartGateway, provider: StartProvider) -> Standing:
    source = Held()
    up = await provider(source.script)
    return await gateway(UP.format(up.url, "") + COLLAPSE), up, source


@pytest.fixture
async def many() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


def word(text: str) -> bytes:
    return chunk({"content": text})


@asynccontextmanager
async def streaming(many: aiohttp.ClientSession, gate: Gateway) -> AsyncIterator[aiohttp.ClientResponse]:
    async with many.post(gate.url + "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        yield response


async def read_until(response: aiohttp.ClientResponse, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        block = await response.content.readany()
        assert block, f"the stream ended before {end!r}: {got!r}"
        got += block
    return got


async def test_a_thousand_callers_make_one_call(held: Standing, many: aiohttp.ClientSession) -> None:
    """All of them have the answer; Cache-Status and metrics tell who was collapsed, and it cost one call's tokens."""
    gate, up, source = held
    calls = [asyncio.ensure_future(ask(many, gate)) for _ in range(1000)]
    await until(lambda: _joined(gate) == 999, seconds=20)
    source.release.set()
    heard: list[Heard] = await asyncio.gather(*calls)
    assert len(up.requests) == 1
    assert {(one.status, one.body) for one in heard} == {(200, heard[0].body)}
    statuses = [one.cache for one in heard]
    assert statuses.count("runestone; fwd=miss; collapsed") == 999
    assert statuses.count("runestone; fwd=miss; stored") == 1
    tokens = 'runestone_tokens_total{model="up/*",provider="up",type="output"}'
    assert await metric(many, gate, tokens) == 2


async def test_who_joins_a_stream_late_hears_it_from_the_beginning(held: Standing, many: aiohttp.ClientSession) -> None:
    """The events so far, then live: byte for byte the same stream."""
    gate, up, source = held
    source.tell(ROLE + word("a"), word("b"))
    async with streaming(many, gate) as first:
        so_far = await read_until(first, word("b"))
        async with streaming(many, gate) as second:
            assert await read_until(second, word("b")) == so_far
            source.tell(word("c"))
            assert await read_until(second, word("c")) == word("c")
            source.end()
            assert await second.read() == STOP + DONE
        assert await first.read() == word("c") + STOP + DONE
    assert len(up.requests) == 1
    await until(lambda: not _active(gate))


def _active(gate: Gateway) -> int:
    active: int = gate.app.upstreams["up"].pool.active  # type: ignore[attr-defined]
    return active


@pytest.mark.parametrize("leaves", ["first", "second"])
async def test_whoever_leaves_the_others_stay(leaves: str, held: Standing, many: aiohttp.ClientSession) -> None:
    """The provider call belongs to nobody: also when the one that leaves is just reading for all."""
    gate, up, source = held
    source.tell(ROLE + word("a"))
    async with streaming(many, gate) as one:
        await read_until(one, word("a"))
        async with streaming(many, gate) as two:
            await read_until(two, word("a"))
            gone, stays = (one, two) if leaves == "first" else (two, one)
            gone.close()
            await until(lambda: _running(gate) == 1)
            source.tell(word("b"))
            assert await read_until(stays, word("b")) == word("b")
            source.end()
            assert await stays.read() == STOP + DONE
    assert len(up.requests) == 1
    await until(lambda: not _active(gate))


def _joined(gate: Gateway) -> int:
    return gate.app.caching.joined.count


def _running(gate: Gateway) -> int:
    return len(gate.app.running._tasks)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_to_leave_ends_the_call(stream: bool, held: Standing, many: aiohttp.ClientSession) -> None:
    """Within a second the provider's connection is gone, and the pool is whole; the next caller begins anew."""
    gate, up, source = held
    calls = [
        asyncio.ensure_future(many.post(gate.url + "/v1/chat/completions", json={**ASK, "stream": stream}))
        for _ in range(3)
    ]
    await until(lambda: _running(gate) == 3 and len(up.requests) == 1)
    for call in calls[:2]:
        call.cancel()
    await until(lambda: _running(gate) == 1)
    assert up.open == 1
    calls[2].cancel()
    await until(lambda: up.open == 0, seconds=1.0)
    await until(lambda: not _active(gate))
    again = asyncio.ensure_future(many.post(gate.url + "/v1/chat/completions", json={**ASK, "stream": stream}))
    await until(lambda: len(up.requests) == 2)
    source.release.set()
    source.tell(ROLE)
    source.end()
    async with await again as response:
        assert response.status == 200


async def test_somebody_pays_when_the_first_one_has_left(held: Standing, many: aiohttp.ClientSession) -> None:
    """The provider's tokens are counted once, for one of those who stayed."""
    gate, up, source = held
    first = asyncio.ensure_future(ask(many, gate))
    await until(lambda: len(up.requests) == 1)
    others = [asyncio.ensure_future(ask(many, gate)) for _ in range(2)]
    await until(lambda: _joined(gate) == 2)
    first.cancel()
    await until(lambda: _running(gate) == 2)
    source.release.set()
    await asyncio.gather(*others)
    tokens = 'runestone_tokens_total{model="up/*",provider="up",type="output"}'
    assert await metric(many, gate, tokens) == 2


async def test_followers_hear_the_leaders_error_once(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """One failing call for fifty callers: fifty errors, and nobody asks again in its name."""
    release = asyncio.Event()

    async def fails(seen: Seen, wire: Wire) -> None:
        await release.wait()
        await wire.answer({"error": {"message": "boom"}}, status=500)

    up = await provider(fails)
    gate = await gateway(UP.format(up.url, "") + COLLAPSE)
    calls = [asyncio.ensure_future(ask(many, gate)) for _ in range(50)]
    await until(lambda: _joined(gate) == 49)
    release.set()
    assert {one.status for one in await asyncio.gather(*calls)} == {502}
    assert len(up.requests) == 1


async def test_a_provider_that_dies_is_told_to_all_who_listen(held: Standing, many: aiohttp.ClientSession) -> None:
    """A hundred listeners, the connection reset: each has what came, then an error event, and no invented end."""
    gate, up, source = held

    async def listen() -> bytes:
        async with streaming(many, gate) as response:
            return await response.read()

    listeners = [asyncio.ensure_future(listen()) for _ in range(100)]
    await until(lambda: _joined(gate) == 99)
    source.tell(ROLE + word("a"))
    await until(lambda: source.told.empty())
    await settled(lambda: _joined(gate), polls=10)
    up.kill()
    for heard in await asyncio.gather(*listeners):
        assert heard.startswith(ROLE + word("a"))
        assert b"provider_error" in heard
        assert b"[DONE]" not in heard
    assert len(up.requests) == 1
    await until(lambda: not _active(gate))
    assert await metric(many, gate, "runestone_cache_entries") == 0


async def test_a_slow_listener_slows_nobody_and_is_bounded(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """One reads nothing of twenty megabytes, the other has all of it; the one behind is cut with a reason."""
    source = Held()
    up = await provider(source.script)
    gate = await gateway(UP.format(up.url, "") + '[cache]\nmax_entry = "64KB"\n')
    big = word("x" * 200_000)
    source.tell(ROLE)
    async with streaming(many, gate) as slow, streaming(many, gate) as fast:
        reading = asyncio.ensure_future(fast.read())
        source.tell(*(big for _ in range(100)))
        source.end()
        assert len(await reading) == len(ROLE + STOP + DONE) + 100 * len(big)
        rest = await slow.read()
        assert b"too slowly" in rest
        assert b"[DONE]" not in rest
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    "different",
    [
        {"headers": {"x-runestone-timeout": "9s"}},
        {"headers": {"Cache-Control": "no-cache"}},
        {"headers": {"Cache-Control": "no-store"}},
        {"more": {"seed": 1}},
    ],
    ids=["another patience", "no-cache", "no-store", "another question"],
)
async def test_what_is_not_the_same_is_not_collapsed(
    different: dict[str, Any], held: Standing, many: aiohttp.ClientSession
) -> None:
    """Two calls, two answers."""
    gate, up, source = held
    one = asyncio.ensure_future(ask(many, gate))
    await until(lambda: len(up.requests) == 1)
    other = asyncio.ensure_future(ask(many, gate, different.get("headers"), **different.get("more", {})))
    await until(lambda: len(up.requests) == 2)
    source.release.set()
    assert {(await one).status, (await other).status} == {200}


async def test_collapsing_can_be_switched_off(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """`cache.collapse = false`: each call goes up, and is still kept."""
    source = Held()
    up = await provider(source.script)
    gate = await gateway(UP.format(up.url, "") + "[cache]\ncollapse = false\n")
    calls = [asyncio.ensure_future(ask(many, gate)) for _ in range(3)]
    await until(lambda: len(up.requests) == 3)
    source.release.set()
    await asyncio.gather(*calls)
    assert "hit" in (await ask(many, gate)).cache
