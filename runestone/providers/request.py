"""An aiohttp client request for what a gateway sends: a body that is there as bytes.

aiohttp writes a body in a task of its own, for bodies that are read while they are sent, and looks up defaults for
headers that we always give. Here the head and the body leave together, in the caller's task.
Rule: overrides methods of ClientRequest only; the flows over real sockets in tests/ hold it to what aiohttp expects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientResponse
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict


class BytesRequest(aiohttp.ClientRequest):
    """`data` must be bytes, `headers` complete."""

    _data: bytes

    def update_headers(self, headers: LooseHeaders | None) -> None:
        # The session hands over a copy of its own, so it is filled in place.
        self.headers = cast("CIMultiDict[str]", headers)
        self.headers[hdrs.HOST] = cast("str", self.url.host_port_subcomponent)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Nothing to add."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        self._data = body
        self.headers[hdrs.CONTENT_LENGTH] = str(len(body))

    async def send(self, conn: Connection) -> ClientResponse:
        protocol = cast("ResponseHandler", conn.protocol)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(self._data)
        protocol.start_timeout()
        return self._response(writer)

    def _response(self, writer: AbstractStreamWriter) -> ClientResponse:
        response = self.response_class(
            self.method,
            self.original_url,
            writer=None,  # the body has gone
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=writer,
        )
        self.response = response  # type: ignore[assignment]  # aiohttp declares what it has at first: None
        return response
