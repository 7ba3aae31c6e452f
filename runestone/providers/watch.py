"""One timer for all the waits of one call.

A call waits for a head, then for read after read. A timer per wait would cost more than the wait's own work on a stream
of tokens; here a wait only notes when it is due, and the one timer looks, when it rings, whether that has been moved.
Rule: a wait that is due cancels the task that waits, as asyncio.timeout does, and comes out as ProviderTimeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from runestone.errors import ProviderTimeout

T = TypeVar("T")


def total_timeout() -> ProviderTimeout:
    """The error of a call that took longer than it may."""
    error = ProviderTimeout("timeout (total): the call was not over within the time it may take")
    error.is_total = True
    return error


class Watch:
    """Not shared between calls. `deadline` (perf_counter) bounds all waits together; `stop` it when the call is
    over.
    """

    __slots__ = ("_before", "_deadline", "_due", "_loop", "_rings", "_task", "_timer", "_tripped", "_what", "_within")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self._loop = loop  # handed in: until Python 3.12 asking for the running loop costs a system call
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._due = 0.0
        self._rings = float("inf")
        self._what = ""
        self._within = 0.0
        self._tripped = False
        self._before = 0

    async def wait(self, awaitable: Awaitable[T], what: str, seconds: float) -> T:
        """The result. Raises ProviderTimeout that names `what` after `seconds`, or `total` at the deadline."""
        self.begin(what, seconds)
        try:
            return await awaitable
        except asyncio.CancelledError:
            raise self.verdict() from None
        finally:
            self.end()

    def begin(self, what: str, seconds: float) -> None:
        """The calling task waits for `what` from now on; `end` must follow. For waits too frequent for `wait`."""
        now = perf_counter()
        task = asyncio.current_task(self._loop)
        self._before = task.cancelling() if task is not None else 0
        self._what, self._within, self._due = what, seconds, now + seconds
        if self._deadline < self._due:
            self._what, self._due = "total", self._deadline
        self._task = task
        if self._due < self._rings:
            self._arm(now)

    def end(self) -> None:
        """The wait is over."""
        self._task = None

    def verdict(self) -> BaseException:
        """What a cancelled wait comes out as: our ProviderTimeout, or somebody else's cancellation."""
        task, tripped, self._tripped = self._task, self._tripped, False
        if tripped and task is not None and task.uncancel() <= self._before:
            return self._error()
        return asyncio.CancelledError()

    def stop(self) -> None:
        """No more waits; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._rings = float("inf")

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._due
        self._timer = self._loop.call_later(max(self._due - now, 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._rings = float("inf")
        if self._task is None:  # nobody waits; the next wait sets the timer anew
            return
        now = perf_counter()
        if now < self._due:
            self._arm(now)
        else:
            self._tripped = True
            self._task.cancel()

    def _error(self) -> ProviderTimeout:
        if self._what == "total":
            return total_timeout()
        return ProviderTimeout(f"timeout ({self._what}): the provider sent nothing within {self._within:g} s")
