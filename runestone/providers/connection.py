"""aiohttp's client connection, with what it leaves open, and the connector that makes them.

Rule: only what a gateway cannot do without, each with its reason; tests/flows/test_drills_*.py fail without it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.tracing import Trace


class ClientProtocol(ResponseHandler):
    """One connection to a provider. `answered`: a byte has come since the last request was begun (exchange.py)."""

    answered = False

    def data_received(self, data: bytes) -> None:
        self.answered = True
        ResponseHandler.data_received(self, data)  # once a read: `super()` costs more than the work

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Tells also who reads a body, when what comes is not HTTP any more: aiohttp ends the connection then, and
        leaves the reader of the body waiting until its deadline.
        """
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the body is not valid HTTP"))

    @property
    def is_unsent(self) -> bool:
        """Whether a request has not gone out whole."""
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Ends it; what has not gone out yet is dropped, where aiohttp would send it to its end."""
        if self.is_unsent:
            self.abort()
        else:
            super().close()


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector, making our connections and counting them."""

    opened = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(ClientProtocol, loop=self._loop)  # type: ignore[assignment]  # a kind of what it is

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        connection = await super()._create_connection(req, traces, timeout)
        self.opened += 1
        return connection

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        # Answered before the request had gone out whole: nothing may follow over this connection.
        is_unsent = cast("ClientProtocol", protocol).is_unsent
        super()._release(key, protocol, should_close=should_close or is_unsent)
