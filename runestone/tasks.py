"""The only place that creates tasks: each has a name, an owner, and an end that is waited for.

    start   runs something once; what fails is logged by its name
    keep    runs something that shall always run: what fails is begun again after a pause, and counted
    spawn   belongs to who calls it

Rule: a task that fails never takes the server along.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from time import monotonic
from typing import TypeVar

from runestone.core.backoff import Pauses

T = TypeVar("T")
Work = Coroutine[object, object, None]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before what has failed once, and again and again, is begun anew; with jitter."""
WELL = 60.0
"""Seconds after which a failure is taken for a first one."""

_log = logging.getLogger("runestone.tasks")


class Supervisor:
    """Owns the tasks it starts; `close` ends them all."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarts: dict[str, int] = {}
        self._failing: set[str] = set()
        self._chance = chance

    def start(self, name: str, work: Work) -> asyncio.Task[None]:
        """Runs `work` in a task of its own."""
        task = self._own(name, _once(name, work))
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before its first step was never awaited
        return task

    def keep(self, name: str, begin: Callable[[], Work]) -> asyncio.Task[None]:
        """Runs what `begin` gives until it returns; where it fails, that is begun again."""
        self._restarts.setdefault(name, 0)
        return self._own(name, self._kept(name, begin))

    def restarts(self) -> Iterator[tuple[str, int]]:
        """How often each of the kept tasks, by name, had to be begun again."""
        yield from self._restarts.items()

    def failing(self) -> list[str]:
        """Names of kept tasks that do not run now: they wait to be begun again."""
        return sorted(self._failing)

    async def close(self) -> None:
        """Cancels what still runs and waits until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _own(self, name: str, work: Work) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _kept(self, name: str, begin: Callable[[], Work]) -> None:
        pauses = Pauses(first=FIRST_PAUSE, most=LONGEST_PAUSE, well=WELL, chance=self._chance)
        try:
            while True:
                since = monotonic()
                if await _kept_alive(name, begin):
                    return
                self._restarts[name] += 1
                self._failing.add(name)
                await asyncio.sleep(pauses.next(monotonic() - since))
                self._failing.discard(name)
        finally:
            self._failing.discard(name)


def spawn(name: str, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Runs `work` in a task that belongs to the caller, who waits for it or cancels it before it goes."""
    return asyncio.create_task(work, name=name)


async def _once(name: str, work: Work) -> None:
    await _guarded(name, lambda: work)


async def _kept_alive(name: str, begin: Callable[[], Work]) -> bool:
    """As `_guarded`; a cancellation that nobody asked of this task is a failure of what it waited for."""
    task = asyncio.current_task()
    try:
        return await _guarded(name, begin)
    except asyncio.CancelledError:
        if task is None or task.cancelling():
            raise
        _log.exception("the task %s failed", name)
        return False


async def _guarded(name: str, begin: Callable[[], Work]) -> bool:
    """Whether it came to its own end."""
    try:
        await begin()
    except Exception:  # the supervisor's, one of three places that catch everything
        _log.exception("the task %s failed", name)
        return False
    return True
