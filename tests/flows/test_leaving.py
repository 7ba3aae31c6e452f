"""Clients that leave: the provider's call ends with them, and the pool is as it was before."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import orjson
import pytest

from runestone.providers.http import HttpProvider
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_relay_stream import ROLE
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire

BODY = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
STREAM = orjson.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})


async def never(seen: Seen, wire: Wire) -> None:
    """Takes the call; for a stream says the first event; then waits for the gateway to go."""
    if seen.json.get("stream"):
        await wire.begin_stream()
        await wire.chunk(ROLE)
    await wire.left(30)
    wire.close()


def in_use(gate: Gateway) -> tuple[int, int]:
    """(connections in use, callers waiting for one) of the provider's pool."""
    upstream = gate.app.upstreams["up"]
    assert isinstance(upstream, HttpProvider)
    assert upstream.pool.active >= len(upstream.pool.connector._acquired)
    return upstream.pool.active, upstream.pool.waiting


async def connect(gate: Gateway, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    writer.write(head % len(body) + body)
    return reader, writer


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["json", "stream"])
async def test_a_client_that_leaves_ends_the_providers_call(
    body: bytes, how: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """Whether waiting for an answer or in the middle of a stream, the provider sees the end within a second."""
    up = await provider(never)
    gate = await gateway(relay(up.url), ENVIRON)
    reader, writer = await connect(gate, body)
    await until(lambda: len(up.requests) == 1)
    if body is STREAM:
        await reader.readuntil(ROLE)
    if how == "reset":
        writer.transport.abort()
    else:
        writer.close()
    await until(lambda: up.open == 0, seconds=1.0)
    assert in_use(gate) == (0, 0)


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["json", "stream"])
async def test_a_thousand_aborted_calls_leave_the_pool_as_it_was(
    body: bytes, gateway: StartGateway, provider: StartProvider
) -> None:
    """1,000 calls begun and abandoned, 100 at a time, give every connection and every slot back."""
    up = await provider(never)
    gate = await gateway(relay(up.url), ENVIRON)

    async def abandon() -> None:
        before = len(up.requests)
        reader, writer = await connect(gate, body)
        if body is STREAM:
            await reader.readuntil(ROLE)
        else:
            await until(lambda: len(up.requests) > before)
        writer.transport.abort()

    for _ in range(10):
        await asyncio.gather(*(abandon() for _ in range(100)))
    await until(lambda: up.open == 0 and in_use(gate) == (0, 0))
    assert len(up.requests) == 1000
    await assert_answers(up, gate)


async def assert_answers(up: FakeProvider, gate: Gateway) -> None:
    """The gateway is well: the next call is answered."""

    async def answer(seen: Seen, wire: Wire) -> None:
        await wire.answer({"choices": []})

    up.script = answer
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            gate.url + "/v1/chat/completions", data=BODY, headers={"Content-Type": "application/json"}
        ) as response,
    ):
        assert response.status == 200


async def test_a_fin_counts_as_leaving(gateway: StartGateway, provider: StartProvider) -> None:
    """A client that half-closes is taken for one that has left (TCP cannot tell them apart; docs/operations.md)."""
    up = await provider(never)
    gate = await gateway(relay(up.url), ENVIRON)
    _, writer = await connect(gate, BODY)
    await until(lambda: len(up.requests) == 1)
    writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
    await until(lambda: up.open == 0, seconds=1.0)
    writer.close()


async def test_a_client_that_leaves_is_recorded_as_499(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The metrics tell a client's leaving from a provider's failure."""
    up = await provider(never)
    gate = await gateway(relay(up.url), ENVIRON)
    _, writer = await connect(gate, BODY)
    await until(lambda: len(up.requests) == 1)
    writer.transport.abort()
    await until(lambda: up.open == 0)
    async with http.get(gate.url + "/metrics") as response:
        text = await response.text()
    assert (
        'runestone_requests_total{cache="none",endpoint="chat/completions",model="m",provider="up",status="499"} 1.0'
        in text
    )
    assert 'runestone_errors_total{code="client_closed",source="client"} 1.0' in text
