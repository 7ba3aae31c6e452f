"""Asks anew what was just answered from memory past its time (stale-while-revalidate), behind the client's back.

Rules: once at a time for each answer, at most MOST together; a provider that fails is the record's business, nobody
waits. What comes back is kept by the stages further in.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from time import perf_counter

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.errors import RunestoneError
from runestone.gateway.pipeline import Next, Stage, compose

MOST = 100

Start = Callable[[str, Coroutine[object, object, None]], object]


class Refresher:
    """`start` runs work in a task that somebody owns; `around` are the stages that any call passes before the cache: it
    is metered, and counts against the limits of the caller's key.
    """

    def __init__(self, start: Start, around: Sequence[Stage]) -> None:
        self._start = start
        self._around = tuple(around)
        self._running: set[bytes] = set()

    def __call__(self, call: Call, next: Next) -> None:  # noqa: A002
        key = call.fingerprint
        if key is None or call.directives.only_if_cached or key in self._running or len(self._running) >= MOST:
            return
        own = copy(call)
        own.id = f"{call.id}-refresh"
        own.started = perf_counter()
        own.deadline = own.started + (call.deadline - call.started)
        own.failures, own.cache_headers = (), ()
        own.joins, own.cache, own.target = True, "miss", None
        own.trace = own.span = None  # it outlives the trace of the call that asked
        self._running.add(key)
        self._start(f"refresh {own.id}", self._refresh(own, next, key))

    async def _refresh(self, call: Call, next: Next, key: bytes) -> None:  # noqa: A002
        reply: Reply | None = None
        failure: BaseException | None = None
        try:
            reply = await compose(self._around, next)(call)
            while reply.blocks is not None and await reply.blocks.next():
                pass
        except RunestoneError as error:
            failure = error
        finally:
            self._running.discard(key)
            if reply is not None:
                reply.close(failure)
