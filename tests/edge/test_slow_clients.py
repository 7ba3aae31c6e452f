"""Clients that take their time: each is ended by its limit and leaves nothing, and the others are served meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, repeat
from pathlib import Path

import aiohttp
import pytest
import trustme

import runestone.edge.request
import runestone.edge.server
import runestone.serving.front
from tests.conftest import until
from tests.flows.drill import ANSWER
from tests.flows.reloading import TOP, UNSAVED, Reloadable, chat, provider, reloadable
from tests.flows.talk import Flood
from tests.flows.test_relay_stream import ROLE, chunk
from tests.provider import FakeProvider, Script, Seen, Wire

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
SMALL = 4096
"""Bytes that the system takes in for a client that does not read."""


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


@asynccontextmanager
async def impatient(
    folder: Path, script: Script = answer, **limits: str
) -> AsyncIterator[tuple[Reloadable, FakeProvider]]:
    """A gateway with these limits of `[server]`."""
    lines = "".join(f"server.{name} = {value}\n" for name, value in limits.items())
    async with FakeProvider(script) as up, reloadable(lines + TOP + provider("up", up.url) + UNSAVED, folder) as gate:
        yield gate, up
        pool = gate.upstream("up").pool
        await until(lambda: not (pool.active or gate.app.running.count or gate.front.connections()[0]))


@contextmanager
def connected(gate: Reloadable, buffer: int = SMALL) -> Iterator[socket.socket]:
    """A bare connection that takes in next to nothing unless it reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(("127.0.0.1", int(gate.url.rpartition(":")[2])))
        sock.setblocking(False)
        yield sock


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def is_ended(sock: socket.socket, seconds: float = 5.0) -> bytes:
    """What still came, once the connection is over."""
    said = b""
    async with asyncio.timeout(seconds):
        try:
            while part := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
                said += part
        except ConnectionError:
            pass
    return said


async def drip(sock: socket.socket, data: Iterator[int], seconds: float = 5.0) -> None:
    """A byte now and then, until the other side has had enough."""
    async with asyncio.timeout(seconds):
        try:
            for byte in data:
                await send(sock, bytes([byte]))
                await asyncio.sleep(0.002)
        except ConnectionError:
            return
    raise AssertionError("it took all of that")


LORIS: dict[str, tuple[bytes, Callable[[], Iterator[int]] | None]] = {
    "nothing": (b"", None),
    "half a head": (HEAD[:50], None),
    "a head without its end": (HEAD, None),
    "a head byte by byte": (b"", lambda: chain(HEAD, repeat(ord("x")))),
    "line breaks": (b"", lambda: repeat(ord("\n"))),
    "header after header": (HEAD, lambda: chain.from_iterable(b"X-%d: y\r\n" % number for number in range(100))),
}
"""What comes at once, and what comes byte by byte."""


@pytest.mark.parametrize("loris", LORIS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
async def test_a_head_that_does_not_come(loris: str, first: bool, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The first head of a connection has `head_timeout`, a later one `keep_alive`, however it is dripped."""
    at_once, slowly = LORIS[loris]
    limits = {"head_timeout": '"60ms"', "keep_alive": '"60s"'}
    if not first:
        limits = {"head_timeout": '"60s"', "keep_alive": '"60ms"'}
    async with impatient(tmp_path, **limits) as (gate, up):
        with connected(gate) as sock:
            if not first:
                await send(sock, HEALTH)
                assert await asyncio.get_running_loop().sock_recv(sock, SMALL)
            await send(sock, at_once)
            if slowly is not None:
                dripping = asyncio.ensure_future(drip(sock, slowly()))
                assert (await chat(http, gate))[0] == 200
                await dripping
            else:
                assert (await chat(http, gate))[0] == 200
                await is_ended(sock)
            await http.close()
        await until(lambda: gate.front.connections()[0] == 0)
        assert len(up.requests) == 1


async def test_who_is_served_is_not_ended(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The limits of heads are not those of answers: a first call that takes longer than all of them is answered."""
    go = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await go.wait()
        await wire.answer(ANSWER)

    async with impatient(tmp_path, script, head_timeout='"50ms"', keep_alive='"50ms"', stall='"50ms"') as (gate, up):
        asking = asyncio.ensure_future(chat(http, gate))
        await until(lambda: len(up.requests) == 1)
        for _ in range(3):
            with connected(gate) as sock:
                await is_ended(sock)
        go.set()
        assert (await asking)[0] == 200
        await http.close()


@pytest.mark.parametrize("how", ["length", "chunks"])
async def test_a_body_that_does_not_come(
    how: str, http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte, or chunk by chunk: 400, and the connection is over."""
    monkeypatch.setattr(runestone.edge.request, "BODY_DEADLINE", 0.1)
    monkeypatch.setattr(
        runestone.edge.server, "HTTP_LIMITS", {**runestone.edge.server.HTTP_LIMITS, "lingering_time": 0.1}
    )
    async with impatient(tmp_path) as (gate, up):
        with connected(gate) as sock:
            if how == "length":
                await send(sock, HEAD + b"Content-Length: 100000\r\n\r\n")
                slowly = repeat(ord("x"))
            else:
                await send(sock, HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
                slowly = chain.from_iterable(repeat(b"1\r\nx\r\n"))
            dripping = asyncio.ensure_future(drip(sock, slowly, 10))
            assert (await chat(http, gate))[0] == 200
            said = await asyncio.get_running_loop().sock_recv(sock, SMALL)
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b"did not arrive within" in said
            await dripping
        await http.close()
        assert len(up.requests) == 1


async def whole(seen: Seen, wire: Wire) -> None:
    await wire.answer({**ANSWER, "padding": "x" * 8_000_000} if b"long" in seen.body else ANSWER)


class Endless:
    """A stream that goes on as long as somebody takes it."""

    def __init__(self) -> None:
        self.ends = 0

    async def script(self, seen: Seen, wire: Wire) -> None:
        if not seen.json.get("stream"):
            await wire.answer(ANSWER)
            return
        try:
            await wire.begin_stream()
            await wire.chunk(ROLE)
            while True:
                await wire.chunk(chunk({"content": "x" * 32_000}))
        finally:
            self.ends += 1


LONG = b'{"model":"m","messages":[{"role":"user","content":"long"}]}'


@pytest.mark.parametrize("reads", [0, 100], ids=["never", "next to nothing"])
@pytest.mark.parametrize("what", ["a large answer", "a stream", "many answers"])
async def test_a_client_that_does_not_read(
    what: str, reads: int, http: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cut after `stall`, and so is the provider's call; what waited for it is let go of."""
    caplog.set_level("INFO")
    endless = Endless()
    script = endless.script if what == "a stream" else whole
    async with impatient(tmp_path, script, stall='"100ms"') as (gate, up):
        with connected(gate) as sock:
            body = STREAM if what == "a stream" else LONG
            sent = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
            if what == "many answers":
                sent = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200
            await send(sock, sent)
            await until(lambda: gate.front.connections()[0] == 1)
            reading = asyncio.ensure_future(slow_reader(sock, reads))
            assert (await chat(http, gate))[0] == 200
            await http.close()
            await until(lambda: gate.front.connections()[0] == 0)
            reading.cancel()
            await asyncio.wait((reading,))
        assert "a client that does not read was cut" in [record.getMessage() for record in caplog.records]
        await until(lambda: what != "a stream" or (endless.ends, up.open) == (1, 1))


async def slow_reader(sock: socket.socket, size: int, pause: float = 0.01) -> int:
    """Reads `size` bytes now and then; how many it were."""
    total = 0
    while True:
        if size:
            try:
                part = await asyncio.get_running_loop().sock_recv(sock, size)
            except ConnectionError:
                return total
            if not part:
                return total
            total += len(part)
        await asyncio.sleep(pause)


async def test_a_client_that_reads_slowly_is_not_cut(tmp_path: Path) -> None:
    """Who reads more than nearly nothing in every `stall` may take many of them, and gets it all."""
    flood = Flood(3_000_000)
    async with impatient(tmp_path, flood.script, stall='"100ms"') as (gate, _):
        with connected(gate, 64 * 1024) as sock:
            await send(sock, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(STREAM) + STREAM)
            before = asyncio.get_running_loop().time()
            async with asyncio.timeout(20):
                total = await slow_reader(sock, 64 * 1024)  # half a megabyte in each stall, not more
            assert total > len(b"".join(flood.blocks))
            assert asyncio.get_running_loop().time() - before > 0.3


async def test_too_many_connections(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """One more than may be is closed at once, and counted; those that are there are served; when one goes there is
    room.
    """
    async with impatient(tmp_path, max_connections="3") as (gate, _):
        assert (await chat(http, gate))[0] == 200
        with connected(gate), connected(gate):
            await until(lambda: gate.front.connections()[0] == 3)
            for _ in range(5):
                with connected(gate) as sock:
                    assert await is_ended(sock) == b""
            assert (await chat(http, gate))[0] == 200
            async with http.get(gate.url + "/metrics") as response:
                lines = (await response.text()).splitlines()
            assert "runestone_connections_refused_total 5.0" in lines
            assert "runestone_connections 3.0" in lines
        await until(lambda: gate.front.connections()[0] == 1)
        with connected(gate) as sock:
            await send(sock, HEALTH)
            assert (await asyncio.get_running_loop().sock_recv(sock, SMALL)).startswith(b"HTTP/1.1 200 ")
        await http.close()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_a_handshake_that_does_not_come(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TLS client that does not shake hands is ended too, and others shake hands meanwhile."""
    monkeypatch.setattr(runestone.serving.front, "HANDSHAKE", 0.2)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with impatient(tmp_path, tls_cert='"server.pem"', tls_key='"server.pem"') as (gate, _):
        with connected(gate) as sock:
            await send(sock, said)
            async with aiohttp.ClientSession() as http, http.get(gate.url + "/health", ssl=context) as response:
                assert response.status == 200
            await is_ended(sock)
