"""One request and the head of its answer, over the pool of a ClientSession.

`ClientSession.request` serves browsers' needs (cookies, redirects, proxies, bodies that are read while they are sent):
a fifth of what a relayed call costs. A gateway has a body that is there as bytes and headers that are complete, so this
takes the same steps, in the same order, without the rest: a connection from the session's connector, head and body in
one write, the head of the answer.
Rule: uses what aiohttp calls itself, and no more of it; the flows over real sockets in tests/ hold this to what
aiohttp expects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientResponse
from aiohttp.connector import BaseConnector, Connection
from aiohttp.http import StreamWriter
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict

from runestone.providers.connection import ClientProtocol

MAX_HEADER = 32 * 1024
"""Bytes of one header line of an answer."""
MAX_HEADERS = 256
READ_BUFFER = 64 * 1024
"""Bytes aiohttp buffers of an answer before it stops reading from the provider."""


def is_spoiled(connection: Connection) -> bool:
    """Whether something came over a kept connection that nobody had asked for.

    Such bytes would be taken for the answer to the next request, and every later answer would go to the wrong caller.
    """
    return bool(cast("ResponseHandler", connection.protocol).should_close)


async def replace(
    connection: Connection,
    connector: BaseConnector,
    request: BytesRequest,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's word, for connecting alone
) -> Connection:
    """Another connection, instead of a spoiled one, which is ended. Raises aiohttp.ClientError, OSError."""
    while is_spoiled(connection):
        connection.close()
        connection = await connector.connect(request, traces=[], timeout=timeout)
    return connection


async def exchange(request: BytesRequest, connection: Connection) -> ClientResponse:
    """Sends `request` and reads the head of the answer; the connection belongs to the response, or is closed.

    Raises aiohttp.ClientError, OSError.
    """
    protocol = cast("ClientProtocol", connection.protocol)
    protocol.answered = False
    try:
        protocol.set_response_params(
            timer=request._timer,
            read_until_eof=True,
            read_bufsize=READ_BUFFER,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )
        response = await request.send(connection)
        await response.start(connection)
    except BaseException:
        if request.response is not None:
            request.response.close()
        connection.close()
        raise
    return response


class _Writer(StreamWriter):
    """Does not wait until a body has gone out: it is in memory anyway, and the answer may come before (a 413)."""

    async def drain(self) -> None:
        """Nothing to wait for."""


class BytesRequest(aiohttp.ClientRequest):
    """A request whose `data` is bytes and whose `headers` are complete."""

    _data: bytes

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.headers = cast("CIMultiDict[str]", headers)
        self.headers[hdrs.HOST] = cast("str", self.url.host_port_subcomponent)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Nothing to add."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        self._data = body
        self.headers[hdrs.CONTENT_LENGTH] = str(len(body))

    async def send(self, conn: Connection) -> ClientResponse:
        writer = _Writer(cast("ResponseHandler", conn.protocol), self.loop)
        await writer.write_headers(f"POST {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(self._data)
        response = ClientResponse(
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
        self.response = response
        return response
