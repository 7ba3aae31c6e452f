"""When small questions that wait together are sent as one.

    nothing under way                       what is there goes at once: an idle gateway adds no delay
    as many waiting as are worth it         they go, as one, while fewer than `concurrency` batches are under way
    the oldest has waited long enough       they go, few as they are
    the oldest has waited `timeout`         they go, however many batches are under way

As many as are worth it: what arrives, at the rate of the last seconds, while a batch is under way, shared among the
batches that may be under way (Little's law), from 1 to `most`. Long enough: the time in which that many arrive, if the
rate holds; so a lull sends what there is.

Rule: pure and O(1); `now` comes in, the next deadline goes out. In order: the longest waiting go first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FADES = 1.0
"""Seconds in which the arrival rate forgets all but a third of what it knew."""
LEARNS = 0.2
"""How much a batch's latency changes what is expected of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`most` items of a batch; `timeout` seconds an item ever waits; `concurrency` batches under way at a time;
    not `adaptive`: a batch is worth it when it is full.
    """

    most: int
    timeout: float
    concurrency: int
    adaptive: bool


class Window:
    """The waiting of one kind of question. Counts only; the caller keeps the items, oldest first."""

    __slots__ = ("_bounds", "_latency", "_rate", "_seen", "under_way")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._rate = 0.0
        self._seen: float | None = None
        self._latency: float | None = None
        self.under_way = 0

    def arrive(self, now: float) -> None:
        """An item has come."""
        if self._seen is not None:
            self._rate *= math.exp(-max(now - self._seen, 0.0) / FADES)
        self._rate += 1.0 / FADES
        self._seen = now

    def begin(self) -> None:
        """A batch has gone."""
        self.under_way += 1

    def end(self, latency: float | None) -> None:
        """A batch is back; `latency` in seconds, None when it says nothing."""
        self.under_way -= 1
        if latency is not None:
            known = self._latency
            self._latency = latency if known is None else known + LEARNS * (latency - known)

    @property
    def worth(self) -> int:
        """As many items as are worth sending together now."""
        bounds = self._bounds
        if not bounds.adaptive:
            return bounds.most
        arriving = self._rate * (self._latency or 0.0) / bounds.concurrency
        return max(1, min(bounds.most, round(arriving)))

    def due(self, waiting: int, oldest: float, now: float) -> bool:
        """Whether a batch should go, with `waiting` items of which the oldest came at `oldest`."""
        if not waiting:
            return False
        if self.under_way == 0 or now >= oldest + self._bounds.timeout:
            return True
        if self.under_way >= self._bounds.concurrency:
            return False
        return waiting >= self.worth or now >= oldest + self._patience()

    def deadline(self, oldest: float) -> float:
        """When to ask again if nothing happens before."""
        if self.under_way >= self._bounds.concurrency:
            return oldest + self._bounds.timeout
        return oldest + self._patience()

    def _patience(self) -> float:
        """Seconds the oldest waits for company."""
        timeout = self._bounds.timeout
        return timeout if not self._bounds.adaptive else min(timeout, self.worth / max(self._rate, 1e-9))
