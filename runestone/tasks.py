"""The only place that creates tasks: each has a name, an owner, and an end that is waited for.

Rule: a task that fails is logged by name; it never takes the server along.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger("runestone.tasks")


class Supervisor:
    """Owns the tasks it starts; `close` ends them all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs `work` in a task of its own."""
        task = asyncio.create_task(_guarded(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before its first step was never awaited
        return task

    async def close(self) -> None:
        """Cancels what still runs and waits until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def spawn(name: str, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Runs `work` in a task that belongs to the caller, who waits for it or cancels it before it goes."""
    return asyncio.create_task(work, name=name)


async def _guarded(name: str, work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except Exception:  # the supervisor's, one of three places that catch everything
        _log.exception("the task %s failed", name)
