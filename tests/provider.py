"""A provider on a raw socket: what goes over the wire is what the test wrote, byte for byte and cut for cut."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import orjson

Script = Callable[["Seen", "Wire"], Awaitable[None]]


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Wire:
    """The provider's side of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, data: bytes) -> None:
        """These bytes, in a TCP segment of their own as far as the system allows."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes | dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """A whole answer with content-length; the connection stays open."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        head = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        await self.send(_head(status, head) + data)

    async def begin_stream(self, headers: dict[str, str] | None = None) -> None:
        """The head of a chunked event stream."""
        await self.send(
            _head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **(headers or {})})
        )

    async def chunk(self, data: bytes) -> None:
        """One chunk of the chunked encoding."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        """The last chunk."""
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """FIN."""
        self.writer.close()

    def reset(self) -> None:
        """RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def left(self, seconds: float = 5.0) -> None:
        """Waits until the gateway has ended the connection."""
        async with asyncio.timeout(seconds):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass


class FakeProvider:
    """Answers every request by a script. `open` counts live connections, `opened` all there were."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.script = script
        self.requests: list[Seen] = []
        self.open = 0
        self.opened = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeProvider:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 24, backlog=1024, ssl=self._tls
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        """Stops listening and resets every connection, in the middle of whatever it was doing."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.open += 1
        self.opened += 1
        try:
            while seen := await _read_request(reader):
                self.requests.append(seen)
                wire = Wire(reader, writer)
                await self.script(seen, wire)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
