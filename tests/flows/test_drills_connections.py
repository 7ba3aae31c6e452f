"""Drills of connections: ended while they are idle, never accepted, never read from, more than there are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.drill import (
    ANSWER,
    ENVIRON,
    alone,
    answer,
    ask,
    ask_at_once,
    at_rest,
    beside,
    client,
    faults,
    scrape,
    upstream,
)
from tests.flows.misdeeds import deadline
from tests.provider import Seen, Wire

AS_JSON = {"Content-Type": "application/json"}
LARGE = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 16_000_000}]})
TOO_LARGE = b'{"error":{"message":"too large","type":"invalid_request_error"}}'


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(client())


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_connections_that_end_while_idle_are_not_noticed(
    how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A provider that ends every connection behind its answer: each call gets a fresh one, none fails or is retried,
    and a connection that is gone is not counted as kept.
    """

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer(ANSWER)
        (wire.close if how == "fin" else wire.reset)()

    up = await provider(script)
    gate = await gateway(alone(up.url), ENVIRON)
    for _ in range(10):
        assert (await ask(http, gate)).is_whole
    assert all(heard.is_whole for heard in await ask_at_once(http, gate, 10, stream=False))
    metrics = await scrape(http, gate)
    assert (metrics.answered, metrics.errors, metrics.extra) == ({("bad", "200"): 20}, {}, (0, 0))
    assert metrics.total("pool_acquired_total") == up.opened == 20
    assert metrics.breaker("bad/x") == 0.0
    await until(lambda: up.open == 0)
    await until(lambda: upstream(gate, "bad").pool.idle == 0, seconds=1.0)
    await at_rest(http, gate, "bad", up)


class Forgetful:
    """A provider that answers when `many` calls have come over as many connections, and from `forget` on ends those
    connections when something is asked over them.
    """

    def __init__(self, many: int, how: str) -> None:
        self._many, self._how = many, how
        self._known: set[asyncio.StreamWriter] = set()
        self._all = asyncio.Event()
        self._forgotten: set[asyncio.StreamWriter] = set()

    def forget(self) -> None:
        self._forgotten = set(self._known)

    async def __call__(self, seen: Seen, wire: Wire) -> None:
        if wire.writer in self._forgotten:
            (wire.close if self._how == "fin" else wire.reset)()
            return
        self._known.add(wire.writer)
        if len(self._known) >= self._many:
            self._all.set()
        await self._all.wait()
        await answer(seen, wire)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_kept_connections_that_end_under_the_next_call_are_not_noticed(
    stream: bool, how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Twenty kept connections end just as twenty calls are sent over them: each call goes over a fresh one, unseen,
    and neither a retry nor a failure is counted.
    """
    forgetful = Forgetful(20, how)
    up = await provider(forgetful)
    gate = await gateway(alone(up.url), ENVIRON)
    assert all(heard.is_whole for heard in await ask_at_once(http, gate, 20, stream=stream))
    assert (await at_rest(http, gate, "bad", up))["idle"] == 20
    forgetful.forget()
    assert all(heard.is_whole for heard in await ask_at_once(http, gate, 20, stream=stream))
    assert (len(up.requests), up.opened) == (60, 40)
    pool = await at_rest(http, gate, "bad", up)
    assert (pool["acquired"], pool["opened"], pool["errors"]) == (40, 40, 0)
    metrics = await scrape(http, gate)
    assert (metrics.answered, metrics.errors, metrics.extra) == ({("bad", "200"): 40}, {}, (0, 0))


async def test_one_dead_connection_is_enough_to_know(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """When one of twenty kept connections turns out to be dead, the other nineteen are not tried one by one."""
    forgetful = Forgetful(20, "fin")
    up = await provider(forgetful)
    gate = await gateway(alone(up.url), ENVIRON)
    assert all(heard.is_whole for heard in await ask_at_once(http, gate, 20, stream=False))
    await at_rest(http, gate, "bad", up)
    forgetful.forget()
    for _ in range(5):
        assert (await ask(http, gate)).is_whole
    assert (len(up.requests), up.opened) == (20 + 1 + 5, 20 + 1)
    assert (await at_rest(http, gate, "bad", up))["idle"] == 1


@asynccontextmanager
async def deaf() -> AsyncIterator[tuple[str, socket.socket]]:
    """A server whose system accepts connections and whose process never does: (its URL, its socket)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", listener


async def read_to_the_end(listener: socket.socket, connections: int) -> list[int]:
    """Bytes that had been sent over each of the connections, once the other side has ended them all."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    sizes = []
    for _ in range(connections):
        async with asyncio.timeout(5):
            accepted, _ = await loop.sock_accept(listener)
            with accepted:
                size = 0
                try:
                    while data := await loop.sock_recv(accepted, 1 << 20):
                        size += len(data)
                except ConnectionError:
                    pass
        sizes.append(size)
    return sizes


async def test_a_provider_that_accepts_and_never_answers_is_a_504(
    gateway: StartGateway, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Connected, but nobody is there: a 504 that says first_byte; after five the provider rests; every connection was
    ended.
    """
    async with deaf() as (url, listener):
        gate = await gateway(alone(url, more=deadline("first_byte", 0.2)), ENVIRON)
        for heard in await ask_at_once(http, gate, 5, stream=False):
            assert (heard.status, heard.error["code"]) == (504, "timeout")
            assert "timeout (first_byte)" in heard.error["message"]
        assert (await ask(http, gate)).status == 503
        metrics = await scrape(http, gate)
        assert metrics.answered == {("bad", "504"): 5, ("bad", "503"): 1}
        assert metrics.errors == {("provider", "timeout"): 5, ("gateway", "service_unavailable"): 1}
        assert metrics.breaker("bad/x") == 2.0
        pool = upstream(gate, "bad").pool
        assert (pool.active, pool.waiting, pool.idle, pool.opened) == (0, 0, 0, 5)
        assert all(await read_to_the_end(listener, 5))
    assert faults(caplog) == []


async def test_a_provider_that_accepts_and_never_answers_is_not_noticed(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Beside another target every call is answered, and from the sixth on nobody waits for it."""
    good = await provider(answer)
    async with deaf() as (url, listener):
        gate = await gateway(beside(url, good.url, more=deadline("first_byte", 0.4)), ENVIRON)
        for _ in range(2):
            assert all(heard.is_whole for heard in await ask_at_once(http, gate, 5, stream=True))
        metrics = await scrape(http, gate)
        assert (metrics.answered, metrics.errors, metrics.extra) == ({("good", "200"): 10}, {}, (0, 10))
        assert metrics.breaker("bad/x") == 2.0
        assert metrics.total("pool_acquired_total", provider="bad") == 5
        assert metrics.total("pool_connections", provider="bad") == 0
        assert all(await read_to_the_end(listener, 5))
        assert (await at_rest(http, gate, "good", good))["acquired"] == 10


async def test_a_request_that_nobody_reads_is_given_up(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A body larger than the sockets' buffers, and a provider that does not read: a 504, and the connection is ended
    with what had not been sent, instead of waiting for the provider for ever.
    """
    async with deaf() as (url, listener):
        gate = await gateway(alone(url, more=deadline("first_byte", 0.2)), ENVIRON)
        async with http.post(gate.url + "/v1/chat/completions", data=BytesIO(LARGE), headers=AS_JSON) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (504, "timeout")
        pool = upstream(gate, "bad").pool
        assert (pool.active, pool.waiting, pool.idle) == (0, 0, 0)
        assert (await scrape(http, gate)).errors == {("provider", "timeout"): 1}
        (size,) = await read_to_the_end(listener, 1)
        assert 0 < size < len(LARGE)


async def test_a_refusal_may_come_before_the_request_was_read(
    gateway: StartGateway, stack: AsyncExitStack, http: aiohttp.ClientSession
) -> None:
    """A provider that refuses a large body by its head alone is heard at once, and the client reads its own words; it
    is no failure of the provider, and the connection over which half a request went is not kept.
    """
    ended = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(TOO_LARGE) + TOO_LARGE)
        writer.transport.pause_reading()  # type: ignore[attr-defined] # it never reads the body
        await ended.wait()
        writer.transport.abort()

    server = await stack.enter_async_context(await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1000))
    stack.callback(ended.set)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gate = await gateway(alone(url, more=deadline("first_byte", 1.0)), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", data=BytesIO(LARGE), headers=AS_JSON) as response:
        assert (response.status, await response.read()) == (413, TOO_LARGE)
    pool = upstream(gate, "bad").pool
    assert (pool.active, pool.waiting, pool.idle) == (0, 0, 0)
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", "413"): 1}
    assert metrics.errors == {("provider", "invalid_request_error"): 1}
    assert metrics.breaker("bad/x") == 0.0


async def test_more_calls_than_connections_wait_and_are_told(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Behind a provider that hangs, calls beyond its connections are 503s that say when to come again; that is not
    counted against the provider, and the pool is empty when the hung calls have timed out.
    """
    release = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await release.wait()
        await answer(seen, wire)

    up = await provider(script)
    small = '[providers.bad.pool]\ndefault_size = 2\nmax_overflow = 1\ncheckout_timeout = "100ms"\nmax_waiting = 4\n'
    gate = await gateway(alone(up.url, more=small), ENVIRON)
    running = asyncio.gather(*(ask(http, gate) for _ in range(3)))
    await until(lambda: len(up.requests) == 3)
    for heard in await ask_at_once(http, gate, 6, stream=False):
        assert (heard.status, heard.error["code"], heard.headers["Retry-After"]) == (503, "service_unavailable", "1")
    release.set()
    assert all(heard.is_whole for heard in await running)
    pool = await at_rest(http, gate, "bad", up)
    assert (pool["acquired"], pool["refused"], pool["opened"], pool["errors"]) == (3, 6, 3, 0)
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", "200"): 3, ("bad", "503"): 6}
    assert metrics.errors == {("gateway", "service_unavailable"): 6}
    assert metrics.breaker("bad/x") == 0.0
