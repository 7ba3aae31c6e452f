"""A visitor's connections: kept alive from call to call, or one alone on which anything is said, half read, and left.

Rule: nothing is guessed. An answer is whole (bench/reader.py finds its end) or an error; whoever opens a connection
closes it, however the visit ends. Deadlines are the visit's own.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Self

from bench import wire
from bench.reader import Reader

_KEPT = 2.0  # seconds an idle connection is used again: less than the gateway keeps it
_SMALL = 4096  # bytes in the buffers of one who reads slowly
_LINGER = struct.pack("ii", 1, 0)  # a close is a reset
_NO_BODY = (204, 304)


class Wrong(Exception):
    """What came is not what should have come."""


def request(
    method: str, path: str, port: int, body: bytes = b"", *, key: str = wire.KEY, headers: tuple[str, ...] = ()
) -> bytes:
    """A request as wire.py makes them, with another method, key, or more headers (`"name: value"`)."""
    text = wire.request(path, port, body)
    if method != "POST":
        text = text.replace(b"POST", method.encode(), 1)
    if key != wire.KEY:
        text = text.replace(wire.KEY.encode(), key.encode(), 1)
    if headers:
        line, end, rest = text.partition(b"\r\n")
        text = b"".join((line, end, *(f"{header}\r\n".encode() for header in headers), rest))
    return text


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """ "" where there is none."""
        found = re.search(rb"(?i)\r\n%b: *([^\r]*)" % name.encode(), self.head)
        return found[1].decode() if found else ""


class Line:
    """One connection. `begin` reads the head of an answer, `more` its body as it comes, `answer` all of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._answer = Reader()
        self._is_over = True
        self.idle_since = 0.0
        self.head = b""

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    def say(self, data: bytes) -> Self:
        self.writer.write(data)
        return self

    async def begin(self) -> Self:
        """Raises EOFError when no head comes."""
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        self._answer.reset(keep=True)
        # What is not HTTP/1.1 is refused in HTTP/1.0, and framed the same.
        framed = self.head.replace(b"HTTP/1.0 ", b"HTTP/1.1 ", 1)
        self._is_over = self.status in _NO_BODY or self._answer.feed(framed)
        return self

    async def more(self, most: int = 65536) -> bytes:
        """What has come of the body since, b"" at its end. Raises ConnectionError when it ends before that."""
        kept = self._answer.kept
        assert kept is not None
        while not kept and not self._is_over:
            data = await self.reader.read(most)
            if not data:
                raise ConnectionResetError("an answer ended in its midst")
            self._is_over = self._answer.feed(data)
        piece = b"".join(kept)
        kept.clear()
        return piece

    async def answer(self) -> Answer:
        pieces = []
        while piece := await self.more():
            pieces.append(piece)
        return Answer(self.status, self.head, b"".join(pieces))

    def leave(self, *, rudely: bool = False) -> None:
        """Closes it; rudely by a reset."""
        handle = self.writer.get_extra_info("socket")
        if rudely and handle is not None and not self.writer.is_closing():
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.writer.transport.abort()

    def is_fresh(self) -> bool:
        return not self.reader.at_eof() and perf_counter() - self.idle_since < _KEPT


class Client:
    """All visitors' connections to one port on loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[Line] = []

    async def call(self, text: bytes) -> Answer:
        """One request on a connection that is there, or on a new one. A call that is cancelled leaves."""
        line = None
        while self._idle and line is None:
            line = self._idle.pop()
            if not line.is_fresh():
                line.leave()
                line = None
        if line is None:
            line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        is_of_use = False
        try:
            answer = await (await line.say(text).begin()).answer()
            is_of_use = answer.header("connection").lower() != "close"
        finally:
            if not is_of_use:
                line.leave()
        line.idle_since = perf_counter()
        if is_of_use:
            self._idle.append(line)
        return answer

    @asynccontextmanager
    async def line(self, *, slow: bool = False) -> AsyncIterator[Line]:
        """A connection of one's own; slow takes a few KB at a time."""
        handle = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        line = None
        try:
            handle.setblocking(False)
            if slow:
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
            await asyncio.get_running_loop().sock_connect(handle, ("127.0.0.1", self.port))
            line = Line(*await asyncio.open_connection(sock=handle, limit=_SMALL if slow else 65536))
            yield line
        finally:
            if line is None:
                handle.close()
            else:
                line.leave()

    def close(self) -> None:
        for line in self._idle:
            line.leave()
        self._idle.clear()
