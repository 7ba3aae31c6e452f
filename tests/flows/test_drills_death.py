"""Drills of death: the only provider killed and restarted under load, one of two killed under 200 calls a second."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp
import pytest

from runestone.core.breaker import Breaker
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.drill import ENVIRON, Heard, alone, answer, ask, ask_at_once, at_rest, beside, client, faults, scrape
from tests.flows.test_relay_stream import ROLE
from tests.gateway import Gateway
from tests.provider import FakeProvider, Seen, Wire

CALLERS = 8
A_SECOND = 200
HALF = 300


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(client())


class Mortal(FakeProvider):
    """A provider that can come back on its port, which is one that the system gives to nobody else meanwhile."""

    async def __aenter__(self) -> Mortal:
        for port in random.sample(range(20_000, 32_000), 100):
            try:
                await self._listen(port)
            except OSError:
                continue
            return self
        raise OSError("no free port")

    async def restart(self) -> None:
        """As it was before the kill."""
        await self._listen(self._port)

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 24, backlog=1024)
        self._port = port


class Load:
    """A few callers who ask again as soon as they were answered, until `stop`."""

    def __init__(self, http: aiohttp.ClientSession, gate: Gateway) -> None:
        self.heard: list[Heard] = []
        self._http, self._gate = http, gate
        self._over = False
        self._callers = [asyncio.ensure_future(self._call(stream=number % 2 == 0)) for number in range(CALLERS)]

    async def _call(self, *, stream: bool) -> None:
        while not self._over:
            self.heard.append(await ask(self._http, self._gate, stream=stream))
            await asyncio.sleep(0.005)

    async def hears(self, status: int, times: int) -> None:
        """Returns when so many answers more have had this status."""
        begun = len(self.heard)
        await until(lambda: sum(heard.status == status for heard in self.heard[begun:]) >= times)

    async def stop(self) -> Counter[int]:
        """Ends the callers; how many answers had which status."""
        self._over = True
        await asyncio.gather(*self._callers)
        return Counter(heard.status for heard in self.heard)


async def test_the_only_provider_dies_and_comes_back(
    gateway: StartGateway, stack: AsyncExitStack, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load: 200s; then 502s, and 503s that say when to come again; then 200s again, without anybody touching the
    gateway. Every answer is in the metrics once.
    """
    up = await stack.enter_async_context(Mortal(answer))
    gate = await gateway(alone(up.url, more='[breaker]\nreset_timeout = "50ms"\n'), ENVIRON)
    load = Load(http, gate)
    await load.hears(200, 40)
    up.kill()
    await load.hears(503, 40)
    assert (await scrape(http, gate)).breaker("bad/x") > 0
    await up.restart()
    await load.hears(200, 1)
    async with asyncio.timeout(5):
        while (await scrape(http, gate)).breaker("bad/x") != 0:
            await load.hears(200, 1)
    well_from = len(load.heard) + CALLERS  # one answer of each caller may be older than the breaker's closing
    await load.hears(200, 40 + CALLERS)
    statuses = await load.stop()

    assert statuses.keys() == {200, 502, 503}
    assert {heard.status for heard in load.heard[well_from:]} == {200}
    for heard in load.heard:
        if heard.status == 200:
            assert heard.is_whole
        else:
            code = "provider_error" if heard.status == 502 else "service_unavailable"
            assert (heard.error["type"], heard.error["code"]) == ("api_error", code)
            assert (heard.headers.get("Retry-After"), heard.is_stream) == ("1" if heard.status == 503 else None, False)
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", str(status)): count for status, count in statuses.items()}
    assert metrics.errors == {
        ("provider", "provider_error"): statuses[502],
        ("gateway", "service_unavailable"): statuses[503],
    }
    assert (metrics.breaker("bad/x"), metrics.extra) == (0.0, (0, 0))
    pool = await at_rest(http, gate, "bad", up)
    assert 0 < pool["idle"] <= CALLERS
    assert pool["acquired"] == statuses[200] + statuses[502]
    assert faults(caplog) == []


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_provider_that_is_not_there_is_a_502(
    stream: bool, gateway: StartGateway, stack: AsyncExitStack, http: aiohttp.ClientSession
) -> None:
    """Nobody listens: five calls hear that it cannot be reached, the sixth when to come again; and a call that got no
    connection is not counted among those that got one.
    """
    up = await stack.enter_async_context(Mortal(answer))
    up.kill()
    gate = await gateway(alone(up.url), ENVIRON)
    for heard in await ask_at_once(http, gate, 5, stream=stream):
        assert (heard.status, heard.error["code"]) == (502, "provider_error")
        assert heard.error["message"] == "the provider 'bad' cannot be reached"
    assert (await ask(http, gate, stream=stream)).status == 503
    pool = await at_rest(http, gate, "bad", up)
    assert (pool["opened"], pool["errors"]) == (0, 5)
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", "502"): 5, ("bad", "503"): 1}
    assert metrics.errors == {("provider", "provider_error"): 5, ("gateway", "service_unavailable"): 1}
    assert metrics.breaker("bad/x") == 2.0
    assert metrics.by("pool_acquired_total", "reused") == {}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a failure was counted by a breaker: those of calls that were under way when it opened are not."""
    moments: list[float] = []
    fail = Breaker.fail

    def spy(breaker: Breaker, now: float, generation: int | None = None) -> None:
        if generation == breaker.generation:
            moments.append(now)
        fail(breaker, now, generation)

    monkeypatch.setattr(Breaker, "fail", spy)
    return moments


async def test_one_of_two_dies_under_200_calls_a_second(
    gateway: StartGateway,
    provider: StartProvider,
    stack: AsyncExitStack,
    http: aiohttp.ClientSession,
    counted: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """200 calls a second, whether or not the ones before are answered, and the first target killed in the middle of
    some: not one call fails, the breaker opens after five failures, and nobody asks the dead one again.
    """

    async def mortal(seen: Seen, wire: Wire) -> None:
        if len(bad.requests) == HALF:
            bad.kill()
        await asyncio.sleep(0.02)  # so that others are under way when it dies
        await answer(seen, wire)

    bad, good = await stack.enter_async_context(Mortal(mortal)), await provider(answer)
    gate = await gateway(beside(bad.url, good.url, top=""), ENVIRON)
    clock = asyncio.get_running_loop().time
    began = clock()
    calls: list[asyncio.Future[Heard]] = []
    for number in range(2 * HALF):
        await asyncio.sleep(max(began + number / A_SECOND - clock(), 0.0))
        calls.append(asyncio.ensure_future(ask(http, gate)))
    heard = await asyncio.gather(*calls)

    assert all(each.is_whole for each in heard)
    assert len(counted) == 5
    by = Counter(each.who for each in heard)
    assert 0 < by["bad"] < HALF
    assert by["bad"] + by["good"] == 2 * HALF
    assert {each.headers["x-runestone-attempts"] for each in heard if each.who == "good"} == {"2"}
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", "200"): by["bad"], ("good", "200"): by["good"]}
    assert (metrics.errors, metrics.extra) == ({}, (0, by["good"]))
    assert (metrics.breaker("bad/x"), metrics.breaker("good/y")) == (2.0, 0.0)
    assert (await at_rest(http, gate, "bad", bad))["idle"] == 0
    assert (await at_rest(http, gate, "good", good))["acquired"] == by["good"]
    assert faults(caplog) == []


async def begins(seen: Seen, wire: Wire) -> None:
    await wire.begin_stream()
    await wire.chunk(ROLE)
    await wire.left(30)


async def test_streams_under_way_hear_of_the_death(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Fifty streams in the middle of which the provider dies: each ends in an error event, behind what had come, and
    each is counted; the next stream is the other target's.
    """
    bad, good = await provider(begins), await provider(answer)
    gate = await gateway(beside(bad.url, good.url), ENVIRON)
    begun: list[bytes] = []

    async def listen() -> Heard:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with http.post(gate.url + "/v1/chat/completions", json=body) as response:
            begun.append(await response.content.readexactly(len(ROLE)))
            return Heard(response.status, response.headers, ROLE + await response.read())

    streams = asyncio.gather(*(listen() for _ in range(50)))
    await until(lambda: begun == [ROLE] * 50)
    bad.kill()
    for heard in await streams:
        assert (heard.status, heard.said, heard.who) == (200, ROLE, "bad")
        assert (heard.error["type"], heard.error["code"]) == ("api_error", "provider_error")
        assert b"[DONE]" not in heard.body
    pool = await at_rest(http, gate, "bad", bad)
    assert (pool["acquired"], pool["opened"], pool["idle"]) == (50, 50, 0)
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", "200"): 50}
    assert metrics.errors == {("provider", "provider_error"): 50}
    assert (metrics.breaker("bad/x"), metrics.extra) == (2.0, (0, 0))
    assert [each.who for each in await ask_at_once(http, gate, 5, stream=True)] == ["good"] * 5
    assert (await at_rest(http, gate, "good", good))["acquired"] == 5
    assert faults(caplog) == []
