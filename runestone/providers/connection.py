"""aiohttp's client connection, with what it leaves open, and the connector that makes them.

Rule: only what a gateway cannot do without, each with its reason; tests/flows/test_drills_*.py fail without it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace


class Connection(ResponseHandler):
    """One connection to a provider. `answered`: a byte has come since the last request was begun."""

    answered = False

    def set_response_params(self, **params: Any) -> None:
        """A request begins."""
        self.answered = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        self.answered = True
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Tells also who reads a body, when what comes is not HTTP any more: aiohttp ends the connection then, and
        leaves the reader of the body waiting until its deadline.
        """
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the body is not valid HTTP"))

    @property
    def should_close(self) -> bool:
        """Also of one over which a request has not gone out whole: the next one must not follow it."""
        return super().should_close or self._is_unsent

    def close(self) -> None:
        """Ends it; what has not gone out yet is dropped, where aiohttp would send it to its end."""
        if self._is_unsent:
            self.abort()
        else:
            super().close()

    @property
    def _is_unsent(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector, making our connections and counting them."""

    opened = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(Connection, loop=self._loop)  # type: ignore[assignment]  # a kind of what it is

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        connection = await super()._create_connection(req, traces, timeout)
        self.opened += 1
        return connection
