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
        self._size = len(body)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """See StreamResponse."""
        head = self._head(request) if self._payload_writer is None else None
        if head is None:
            if self._payload_writer is None:
                self._headers.extend((*self._told, _TYPE))
            return await super().prepare(request)
        writer = request._payload_writer
        self._req = request
        self._keep_alive = True
        self._payload_writer = writer
        writer._headers_buf = head  # type: ignore[attr-defined]  # what write_headers leaves there; sent with the body
        return writer

    def _head(self, request: web.BaseRequest) -> bytes | None:
        """The head as bytes; None where aiohttp must make it."""
        if (
            request.version != HttpVersion11
            or request.method != "POST"
            or not request.keep_alive
            or not isinstance(request, web.Request)
            or self._keep_alive is False
            or self.status != 200
        ):
            return None
        told = [*self._stamp.headers(request), *self._told, *self._headers.items()]
        lines = "".join([f"{name}: {value}\r\n" for name, value in told])
        if not lines.isascii() or lines.count("\n") != len(told):
            return None
        first = f"HTTP/1.1 200 OK\r\nContent-Length: {self._size}\r\nContent-Type: application/json\r\n"
        return f"{first}Date: {rfc822_formatted_time()}\r\n{lines}\r\n".encode()
