"""The HTTP server below the application: connections, and requests so malformed that no handler sees them.

Rule: aiohttp's own parser and protocol do the work; what differs is only what a broken request is answered with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from runestone.dialects.passage import OPENAI
from runestone.edge.dispatch import Dispatch
from runestone.errors import BadRequest, InternalError, RunestoneError, TooLarge

HTTP_LIMITS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "handler_cancellation": True,  # a client that leaves ends the call it asked for
        "access_log": None,  # the record of a call is the log
        "max_line_size": 16 * 1024,
        "max_field_size": 16 * 1024,
        "auto_decompress": False,  # a small body that inflates to gigabytes is refused, not inflated
        "lingering_time": 2.0,  # seconds for the rest of a body that was refused
    }
)
"""How the server treats connections, wherever it runs: aiohttp's own arguments."""


class Connection(RequestHandler):
    """One client connection. `when_blocked` is called when its socket takes no more, `when_writable` when it does
    again.
    """

    __slots__ = ("when_blocked", "when_writable")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.when_blocked: Callable[[], None] | None = None
        self.when_writable: Callable[[], None] | None = None

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        if self.when_blocked is not None:
            self.when_blocked()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if self.when_writable is not None:
            self.when_writable()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The contract's error object for what the parser refused. Raises ConnectionError when an answer has begun."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        error: RunestoneError = BadRequest("the request is not valid HTTP")
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            error = TooLarge("the request is too large")
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.logger.error("a request failed outside the application", exc_info=exc)
            error = InternalError("internal error")
        response = web.Response(status=error.status, body=OPENAI.error(error, ""), content_type="application/json")
        response.force_close()
        return response


class Server(web.Server):
    """Makes a Connection for every accepted socket."""

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application on a Server. The arguments are aiohttp's own."""

    __slots__ = ()

    async def _make_server(self) -> Server:
        await super()._make_server()
        loop = asyncio.get_running_loop()
        options = {name: value for name, value in self._kwargs.items() if name != "access_log_class"}
        return Server(
            Dispatch(self.app),  # type: ignore[arg-type]  # where aiohttp itself passes the application's own
            request_factory=self.app._make_request,
            loop=loop,
            **options,
        )
