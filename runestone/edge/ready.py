"""A whole answer, whose head is put together in one go.

aiohttp makes a head for every need: a multidict, defaults, signals, a serialiser. A relayed or kept answer needs none
of that in the usual case (HTTP/1.1, kept alive): its lines are known, and written as they are. Everything else takes
aiohttp's own way, with the same headers.
Rule: values hold no line breaks; where one does, aiohttp's own way refuses it.
"""

from __future__ import annotations

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time

from runestone.core.reply import Headers
from runestone.edge.stamp import Stamp

_TYPE = ("Content-Type", "application/json")


class Ready(web.Response):
    """`body` as JSON with `told` headers, and those of every answer (`stamp`); a middleware may add others."""

    def __init__(self, body: bytes, told: Headers, stamp: Stamp) -> None:
        super().__init__(body=body)
        self._told = told
        self._stamp = stamp
        self._ready: bytes | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """See StreamResponse."""
        whole = self._whole(request) if self._payload_writer is None else None
        if whole is None:
            if self._payload_writer is None:
                self._headers.extend((*self._told, _TYPE))
            return await super().prepare(request)
        writer = request._payload_writer
        self._req = request
        self._keep_alive = True
        self._payload_writer = writer
        self._ready = whole
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """See StreamResponse: head and body in one write."""
        whole, writer = self._ready, self._payload_writer
        if whole is None or writer is None:
            return await super().write_eof(data)
        self._ready = None
        writer._write(whole)  # type: ignore[attr-defined]  # as its own write does, without the choices
        self._eof_sent = True
        self._req = self._payload_writer = None
        await writer.drain()
        return None

    def _whole(self, request: web.BaseRequest) -> bytes | None:
        """Head and body as bytes; None where aiohttp must make the head."""
        if (
            request.version != HttpVersion11
            or request.method != "POST"
            or not request.keep_alive
            or not isinstance(request, web.Request)
            or self._keep_alive is False
            or self.status != 200
            or type(self._body) is not bytes
        ):
            return None
        told = [*self._stamp.headers(request), *self._told, *self._headers.items()]
        lines = "".join([f"{name}: {value}\r\n" for name, value in told])
        if not lines.isascii() or lines.count("\n") != len(told):
            return None
        first = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self._body)}\r\nContent-Type: application/json\r\n"
        return f"{first}Date: {rfc822_formatted_time()}\r\n{lines}\r\n".encode() + self._body
