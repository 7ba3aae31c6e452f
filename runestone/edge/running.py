"""The calls that run now, so that a draining server can wait for them, and end what outlasts its patience.

Rule: what is cut is told so, in its own dialect: it has not been left by its client.
"""

from __future__ import annotations

import asyncio
from typing import Any

from runestone.errors import Unavailable


class Running:
    """The handlers of calls. `draining` refuses new ones; `is_cut` tells a cancelled one that we did it."""

    def __init__(self) -> None:
        self.draining = False
        self.is_cut = False
        self.streams = 0
        """Streams that run now."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._none = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> asyncio.Task[Any] | None:
        """Counts the calling task in. Raises Unavailable while draining."""
        if self.draining:
            raise shutting_down()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)  # handed in: until Python 3.12 asking for the loop costs a system call
        if task is not None:
            self._tasks.add(task)
        return task

    def leave(self, task: asyncio.Task[Any] | None) -> None:
        """Counts it out."""
        if task is not None:
            self._tasks.discard(task)
            if self.draining and not self._tasks:
                self._none.set()

    def now(self) -> frozenset[asyncio.Task[Any]]:
        """The handlers that run."""
        return frozenset(self._tasks)

    def has_any(self, tasks: frozenset[asyncio.Task[Any]]) -> bool:
        """Whether any of these still runs."""
        return not self._tasks.isdisjoint(tasks)

    @property
    def count(self) -> int:
        """How many that are."""
        return len(self._tasks)

    async def drain(self, seconds: float) -> None:
        """Takes nothing new, waits for what runs, and cuts what still runs after `seconds`."""
        self.draining = True
        if await self._ends_within(seconds):
            return
        self.is_cut = True
        for task in self._tasks:
            task.cancel()
        await self._ends_within(1.0)

    async def _ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    self._none.clear()
                    await self._none.wait()
        except TimeoutError:
            return False
        return True


def shutting_down() -> Unavailable:
    """What a call hears that comes, or still runs, at the end."""
    return Unavailable("the gateway is shutting down", retry_after=1.0)
