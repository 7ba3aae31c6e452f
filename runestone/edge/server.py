"""The HTTP server below the application: connections, what they may cost, and requests so malformed that no handler
sees them.

    no whole head within `head_timeout` of the connection   closed
    nothing for `keep_alive` between two requests           closed, half a head or not
    a body                                                  edge/request.py
    reads less than LEAST of what waits for it in `stall`   ended: the answer too
    `max_connections` are open                              closed at once

Rule: aiohttp's own parser and protocol do the work; what differs is what a slow or broken client gets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
        "access_log": None,  # the record of a call is the log
        "max_line_size": 16 * 1024,
        "max_field_size": 16 * 1024,
        "auto_decompress": False,  # a small body that inflates to gigabytes is refused, not inflated
        "lingering_time": 2.0,  # seconds for the rest of a body that was refused
    }
)
"""How the server treats connections, wherever it runs: aiohttp's own arguments."""

LEAST = 32 * 1024
"""Bytes: who reads fewer in `stall` does not read."""

_log = logging.getLogger("runestone.edge")


@dataclass(slots=True, kw_only=True)
class Patience:
    """Seconds, and connections at a time. May be changed while the server runs."""

    head: float = 10.0
    stall: float = 60.0
    keep_alive: float = 75.0
    connections: int = 20_000


class Connection(RequestHandler):
    """One client connection. `when_blocked` is called when its socket takes no more, `when_writable` when it does
    again.
    """

    __slots__ = ("_patience", "_stalled", "when_blocked", "when_writable")

    def __init__(self, manager: Server, patience: Patience, **options: Any) -> None:
        super().__init__(manager, keepalive_timeout=patience.keep_alive, **options)
        self._patience = patience
        self._stalled: asyncio.TimerHandle | None = None
        self.when_blocked: Callable[[], None] | None = None
        self.when_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        manager = self._manager
        if isinstance(manager, Server) and not manager.takes(self):
            self._manager = None  # aiohttp then forgets it without a word
            self.transport = None
            transport.close()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().connection_lost(exc)
        self._data_received_cb = None  # of a WebSocket: it has the connection, which nothing else would part from it

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        if self.when_blocked is not None:  # a WebSocket, whose clients are watched by edge/websocket/socket.py
            self.when_blocked()
        elif self._stalled is None and self.transport is not None:
            waiting = self.transport.get_write_buffer_size()
            self._stalled = self._loop.call_later(self._patience.stall, self._end_stalled, waiting)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self.when_writable is not None:
            self.when_writable()

    def end_without_head(self) -> None:
        """The time for the first request is over."""
        if not self._request_count and not self._messages:
            self.force_close()

    def _end_stalled(self, waiting: int) -> None:
        """What waits only becomes less while writing is paused: by how much is what the client has read."""
        self._stalled = None
        transport = self.transport
        if transport is None:
            return
        left = transport.get_write_buffer_size()
        if waiting - left >= LEAST:
            self._stalled = self._loop.call_later(self._patience.stall, self._end_stalled, left)
            return
        _log.info("a client that does not read was cut", extra={"fields": {"unread": left}})
        transport.abort()

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
    """Makes a Connection for every accepted socket, and answers its requests by `dispatch`. Needs a running loop."""

    def __init__(self, dispatch: Dispatch, patience: Patience | None = None) -> None:
        super().__init__(
            dispatch,  # type: ignore[arg-type]  # where aiohttp itself passes the application's own
            request_factory=dispatch.request,
            handler_cancellation=True,  # a client that leaves ends the call it asked for
            **HTTP_LIMITS,
        )
        self.patience = patience or Patience()
        self.refused = 0
        """Connections beyond what may be open."""
        # Those that are new, with the time until which a request must have come: one timer for all, and nothing to do
        # for a request.
        self._new: dict[Connection, float] = {}
        self._look_again: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def takes(self, connection: Connection) -> bool:
        """Whether one more connection may be open; one that may not is counted, one that may has a while to speak."""
        if len(self._connections) >= self.patience.connections:
            self.refused += 1
            return False
        until = self._loop.time() + self.patience.head
        self._new[connection] = until
        if self._look_again is None:
            self._look_again = self._loop.call_at(until, self._look)
        return True

    def _look(self) -> None:
        now, over = self._loop.time(), []
        for connection, until in self._new.items():  # oldest first
            if until > now:
                break
            over.append(connection)
        for connection in over:
            del self._new[connection]
            connection.end_without_head()
        oldest = next(iter(self._new.values()), None)
        self._look_again = self._loop.call_at(oldest, self._look) if oldest is not None else None

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """See aiohttp's."""
        if isinstance(handler, Connection):
            self._new.pop(handler, None)
        super().connection_lost(handler, exc)

    async def close(self, seconds: float) -> None:
        """Ends every connection: idle ones at once, the others when their handler has ended, within `seconds`."""
        await asyncio.sleep(0)  # requests that came before have begun
        if self._look_again is not None:
            self._look_again.cancel()
        self._new.clear()
        self.pre_shutdown()
        await self.shutdown(seconds)

    def __call__(self) -> Connection:
        return Connection(self, self.patience, loop=self._loop, **self._kwargs)
