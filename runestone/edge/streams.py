"""SSE streams that survive a lost connection: the call goes on, and whoever has its id reads on from any event.

    the POST that began it   reads from the first event
    GET /v1/streams/{id}     from after Last-Event-ID; without it, from the first; 204 when there is nothing more
    DELETE /v1/streams/{id}  ends the provider call

Rules: a stream belongs to the key that began it. Its task reads the provider and keeps what comes, bounded: what no
reader has had makes it wait. It ends when nobody has read it for `resumable_for`.
Deliberately absent: streams that outlive the process.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter

from aiohttp import web
from multidict import CIMultiDict

from runestone.core.call import Call, is_same
from runestone.core.event_log import EventLog
from runestone.core.reply import Blocks, Headers, Reply
from runestone.dialects.passage import client_dialect
from runestone.dialects.sse import Cutter
from runestone.edge.event_stream import EVENTS, GRACE, EventStream
from runestone.edge.request import VISIT
from runestone.edge.running import Running, shutting_down
from runestone.errors import BadRequest, InternalError, NotFound, ProviderError, RunestoneError, Unavailable

Start = Callable[[str, Coroutine[object, object, None]], asyncio.Task[None]]
ID = "x-runestone-stream-id"
SENT = 64 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`resumable_for` in seconds, `max_kept` bytes of each stream, `max_streams` at a time; `always` without asking."""

    resumable_for: float
    max_kept: int
    max_streams: int
    always: bool = False


class Held:
    """One stream, read by its task and by whoever has come for it."""

    def __init__(self, call: Call, reply: Reply, blocks: Blocks, max_kept: int, running: Running) -> None:
        self.id = f"stream_{secrets.token_hex(16)}"
        self.caller = call.caller
        self.deadline = call.deadline
        self.operation = call.operation
        self.is_over = False
        self.is_broken = False
        """Whether it ended as no stream should."""
        self.readers: set[Reader] = set()
        self.log = EventLog(max_kept)
        self.on_the_way = min(4 * SENT, max_kept // 2)
        """Bytes that may be given and not have arrived."""
        self._call = call
        self._reply = reply
        self._blocks = blocks
        self._running = running
        self._cutter = Cutter()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Reads the provider to the end, whoever listens. An end that is none is told as the last event."""
        task = None
        self._running.streams += 1
        try:
            task = self._running.enter()
            while block := await self._blocks.next():
                self._keep(self._cutter.feed(block))
                await self._have_room()
            self._keep(self._cutter.tail)
            self.finish(None)
        except RunestoneError as error:
            self.finish(error)
        finally:
            self._running.streams -= 1
            self._running.leave(task)
            del task  # it keeps what failed, whose traceback holds this frame

    def finish(self, failure: RunestoneError | None, *, cancelled: bool = False) -> None:
        """It is over, however it came to that; the first word counts."""
        if self.is_over:
            return
        if cancelled:
            failure = shutting_down() if self._running.is_cut else Unavailable("the stream was ended by its client")
        if failure is not None:
            self.is_broken = True
            if not (isinstance(failure, ProviderError) and failure.told):
                self._keep(client_dialect(self._call.operation).error_event(failure, self._call.id))
        self.is_over = True
        self._reply.close(asyncio.CancelledError() if cancelled and not self._running.is_cut else failure)
        self._news.set()

    async def news(self) -> None:
        """Waits until there is something new."""
        self._news.clear()
        await self._news.wait()

    def moved(self) -> None:
        """A reader has read: there may be room. One that lags by more than is kept is left behind."""
        if self.readers:
            self.log.forget(max(reader.arrived for reader in self.readers))
            if self._is_read:  # events larger than all that is kept: only the last of them can be read again
                self.log.forget(self.log.last - 1)
        if not self.log.is_full or self._is_read:
            self._room.set()

    @property
    def _is_read(self) -> bool:
        return any(reader.at == self.log.last for reader in self.readers)

    async def _have_room(self) -> None:
        self.moved()
        while self.log.is_full and not self._is_read:
            self._room.clear()
            await self._room.wait()

    def _keep(self, events: bytes) -> None:
        if b"\r" in events:
            events = events.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for event in events.removeprefix(b"\xef\xbb\xbf").split(b"\n\n"):
            lines = [line for line in event.split(b"\n") if line and line != b"id" and not line.startswith(b"id:")]
            if lines:  # a provider's own ids would be taken for ours
                self.log.put(b"\n".join(lines) + b"\n\n")
        self._news.set()


class Reader:
    """One client's place in a stream. `leave` is told when it goes."""

    def __init__(self, held: Held, at: int, leave: Callable[[Held], None]) -> None:
        self.held = held
        self.at = at
        """The number of the last event it was given."""
        self.arrived = at
        """The number of one that it has surely had: so much was given since that no buffer on the way holds it."""
        self._given: deque[tuple[int, int]] = deque()
        self._size = 0
        self._leave = leave
        held.readers.add(self)

    async def next(self) -> bytes:
        """The events that have come since, b"" at the end; an end that is none is an event like others. Raises
        ConnectionError when they are no longer kept.
        """
        held = self.held
        held.moved()
        while self.at == held.log.last:
            if held.is_over:
                return b""
            await held.news()
        if not held.log.has(self.at):
            raise ConnectionError("the client reads its stream too slowly: what comes next is no longer kept")
        said, self.at = held.log.some_after(self.at, SENT)
        self._size += len(said)
        self._given.append((self.at, self._size))
        while self._size - self._given[0][1] >= held.on_the_way:
            self.arrived, _ = self._given.popleft()
        return said

    def close(self) -> None:
        """The stream goes on without it."""
        self.held.readers.discard(self)
        self.held.moved()
        self._leave(self.held)


def _keep_little(request: web.Request) -> None:
    """What the kernel holds for a client is lost with its connection, and must be kept to be read again."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT)


class Streams:
    """All of them, and their endpoint. `start` runs something in a task that somebody owns; `terms` may change."""

    def __init__(self, terms: Terms, *, start: Start, running: Running) -> None:
        self.terms = terms
        self._start = start
        self._running = running
        self._held: dict[str, Held] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, request: web.Request, call: Call, reply: Reply) -> Held | None:
        """Takes over a stream that shall survive its client. None where that was not asked for, or has no room."""
        if reply.blocks is None:
            return None
        asked = request.headers.get("x-runestone-resumable", "").lower()
        if asked != "true" and not (self.terms.always and asked != "false"):
            return None
        if len(self._held) >= self.terms.max_streams and not self._make_room():
            return None
        held = Held(call, reply, reply.blocks, self.terms.max_kept, self._running)
        self._held[held.id] = held
        task = self._tasks[held.id] = self._start(f"stream {call.id}", held.run())
        # One that has ended by itself has said so; what is left was cancelled, or is our own fault.
        fault = InternalError(f"internal error; the request id is {call.id}")
        task.add_done_callback(lambda task: held.finish(fault, cancelled=task.cancelled()))
        return held

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET. Raises NotFound, BadRequest."""
        held = self._find(request)
        last = request.headers.get("Last-Event-ID") or "0"
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise BadRequest("last-event-id must be a whole number, as the id of an event is", param="last-event-id")
        if not held.log.has(int(last)):
            raise NotFound("what comes after that event is not kept here")
        if held.is_over and int(last) == held.log.last:
            return web.Response(status=204)  # tells a browser's EventSource to come no more
        if request.method == "HEAD":
            return web.Response(headers=CIMultiDict([*EVENTS, (ID, held.id)]))
        task = self._running.enter()
        try:
            return await self.answer(request, held, [], int(last))
        finally:
            self._running.leave(task)

    async def end(self, request: web.Request) -> web.Response:
        """DELETE: ends the call. Raises NotFound."""
        held = self._find(request)
        self._forget(held)
        return web.Response(status=204)

    async def answer(self, request: web.Request, held: Held, headers: Headers, at: int = 0) -> web.StreamResponse:
        """The events after number `at`, to the end. Raises ConnectionError when the client has left."""
        timer = self._timers.pop(held.id, None)
        if timer is not None:
            timer.cancel()
        reader = Reader(held, at, self._left)
        told = CIMultiDict([*headers, *EVENTS, (ID, held.id)])
        # Who comes back hears at once that the stream is there, however long the provider thinks.
        response = EventStream(headers=told) if not at and not held.log.last else web.StreamResponse(headers=told)
        _keep_little(request)
        try:
            async with asyncio.timeout(max(held.deadline - perf_counter(), 0.0) + GRACE):
                await self._pour(request, reader, response)
        except TimeoutError:
            raise ConnectionError("the client did not read its stream") from None
        finally:
            reader.close()
        return response

    async def _pour(self, request: web.Request, reader: Reader, response: web.StreamResponse) -> None:
        await response.prepare(request)
        try:
            while block := await reader.next():
                await response.write(block)
            if reader.held.is_broken:
                response.force_close()
        except asyncio.CancelledError:
            if not self._running.is_cut:
                raise
            response.force_close()
            failure = shutting_down()
            await response.write(client_dialect(reader.held.operation).error_event(failure, request[VISIT].id))
        await response.write_eof()

    def _find(self, request: web.Request) -> Held:
        held = self._held.get(request.match_info["id"])
        if held is None or not is_same(held.caller, request[VISIT].caller):
            raise NotFound("there is no such stream here: it is over, was another process's, or never was")
        return held

    def _left(self, held: Held) -> None:
        if not held.readers and held.id in self._held:
            loop = asyncio.get_running_loop()
            self._timers[held.id] = loop.call_later(self.terms.resumable_for, self._forget, held)

    def _forget(self, held: Held) -> None:
        self._held.pop(held.id, None)
        self._tasks.pop(held.id).cancel()
        timer = self._timers.pop(held.id, None)
        if timer is not None:
            timer.cancel()

    def _make_room(self) -> bool:
        """Lets go of the oldest stream that is over and that nobody reads."""
        for held in self._held.values():
            if held.is_over and not held.readers:
                self._forget(held)
                return True
        return False
