"""How values are spread: how many lie up to each of a few bounds, and their sum, as Prometheus' histograms have it.

Rule: numbers only; who counts may stand in any ring, and what they are called is telemetry's (telemetry/families.py).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Bounds for times that models take, and that callers wait."""


class Buckets:
    """`bounds` are upper bounds, inclusive, ascending; `counts` has one more, for what lies beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Takes a value in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def with_zeros(self, count: int) -> Buckets:
        """A copy that has seen nought `count` times more: for values nobody stops to note because they are nought."""
        copy = Buckets(self.bounds)
        copy.counts = self.counts.copy()
        copy.counts[0] += count
        copy.total = self.total
        return copy
