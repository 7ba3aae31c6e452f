"""What keeps a session connected: one connection after another, and on each of them every message once, in order.

    connect ─▶ `connected` ─▶ `session:resume` ─▶ what was missed, `session:resumed` ─▶ reads and writes ─▶ lost ─┐
       ▲                            └─▶ `session:lost`: begins anew                                              │
       └───────────────────────────── waits, longer each time ◀───────────────────────────────────────────────────┘

Rules: a message with a number that was had already is not handled again, and one that comes too early ends the
connection: the session is resumed after the last that was had. Nothing of ours is sent before the gateway has said
what it has of ours. Every wait here ends: sockets by aiohttp's heartbeat, handshakes and writes by a deadline, the
search for a connection by `Reconnect.give_up_after`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set
from enum import StrEnum
from time import monotonic
from typing import Literal, Protocol, TypeAlias

import orjson
from aiohttp import ClientError as HttpError
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType

from runestone.client.errors import ConnectionLost, Refused, TooLarge
from runestone.client.incoming import Broken, Incoming, read
from runestone.client.options import Reconnect
from runestone.client.outgoing import Queue
from runestone.client.retry import Retry
from runestone.core.bucket import Bucket
from runestone.tasks import spawn

WebSocket: TypeAlias = ClientWebSocketResponse[Literal[False]]
Dial = Callable[[], Awaitable[WebSocket]]
"""Opens a connection. Raises Broken when it may be tried again, ClientError when not."""


class State(StrEnum):
    """Of a session. After `lost` it is connected, too, but began anew: its streams and rooms are gone."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    RESUMED = "resumed"
    LOST = "lost"
    CLOSED = "closed"


class Listener(Protocol):
    """Who handles what comes."""

    def heard(self, message: Incoming) -> None:
        """A message, in order and once. Raises Broken when it is none of the protocol."""

    def lost(self, reason: str, waiting: Set[int]) -> None:
        """The session was lost, and another has begun; of what was sent, only `waiting` goes on."""


class Link:
    """One session's. `wanted` is set when there is something in the queue, of which at most `per_second` messages are
    sent a second; `changed` is told of each new state.
    """

    def __init__(
        self,
        dial: Dial,
        queue: Queue,
        listener: Listener,
        *,
        wanted: asyncio.Event,
        changed: Callable[[State], object],
        reconnect: Reconnect,
        per_second: int,
    ) -> None:
        self.id: str | None = None
        """The session's, once there is one."""
        self.is_connected = False
        self._dial = dial
        self._queue = queue
        self._listener = listener
        self._changed = changed
        self._reconnect = reconnect
        self._timeout = reconnect.attempt
        self._retry = Retry(reconnect)
        self._bucket = Bucket(per_second, 1.0)
        self._last_seq = 0
        self._resumes = 0
        self._wanted = wanted
        self._drained = asyncio.Event()
        self._is_draining = False
        self._is_pinging = False

    async def run(self) -> None:
        """Connects, and again, until it is cancelled. Raises ClientError when that has no use any more."""
        while True:
            try:
                await self._connect()
                why = "the connection ended"
            except Broken as broken:
                why = str(broken)
            finally:
                was_connected, self.is_connected = self.is_connected, False
            if was_connected:
                self._changed(State.DISCONNECTED)
            seconds = self._retry.wait()
            if seconds is None:
                raise ConnectionLost(f"no connection for {self._reconnect.give_up_after:g} seconds: {why}")
            await asyncio.sleep(seconds)

    async def drain(self, within: float) -> None:
        """Waits until the gateway has everything that is in the queue, at most so many seconds."""
        if not self.is_connected or not len(self._queue):
            return
        self._is_draining = True
        self._drained.clear()
        self._wanted.set()
        try:
            async with asyncio.timeout(within):
                await self._drained.wait()
        except TimeoutError:
            return

    async def _connect(self) -> None:
        """One connection, to its end. Raises Broken, or ClientError."""
        ws = await self._dial()
        try:
            await self._greet(ws)
            self._is_pinging = False
            tasks = [spawn("a session reads", self._read(ws)), spawn("a session writes", self._write(ws))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:  # the reader knows better why
                if not task.cancelled():
                    task.result()
        finally:
            await ws.close()

    async def _greet(self, ws: WebSocket) -> None:
        """Begins a session, or goes on with the one there was."""
        first = await self._receive_soon(ws)
        if first.event != "connected":
            raise Broken(f"the gateway began with {first.event}")
        fresh = first.text("session_id")
        self._retry.connected()
        if self.id is None:
            self._adopt(fresh, first.seq, State.CONNECTED)
            return
        self._resumes -= 1  # an older answer may be among what was missed; messages have refs from 0
        told = {"session_id": self.id, "last_seq": self._last_seq}
        resume = {"event": "session:resume", "ref": self._resumes, "payload": told}
        await self._send(ws, orjson.dumps(resume))
        while True:
            message = await self._receive_soon(ws)
            if message.event == "session:lost":
                waiting = self._queue.restart()
                self._listener.lost(str(message.payload.get("reason")), waiting)
                self._adopt(fresh, message.seq, State.LOST)
                return
            self._take(message)
            if message.event == "session:resumed" and message.ref == self._resumes:
                if not self._queue.settle(message.number("received")):
                    raise Broken("the gateway has had more of our messages than there were, or fewer than it answered")
                self._be_connected(State.RESUMED)
                return

    def _adopt(self, identity: str, seq: int, state: State) -> None:
        self.id, self._last_seq = identity, seq
        self._be_connected(state)

    def _be_connected(self, state: State) -> None:
        self.is_connected = True
        self._changed(state)

    async def _receive_soon(self, ws: WebSocket) -> Incoming:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._receive(ws)
        except TimeoutError:
            raise Broken(f"the gateway said nothing for {self._timeout:g} seconds") from None

    async def _receive(self, ws: WebSocket) -> Incoming:
        """The next message. Raises what the end of the connection means."""
        message = await ws.receive()
        if message.type is WSMsgType.TEXT:
            return read(message.data)
        if message.type is WSMsgType.BINARY:
            raise Broken("the gateway sent a binary message")
        code, reason = ws.close_code, str(message.extra or "")
        if code == WSCloseCode.POLICY_VIOLATION:
            raise Refused(reason or "the gateway closed the connection for good", close_code=code)
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            raise TooLarge(reason or "a message is larger than one side takes")
        raise Broken(f"the connection was closed ({code or 'no code'}{': ' if reason else ''}{reason})")

    async def _read(self, ws: WebSocket) -> None:
        while True:
            self._take(await self._receive(ws))

    def _take(self, message: Incoming) -> None:
        if message.seq <= self._last_seq:
            return
        if message.seq != self._last_seq + 1:
            raise Broken(f"message {message.seq} came where {self._last_seq + 1} is next")
        self._last_seq = message.seq
        if message.ref is not None and message.ref >= 0:
            self._queue.acknowledge(message.ref)
        if message.event == "pong":
            self._is_pinging = False
            self._wanted.set()
        if not len(self._queue):
            self._drained.set()
        if not message.event.startswith("session:"):
            self._retry.progress()
        self._listener.heard(message)

    async def _write(self, ws: WebSocket) -> None:
        while True:
            message = self._queue.next() if await self._may_send() else None
            if message is not None:
                await self._send(ws, message.data)
            last = self._queue.last_sent
            if last and not self._is_pinging and (self._queue.is_half_full or (message is None and self._is_draining)):
                # An answer to it says that what was sent before has arrived: the queue may forget that.
                self._is_pinging = True
                await self._send(ws, orjson.dumps({"event": "ping", "payload": {}, "ref": last}))
            elif message is None:
                self._wanted.clear()
                await self._wanted.wait()

    async def _may_send(self) -> bool:
        """Waits until another message may be sent; False when there is none."""
        if not self._queue.has_waiting:
            return False
        while (seconds := self._bucket.wait(monotonic())) > 0:  # noqa: ASYNC110 - how long is known
            await asyncio.sleep(seconds)
        self._bucket.take(monotonic())
        return True

    async def _send(self, ws: WebSocket, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await ws.send_frame(data, WSMsgType.TEXT)
        except TimeoutError:
            raise Broken(f"the gateway took nothing for {self._timeout:g} seconds") from None
        except (HttpError, OSError) as error:
            raise Broken(f"the connection was lost while sending: {type(error).__name__}") from None
