"""The calls of one batch, side by side: begun in order, so many at a time, each for itself.

    a line is wrong or fails     its own answer says so
    we fail at one               it is told a 500, at the end, and the log has the rest
    the client has left          nothing more begins, what runs is ended and waited for

Rule: a line is a call like any other, through the same gateway: the record, the limits and the cache are its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from time import perf_counter

import orjson

from runestone.core.call import Call
from runestone.core.reply import Blocks, Reply
from runestone.dialects.passage import client_dialect
from runestone.dialects.sse import Decoder
from runestone.edge.batch_lines import Batch, Line, answered, broken, chunks, refusal
from runestone.edge.request import Head, call_of, dialect_at
from runestone.edge.running import Running, shutting_down
from runestone.errors import InternalError, ProviderError, RunestoneError

_log = logging.getLogger("runestone.edge")

Gateway = Callable[[Call], Awaitable[Reply]]
Tell = Callable[[Line, Sequence[bytes], float], Awaitable[None]]
"""Lines of the answer, and the deadline of the call they belong to."""
Spawn = Callable[[str, Coroutine[object, object, None]], asyncio.Task[None]]


class Run:
    """One batch under way, in tasks of its own (`spawn`). `tell` hears the lines of the answer; the last of each call
    is what became of it. `refused` is told of what failed before it became a call.
    """

    def __init__(
        self,
        gateway: Gateway,
        head: Head,
        tell: Tell,
        *,
        spawn: Spawn,
        refused: Callable[[RunestoneError], None],
        running: Running,
    ) -> None:
        self.failed = 0
        """Lines that were not answered."""
        self._gateway = gateway
        self._head = head
        self._tell = tell
        self._spawn = spawn
        self._refused = refused
        self._running = running
        self._tasks: set[asyncio.Task[None]] = set()
        self._crashed: list[Line] = []
        self._gone: ConnectionError | None = None

    async def all(self, batch: Batch) -> None:
        """Begins the lines in their order, and waits for all. Raises ConnectionError when the client has left. When it
        ends, however it ends, nothing runs any more.
        """
        slots = asyncio.Semaphore(batch.concurrency)
        try:
            for line in batch.lines:
                await self._free(slots)
                self._begin(line, self._answer(line), slots)
            for _ in range(batch.concurrency):  # when all slots are here, nothing runs
                await self._free(slots)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._gone = None  # its traceback has this
        for line in self._crashed:
            await self.refuse(line, InternalError(f"internal error; the request id is {self._id(line)}"))

    async def refuse(self, line: Line, failure: RunestoneError) -> None:
        """Tells the line's failure, as its endpoint alone would have."""
        self.failed += 1
        body = refusal(dialect_at(line.url), self._id(line), failure)
        wait = math.ceil(failure.retry_after) if failure.retry_after is not None else None
        await self._tell(line, [answered(line, self._id(line), failure.status, body, wait)], perf_counter())

    def _id(self, line: Line) -> str:
        return f"{self._head.id}-{line.index}"

    async def _free(self, slots: asyncio.Semaphore) -> None:
        await slots.acquire()
        if self._gone is not None:
            raise self._gone

    def _begin(self, line: Line, work: Coroutine[object, object, None], slots: asyncio.Semaphore) -> None:
        task = self._spawn(f"line {self._id(line)}", work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, line, slots))

    def _ended(self, line: Line, slots: asyncio.Semaphore, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if isinstance(error, ConnectionError):
            self._gone = error
        elif error is not None:  # our own fault, or we have ended it ourselves and nobody asks any more
            self._crashed.append(line)
            if not task.cancelled():
                _log.error("line %s failed", self._id(line), exc_info=error)
        slots.release()

    async def _answer(self, line: Line) -> None:
        try:
            call = self._call(line)
        except RunestoneError as failure:
            self._refused(failure)
            await self.refuse(line, failure)
            return
        try:
            reply = await self._gateway(call)
        except RunestoneError as failure:
            await self.refuse(line, failure)
            return
        if reply.blocks is None:
            reply.close()
            await self._tell(line, [answered(line, call.id, reply.status, reply.body)], call.deadline)
            return
        failed: BaseException | None = None
        try:
            failed = await self._relay(line, call, reply.blocks)
        except BaseException as error:
            failed = shutting_down() if self._running.is_cut else error
            raise
        finally:
            reply.close(failed)
            del failed  # its traceback holds this frame

    def _call(self, line: Line) -> Call:
        operation, fields = line.asked()
        return call_of(self._head.part(line.index, perf_counter()), operation, orjson.dumps(fields), fields)

    async def _relay(self, line: Line, call: Call, blocks: Blocks) -> RunestoneError | None:
        """Tells a stream's events as they come, and its end; why it is not whole, or None."""
        decoder = Decoder()
        try:
            while block := await blocks.next():
                await self._tell(line, chunks(line, decoder.feed(block)), call.deadline)
            rest = chunks(line, decoder.finish())
            await self._tell(line, [*rest, answered(line, call.id, 200, None)], call.deadline)
        except RunestoneError as failure:
            self.failed += 1
            dialect = client_dialect(call.operation)
            is_told = isinstance(failure, ProviderError) and failure.told
            event = b"" if is_told else dialect.error_event(failure, call.id)
            said = chunks(line, Decoder().feed(event)) if event else []
            await self._tell(line, [*said, broken(line, call.id, dialect, failure)], call.deadline)
            return failure
        return None
