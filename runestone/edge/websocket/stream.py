"""Calls of a session: a stream that is told as it comes, or an answer that is told whole.

    asks    ->  streams  <->  waits (paused, or nobody takes more)
      |           |
      v           v
    complete, error, cancelled: told once, the last thing that is said of it

Rules: it belongs to its session, or to its room, not to a connection. It reads the provider only while it may go on,
so that who does not listen slows the provider down and nothing else. However it ends, the reply is closed and the end
is told.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import orjson

from runestone.core.call import Call
from runestone.core.json import JsonObject
from runestone.core.reply import Blocks, Reply
from runestone.dialects.chunks import Chunk, Chunks
from runestone.dialects.socket import Ref
from runestone.edge.running import Running, shutting_down
from runestone.edge.websocket.rooms import Room
from runestone.edge.websocket.session import Session, timestamp
from runestone.errors import (
    InternalError,
    ProviderFailed,
    ProviderRefused,
    ProviderTimeout,
    RunestoneError,
    Unavailable,
)

Gateway = Callable[[Call], Awaitable[Reply]]


class Asked(ABC):
    """What a stream and a whole answer share: a task that does the work, and an end that is told whatever becomes of
    it, also when it was cancelled before it could begin.
    """

    def __init__(self, identity: str, call: Call, session: Session, ref: Ref, running: Running) -> None:
        self.id = identity
        self.session = session
        self._call = call
        self._ref = ref
        self._running = running
        self._failure: RunestoneError | None = InternalError(f"internal error; the request id is {call.id}")
        self._task: asyncio.Task[None] | None = None
        self._entered: asyncio.Task[Any] | None = None

    def began(self, task: asyncio.Task[None]) -> None:
        """`task` is what runs for it."""
        self._task = task
        task.add_done_callback(self._over)

    def cancel(self) -> None:
        """Ends the call."""
        if self._task is not None:
            self._task.cancel()

    def abandon(self) -> None:
        """See Work."""
        self.cancel()

    @abstractmethod
    def wake(self) -> None:
        """See Work."""

    async def run(self, gateway: Gateway) -> None:
        """Asks, and tells what comes."""
        try:
            self._entered = self._running.enter()
            self._failure = await self._tell_all(await gateway(self._call))
        except RunestoneError as error:
            self._failure = error.with_traceback(None)  # which holds what has this

    @abstractmethod
    async def _tell_all(self, reply: Reply) -> RunestoneError | None:
        """Tells the answer and closes the reply; why it is not whole, or None."""

    @abstractmethod
    def _tell_end(self, failure: RunestoneError | None, *, cancelled: bool) -> None:
        """Says what became of it."""

    def _over(self, task: asyncio.Task[None]) -> None:
        is_cut = task.cancelled() and self._running.is_cut
        self._tell_end(shutting_down() if is_cut else self._failure, cancelled=task.cancelled() and not is_cut)
        self.session.done(self.id)
        self._running.leave(self._entered)  # only now: a draining server waits for the last word too
        self._task = self._entered = None  # it keeps what failed, whose traceback has this


class Answer(Asked):
    """One `chat:message`."""

    def wake(self) -> None:
        """See Work: it waits for nobody."""

    async def _tell_all(self, reply: Reply) -> RunestoneError | None:
        failure: RunestoneError | None = None
        body = reply.body or b""
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            failure = ProviderFailed("the provider's answer is not JSON")
        else:
            self.session.tell("chat:response", body, self._ref)
        reply.close(failure)
        return failure

    def _tell_end(self, failure: RunestoneError | None, *, cancelled: bool) -> None:
        if failure is not None and not cancelled:
            self.session.refuse(failure.code or failure.type, failure.message, self._ref)


class Stream(Asked):
    """One `chat:stream`, for its session or for everybody in `room`. `max_text` characters of a room's at most."""

    def __init__(
        self, identity: str, call: Call, session: Session, ref: Ref, running: Running, room: Room | None, max_text: int
    ) -> None:
        super().__init__(identity, call, session, ref, running)
        self._is_paused = False
        self._room = room
        self._max_text = max_text
        self._text: list[str] = []
        self._size = 0
        self._chunks = Chunks()
        self._prefix = b'{"stream_id":%b,' % orjson.dumps(identity)
        self._sleeper: asyncio.Future[None] | None = None
        self._last_index = 0

    def begin(self) -> None:
        """Says that it has begun, before anybody was asked: from here on it can be controlled."""
        if self._room is not None:
            self._room.streams[self.id] = self
        self._tell("stream:started", self._started(), self._ref)

    def introduce(self, session: Session) -> None:
        """See Heard."""
        session.tell("stream:started", self._started())
        if self._text:
            so_far = Chunk(self._last_index, "".join(self._text))
            session.tell("stream:chunk", {"stream_id": self.id, **so_far.payload()})

    def control(self, action: str, ref: Ref) -> None:
        """`pause`, `resume` or `cancel`; the end of a cancelled one is told when it is there."""
        if action == "cancel":
            self._ref = ref
            self.cancel()
            return
        self._is_paused = action == "pause"
        self._tell("stream:paused" if self._is_paused else "stream:resumed", self._moment(), ref)
        self.wake()

    def wake(self) -> None:
        """See Work."""
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def abandon(self) -> None:
        """See Work: a room may want it still, and ends it when nobody is there (see Heard)."""
        if self._room is None:
            self.cancel()

    def _tell_end(self, failure: RunestoneError | None, *, cancelled: bool) -> None:
        if cancelled:
            self._tell("stream:cancelled", self._moment(), self._ref)
        elif failure is not None:
            self._tell("stream:error", self._failed(failure))
        if self._room is not None:
            self._room.streams.pop(self.id, None)

    async def _tell_all(self, reply: Reply) -> RunestoneError | None:
        failure: BaseException | None = None
        try:
            self._running.streams += 1
            if reply.blocks is not None:
                await self._pull(reply.blocks)
        except RunestoneError as error:
            failure = error.with_traceback(None)
            return error
        except BaseException as error:
            failure = shutting_down() if self._running.is_cut else error
            raise
        else:
            self._tell("stream:complete", self._completed(reply))
            return None
        finally:
            self._running.streams -= 1
            reply.close(failure)
            del failure  # its traceback holds this frame

    async def _pull(self, blocks: Blocks) -> None:
        while True:
            await self._may_go_on()
            block = await blocks.next()
            await self._may_go_on()  # others have gone on meanwhile, and what they said waits too
            for chunk in self._chunks.read(block) if block else self._chunks.finish():
                self._chunk(chunk)
            if self._chunks.failure is not None:
                raise self._chunks.failure
            if not block:
                return

    async def _may_go_on(self) -> None:
        """Waits while it is paused, or its client takes no more. Raises ProviderTimeout past the call's deadline."""
        if not self._must_wait():
            return
        try:
            async with asyncio.timeout(max(self._call.deadline - perf_counter(), 0.0)):
                while self._must_wait():
                    self._sleeper = asyncio.get_running_loop().create_future()
                    await self._sleeper
        except TimeoutError:
            raise ProviderTimeout("the call's time was over while the stream waited for its reader") from None

    def _must_wait(self) -> bool:
        return self._is_paused or (self._room is None and self.session.is_full)

    def _chunk(self, chunk: Chunk) -> None:
        self._last_index = chunk.index
        self._tell("stream:chunk", self._prefix + orjson.dumps(chunk.payload())[1:])
        if self._room is not None and chunk.choice == 0:
            self._text.append(chunk.text)
            self._size += len(chunk.text)
            if self._size > self._max_text:
                raise Unavailable(f"a stream of a room has at most {self._max_text} characters")

    def _tell(self, event: str, payload: bytes | JsonObject, ref: Ref = None) -> None:
        if self._room is None:
            self.session.tell(event, payload, ref)
            return
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        for member in tuple(self._room.members.values()):
            member.tell(event, body, ref if member is self.session else None)
        has_left = self.session.id not in self._room.members
        if has_left and ref is not None:
            self.session.tell(event, body, ref)

    def _moment(self) -> JsonObject:
        return {"stream_id": self.id, "timestamp": timestamp()}

    def _started(self) -> JsonObject:
        told: JsonObject = {"stream_id": self.id, "model": self._call.model, "timestamp": timestamp()}
        if self._room is not None:
            told["room"] = self._room.name
        return told

    def _completed(self, reply: Reply) -> JsonObject:
        call = self._call
        response: JsonObject = {
            "status": "completed",
            "finish_reason": self._chunks.finish_reason or reply.summary.finish_reason,
            "usage": self._chunks.usage,
            "provider": call.target.provider if call.target is not None else None,
            "model": call.target.model if call.target is not None else None,
            "cache": call.cache,
        }
        return {"stream_id": self.id, "response": response}

    def _failed(self, failure: RunestoneError) -> JsonObject:
        error: JsonObject = {"message": failure.message, "type": failure.type, "code": failure.code}
        if isinstance(failure, ProviderRefused) and failure.param is not None:
            error["param"] = failure.param
        return {"stream_id": self.id, "error": error}
