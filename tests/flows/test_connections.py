"""Connections to a provider: reused, replaced when dead, given back whatever becomes of a call."""

from __future__ import annotations

import asyncio

import aiohttp
import orjson
import pytest

from runestone.providers.http import HttpProvider
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_relay_stream import ROLE
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import Seen, Wire

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def upstream(gate: Gateway) -> HttpProvider:
    found = gate.app.upstreams["up"]
    assert isinstance(found, HttpProvider)
    return found


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer({"choices": []})


async def ask(http: aiohttp.ClientSession, gate: Gateway, **more: object) -> int:
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, **more}) as response:
        await response.read()
        return response.status


async def test_connections_are_reused(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Of 10,000 calls, 50 at a time, at least 95 of 100 use a connection that was there, counted at the provider."""
    up = await provider(answer)
    gate = await gateway(relay(up.url, extra=""), ENVIRON)

    async def caller() -> None:
        for _ in range(200):
            assert await ask(http, gate) == 200

    await asyncio.gather(*(caller() for _ in range(50)))
    assert len(up.requests) == 10_000
    assert up.opened <= 500
    assert upstream(gate).pool.opened == up.opened


async def test_connections_are_opened_ahead(gateway: StartGateway, provider: StartProvider) -> None:
    """At the start as many as `warmup` says are opened, and nothing is asked over them."""
    up = await provider(answer)
    gate = await gateway(relay(up.url).replace("warmup = 0", "warmup = 3"), ENVIRON)
    await until(lambda: up.opened == 3 and upstream(gate).pool.idle == 3)
    assert up.requests == []


async def test_a_connection_that_died_idle_is_replaced_unseen(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The provider closed its idle connections: the next calls go over fresh ones, and no client notices."""
    dying = False

    async def script(seen: Seen, wire: Wire) -> None:
        nonlocal dying
        if dying:  # too late for this connection: it is taken as if it had been closed while idle
            dying = False
            wire.close()
        else:
            await wire.answer({"choices": []})

    up = await provider(script)
    gate = await gateway(relay(up.url, extra=""), ENVIRON)
    assert await ask(http, gate) == 200
    dying = True
    assert await ask(http, gate) == 200
    assert (len(up.requests), up.opened) == (3, 2)


async def test_a_fresh_connection_that_dies_is_not_tried_again_at_once(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Only a kept connection may have died of age; a fresh one that ends without an answer is a failure."""

    async def hang_up(seen: Seen, wire: Wire) -> None:
        wire.close()

    up = await provider(hang_up)
    gate = await gateway(relay(up.url, extra=""), ENVIRON)
    assert await ask(http, gate) == 502
    assert len(up.requests) == 1


async def never(seen: Seen, wire: Wire) -> None:
    await wire.left(30)


async def cut(seen: Seen, wire: Wire) -> None:
    await wire.begin_stream()
    await wire.chunk(ROLE)
    wire.reset()


@pytest.mark.parametrize("kind", ["timed out", "reset"])
async def test_a_thousand_failed_calls_leave_the_pool_whole(
    kind: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """1,000 calls that time out, or whose stream is reset, give back every slot and connection."""
    up = await provider(never if kind == "timed out" else cut)
    limits = "routing.adaptive_concurrency = false\n"
    more = "[breaker]\nenabled = false\n"
    if kind == "timed out":
        more += '[routing.timeouts]\nfirst_byte = "200ms"\n'
    gate = await gateway(limits + relay(up.url, extra=more), ENVIRON)

    statuses: list[int] = []

    async def caller() -> None:
        # A connection of its own each time: the gateway closes it behind a broken stream.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as own:
            statuses.extend([await ask(own, gate, stream=kind == "reset") for _ in range(10)])

    await asyncio.gather(*(caller() for _ in range(100)))
    pool = upstream(gate).pool
    assert statuses == [504 if kind == "timed out" else 200] * 1000
    await until(lambda: up.open == 0)
    assert (pool.active, pool.waiting, pool.idle) == (0, 0, 0)
    up.script = answer
    assert await ask(http, gate) == 200
    await until(lambda: (pool.active, pool.idle) == (0, 1))


async def test_a_full_pool_is_a_503_with_a_wait(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """More calls than connections: the excess is refused after the checkout timeout, and told when to come again."""
    up = await provider(never)
    small = '[providers.up.pool]\ndefault_size = 1\nmax_overflow = 1\ncheckout_timeout = "50ms"\n'
    gate = await gateway(relay(up.url, extra=small), ENVIRON)
    waiting = [asyncio.ensure_future(ask(http, gate)) for _ in range(2)]
    await until(lambda: len(up.requests) == 2)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert orjson.loads(await response.read())["error"]["code"] == "service_unavailable"
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_bad_key_is_replaced_unseen(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With two keys, one of them refused and then throttled, every call is answered."""

    async def script(seen: Seen, wire: Wire) -> None:
        key = seen.headers["authorization"].removeprefix("Bearer ")
        if key == "bad":
            await wire.answer({"error": {"message": "no"}}, status=401)
        elif key == "slow":
            await wire.answer({"error": {"message": "wait"}}, status=429, headers={"retry-after": "60"})
        else:
            await wire.answer({"choices": []})

    up = await provider(script)
    toml = relay(up.url, extra="").replace('["env:UP_KEY"]', '["env:BAD", "env:SLOW", "env:GOOD"]')
    gate = await gateway(toml, {"BAD": "bad", "SLOW": "slow", "GOOD": "good"})
    assert [await ask(http, gate) for _ in range(6)] == [200] * 6
    keys = [seen.headers["authorization"].removeprefix("Bearer ") for seen in up.requests]
    assert (keys.count("bad"), keys.count("slow"), keys.count("good")) == (1, 1, 6)
