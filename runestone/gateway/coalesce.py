"""The same question in flight: one provider call, and all who asked hear the answer.

    first to ask     a flight begins: the way to the answer's head in a task that belongs to no client
    others           join it; of a stream they get the events so far, then go on live
    first to leave   changes nothing; the last one to leave ends the provider's call
    it fails         everybody hears the same error, once; nobody asks again in its name

A stream has no task. Whoever wants the next block and finds nobody reading reads it for all; a reader whose client
leaves in that moment puts the baton down, and another takes it up: a read that is cancelled has read nothing. So the
provider is read as fast as the fastest client reads, and a slow one slows nobody.

Rules: at most `max_kept` bytes of a stream are kept; past that nobody may join any more, and who lies further behind is
cut. Only questions with one fingerprint, in one form and with the same patience (`x-runestone-timeout`) are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from runestone.core.answer import form_of
from runestone.core.call import Call
from runestone.core.directives import forwarded
from runestone.core.reply import Blocks, Reply
from runestone.errors import InternalError, RunestoneError, Unavailable
from runestone.gateway.pipeline import Next
from runestone.tasks import spawn

Key = tuple[object, ...]


@dataclass(slots=True)
class Joined:
    """What the stage has counted: calls that were answered by another one's."""

    count: int = 0


class Coalesce:
    """The stage."""

    def __init__(self, *, max_kept: int, joined: Joined) -> None:
        self._max_kept = max_kept
        self._joined = joined
        self._flights: dict[Key, Flight] = {}

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        if call.fingerprint is None or not call.joins:
            return await next(call)
        key: Key = (call.fingerprint, form_of(call), call.timeout)
        flight = self._flights.get(key)
        if flight is not None:
            self._joined.count += 1
            call.cache = "collapsed"
            call.cache_headers = (("Cache-Status", forwarded("miss", collapsed=True)),)
            call.progress = flight.call.progress
            before = perf_counter()
            try:
                return await flight.join(call)
            finally:
                flight.tell(call)
                call.waited += perf_counter() - before
        flight = self._flights[key] = Flight(call, self._max_kept, lambda: self._flights.pop(key, None))
        flight.begin(next)
        try:
            return await flight.join(call)
        finally:
            flight.tell(call)
            call.waited, call.cache_headers = flight.call.waited, flight.call.cache_headers


class Flight:
    """One provider call and those who listen. `land` takes it off the list of those that can be joined."""

    def __init__(self, call: Call, max_kept: int, land: Callable[[], object]) -> None:
        call.watched()  # the copy tells where it is for the call, and for those that join
        self.call = copy(call)
        self._max_kept = max_kept
        self._may_land: Callable[[], object] | None = land
        self._task: asyncio.Task[Reply] | None = None
        self._reply: Reply | None = None
        self._waiting = 0  # for the answer's head
        self._calls: list[Call] = []
        """The clients' own calls, of those that still wait or listen; the first one pays."""
        self._listeners: set[Listener] = set()
        self._kept: list[bytes] = []
        self._first = 0  # the number of the oldest block that is kept
        self._size = 0
        self._is_over = False
        self._failure: RunestoneError | None = None
        self._is_read = False
        self._sleepers: list[asyncio.Future[None]] = []

    def begin(self, next: Next) -> None:  # noqa: A002
        """Sets out for the head of the answer."""
        self._task = spawn(f"flight of {self.call.id}", self._fly(next))
        self._task.add_done_callback(self._flown)

    def tell(self, call: Call) -> None:
        """What has become of the provider call, into a client's own; what failed on the way is the first one's."""
        own = self.call
        call.target, call.attempts = own.target, own.attempts
        if call.cache != "collapsed":
            call.failures = own.failures

    async def join(self, call: Call) -> Reply:
        """The answer for one more client, once its head is there. Raises what the provider call raises."""
        if self._task is None:
            raise InternalError("a flight was joined before it began")
        self._waiting += 1
        self._calls.append(call)
        try:
            return self._part_of(await asyncio.shield(self._task), call)
        except RunestoneError as error:
            raise error.with_traceback(None) from None  # it is raised for many, and would grow by a frame each time
        except BaseException:
            self._dismiss(call)
            raise
        finally:
            self._waiting -= 1
            self._end_if_deserted()

    def _part_of(self, reply: Reply, call: Call) -> Reply:
        """One client's own reply."""
        if reply.blocks is None:
            return Reply(reply.status, list(reply.headers), reply.summary, body=reply.body)
        listener = Listener(self, reply.blocks)
        self._listeners.add(listener)
        own = Reply(reply.status, list(reply.headers), reply.summary, blocks=listener)
        own.when_closed(partial(self._conclude, call))  # before the stages further out take notes
        return own

    def leave(self, listener: Listener) -> None:
        """One client less."""
        self._listeners.discard(listener)
        self._end_if_deserted()
        if not self._listeners and not self._waiting:
            self._failure = None  # its traceback has this

    async def block(self, listener: Listener) -> bytes:
        """What has come since `listener` was last here, b"" at the end. Raises what ended the stream."""
        while True:
            at = listener.at - self._first
            if at < 0:
                raise Unavailable("the stream was read too slowly: what comes next is no longer kept")
            if at < len(self._kept):
                news = self._kept[at:]
                listener.at += len(news)
                return news[0] if len(news) == 1 else b"".join(news)
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            if self._is_over:
                return b""
            if self._is_read:
                await self._sleep()
            else:
                await self._read(listener.blocks)

    def _conclude(self, call: Call, own: Reply, error: BaseException | None) -> None:
        """A stream may have gone on elsewhere since its head went out (gateway/continuation.py)."""
        self.tell(call)
        self._dismiss(call)
        if self._reply is not None:
            own.summary = self._reply.summary

    def _dismiss(self, call: Call) -> None:
        """One call has had its answer, or has left. If it was to pay for the provider's and left before the end, the
        next one does: what the provider did is in somebody's record, and on somebody's limits.
        """
        if call not in self._calls:
            return
        paid = self._calls[0] is call
        self._calls.remove(call)
        if paid and self._calls and not self._is_over:
            self._calls[0].cache = "miss"

    async def _fly(self, next: Next) -> Reply:  # noqa: A002
        try:
            self._reply = await next(self.call)
        except BaseException:
            self._land()
            raise
        if self._reply.blocks is None:
            self._end(None)
        return self._reply

    def _flown(self, task: asyncio.Task[Reply]) -> None:
        """An error nobody waited for any more is no news: everybody has left."""
        if task.cancelled() or task.exception() is not None:
            self._task = None  # it keeps the failure, whose traceback has this

    async def _read(self, blocks: Blocks) -> None:
        self._is_read = True
        try:
            block = await blocks.next()
        except RunestoneError as failure:
            self._failure = failure
            self._end(failure)
        else:
            if block:
                self._keep(block)
            else:
                self._end(None)
        finally:
            self._is_read = False
            sleepers, self._sleepers = self._sleepers, []
            for sleeper in sleepers:
                if not sleeper.done():
                    sleeper.set_result(None)

    async def _sleep(self) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    def _keep(self, block: bytes) -> None:
        self._kept.append(block)
        self._size += len(block)
        if self._size > self._max_kept:
            self._land()
            dropped = 0
            while self._size > self._max_kept and dropped < len(self._kept) - 1:
                self._size -= len(self._kept[dropped])
                dropped += 1
            del self._kept[:dropped]
            self._first += dropped

    def _land(self) -> None:
        if self._may_land is not None:
            land, self._may_land = self._may_land, None
            land()

    def _end(self, error: BaseException | None) -> None:
        """The provider call is over: its connection goes back now, not when the last client has read."""
        if not self._is_over:
            self._is_over = True
            self._land()
            if self._reply is not None:
                self._reply.close(error)

    def _end_if_deserted(self) -> None:
        if self._waiting or self._listeners or self._is_over or self._task is None:
            return
        if self._task.done():
            self._end(asyncio.CancelledError())
        else:
            self._land()
            self._task.cancel()


class Listener:
    """A client's place in a flight (see Blocks)."""

    __slots__ = ("_flight", "_joined", "at", "blocks")

    def __init__(self, flight: Flight, blocks: Blocks) -> None:
        self._flight = flight
        self._joined = perf_counter()
        self.blocks = blocks
        self.at = 0
        """The number of the block it has not had yet."""

    @property
    def first_token(self) -> float | None:
        """See Blocks; of one that joined late, when it joined."""
        first = self.blocks.first_token
        return max(first, self._joined) if first is not None else None

    async def next(self) -> bytes:
        """See Blocks."""
        return await self._flight.block(self)

    def close(self) -> None:
        self._flight.leave(self)
