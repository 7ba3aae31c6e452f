"""The WebSocket endpoint: who may come in, and what is read from a connection until it ends.

Rule: a refusal comes after the handshake, as a close code, because a browser cannot read the answer to a handshake.
aiohttp reads the frames, answers pings, finds dead peers by its heartbeat and refuses what is too large (1009).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from runestone.core.call import ANONYMOUS
from runestone.core.directives import NO_WISHES
from runestone.core.trace import Context, Trace
from runestone.edge.origin import may_come
from runestone.edge.request import KEY_PROTOCOL, VISIT, Head, head_of
from runestone.edge.server import Connection
from runestone.edge.websocket.conversation import Conversation, House
from runestone.edge.websocket.socket import Socket
from runestone.errors import BadRequest, InternalError, Unavailable

HANDSHAKE = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
SUBPROTOCOL = "runestone"
GOODBYE = 5.0
"""Seconds a client may take to answer a close."""

MOST_REFUSING = 1000
"""Connections that are told by a close code, at a time, why they may not be."""

_log = logging.getLogger("runestone.websocket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Of a connection. `heartbeat` and `stall` in seconds, `max_message` and `max_waiting` in bytes, `total` seconds a
    call may take; pages of `origins` may come without a key.
    """

    heartbeat: float
    stall: float
    max_message: int
    max_waiting: int
    total: float
    origins: frozenset[str] = frozenset()


class WebSockets:
    """The handler. `begin` begins the trace of a connection that is to be traced, `finish` takes it at its end; these
    and the terms may change, for connections that come after.
    """

    def __init__(
        self,
        house: House,
        terms: Terms,
        *,
        begin: Callable[[Context | None], Trace | None] | None = None,
        finish: Callable[[Trace], None] | None = None,
    ) -> None:
        self._house = house
        self.terms = terms
        self.begin = begin
        self.finish = finish
        self._refusing = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from its handshake to its end."""
        ws = web.WebSocketResponse(
            timeout=GOODBYE,
            heartbeat=self.terms.heartbeat or None,
            compress=False,
            max_msg_size=self.terms.max_message + 1,  # aiohttp refuses what is as large as this
            protocols=(_chosen(request),),
        )
        is_readable = all(request.headers.get(name, "").isascii() for name in HANDSHAKE)
        if request.method != "GET" or not is_readable or not ws.can_prepare(request):
            raise BadRequest("this is a WebSocket endpoint: connect with a WebSocket client")
        head = head_of(request, self.terms.total)
        if (
            "Origin" in request.headers
        ):  # what browsers say of caches is about the handshake, and pages cannot change it
            head = head._replace(directives=NO_WISHES)
        refusal = self._refusal(request)
        if refusal is not None:
            await self._refuse(request, ws, *refusal)
            return ws
        sessions = self._house.sessions
        sessions.connections += 1
        try:
            await ws.prepare(request)
            await self._traced(request, ws, head)
        finally:
            sessions.connections -= 1
            ws._cancel_heartbeat()  # aiohttp forgets that where a client that leaves has cancelled its handler
        return ws

    async def _refuse(self, request: web.Request, ws: web.WebSocketResponse, code: int, reason: str) -> None:
        """Says why by a close code, to so many at a time; the rest hears it from HTTP."""
        if self._refusing >= MOST_REFUSING:
            raise Unavailable(reason, retry_after=GOODBYE)
        self._refusing += 1
        try:
            await ws.prepare(request)
            await ws.close(code=code, message=reason[:120].encode())
        finally:
            self._refusing -= 1

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """Why the connection may not be: close code and reason."""
        visit, sessions = request[VISIT], self._house.sessions
        if visit.refusal is not None:
            return 1008, visit.refusal.message
        if sessions.is_draining:
            return 1001, "the gateway is shutting down"
        if not sessions.has_room:
            return 1013, "too many connections; try later"
        if visit.caller is ANONYMOUS and not may_come(request, self.terms.origins):
            return 1008, "pages of this origin may not connect without a key (server.cors_origins)"
        return None

    async def _traced(self, request: web.Request, ws: web.WebSocketResponse, head: Head) -> None:
        trace = self.begin(head.context) if self.begin is not None else None
        if trace is None or self.finish is None:
            await self._converse(request, ws, head)
            return
        try:
            await self._converse(request, ws, head._replace(context=trace.context()))
        finally:
            self.finish(trace)

    async def _converse(self, request: web.Request, ws: web.WebSocketResponse, head: Head) -> None:
        sessions, connection = self._house.sessions, request.protocol
        if not isinstance(connection, Connection):
            raise InternalError("a WebSocket needs the server of this package")

        socket = Socket(
            connection,
            sessions.tally,
            stall=self.terms.stall,
            max_waiting=self.terms.max_waiting,
            cut=lambda reason: _log.warning("a WebSocket client was cut: %s", reason),
            close=lambda code, reason: self._close(ws, socket, code, reason),
        )
        transport = connection.transport
        conversation = Conversation(self._house, sessions.open(head.caller, socket), socket, head)
        socket.when_free = conversation.free
        conversation.greet()
        try:
            await self._listen(ws, conversation, socket)
        finally:
            socket.release()
            if transport is not None and transport.get_write_buffer_size():
                # What was left for it is let go of: at once for a dead peer, and soon for one that does not read.
                wait = 0.0 if ws.close_code == WSCloseCode.ABNORMAL_CLOSURE else self.terms.stall
                asyncio.get_running_loop().call_later(wait, transport.abort)
            if conversation.session.socket is socket:
                sessions.lose(conversation.session)

    async def _listen(self, ws: web.WebSocketResponse, conversation: Conversation, socket: Socket) -> None:
        tally = self._house.sessions.tally
        while True:
            socket.flush()  # what comes next may be the end, which aiohttp answers by itself
            message = await ws.receive()
            if message.type is WSMsgType.TEXT:
                tally.received += 1
                conversation.take(message.data)
            elif message.type is WSMsgType.BINARY:
                tally.received += 1
                conversation.take_bytes()
            else:
                return

    def _close(self, ws: web.WebSocketResponse, socket: Socket, code: int, reason: str) -> None:
        socket.flush()
        socket.release()
        self._house.start("close a WebSocket", _closed(ws, code, reason, min(GOODBYE, self.terms.stall)))


async def _closed(ws: web.WebSocketResponse, code: int, reason: str, patience: float) -> None:
    transport = ws._req.transport if ws._req is not None else None
    try:
        async with asyncio.timeout(patience):
            await ws.close(code=code, message=reason.encode())
    except TimeoutError:  # it does not even read that
        if transport is not None:
            transport.abort()


def _chosen(request: web.Request) -> str:
    """The sub-protocol: ours, else the first that is offered, as browsers want one of theirs; but never the key. Raises
    BadRequest when there is nothing else.
    """
    offered = [part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    others = [part for part in offered if part and not part.startswith(KEY_PROTOCOL)]
    if offered != [""] and not others:
        raise BadRequest(f"offer the sub-protocol {SUBPROTOCOL!r} beside the key: the key itself cannot be chosen")
    return SUBPROTOCOL if SUBPROTOCOL in offered or not others else others[0]
