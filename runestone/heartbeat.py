"""Whether the loop goes round: how late it is, and a word when it is stuck.

A task notes the time every BEAT and how late it was woken: whatever kept the loop busy kept every stream waiting for
so long. A thread looks at the note, and when it is older than `limit` it logs where the loop's thread stands, once for
each time it is stuck.
Rule: nothing of a stack is logged but places in the code.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from time import monotonic

from runestone.core.buckets import Buckets

BEAT = 0.1
"""Seconds from one beat to the next."""
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds a beat is late."""

_log = logging.getLogger("runestone.heartbeat")


class Heartbeat:
    """`limit` in seconds; `each` is called at every beat, by the loop: who waits for a sign of life gets it."""

    def __init__(self, limit: float, each: Callable[[], None] = lambda: None) -> None:
        self.limit = limit  # both may change
        self.lags = Buckets(BOUNDS)
        """Seconds that beats were late."""
        self.stalls = 0
        """How often the loop was stuck for longer than `limit`."""
        self.each = each
        self._last = monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last beat."""
        return monotonic() - self._last

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has not gone round for longer than `limit`; asked by the loop, until its next beat."""
        return self.age > self.limit

    async def run(self) -> None:
        """Beats until cancelled."""
        self._last = monotonic()
        stop = threading.Event()
        thread = threading.Thread(target=self._look, args=(threading.get_ident(), stop), name="heartbeat", daemon=True)
        thread.start()
        try:
            while True:
                await asyncio.sleep(BEAT)
                now = monotonic()
                self.lags.observe(max(now - self._last - BEAT, 0.0))
                self._last = now
                self.each()
        finally:
            stop.set()

    def samples(self) -> Iterator[tuple[str, dict[str, str], float | Buckets]]:
        """What metrics read at any time."""
        yield "loop_lag_seconds", {}, self.lags
        yield "loop_stalls_total", {}, self.stalls

    def _look(self, loop_thread: int, stop: threading.Event) -> None:
        """The thread."""
        told = 0.0
        while not stop.wait(min(self.limit / 4, 1.0)):
            last, age = self._last, self.age
            if age > self.limit and last != told:
                told = last
                self.stalls += 1
                frame = sys._current_frames().get(loop_thread)
                where = "".join(traceback.format_stack(frame)) if frame is not None else "its thread is gone"
                _log.error("the loop is stuck since %.1f s; it stands at\n%s", age, where)
