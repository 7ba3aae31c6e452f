"""A quantile of the latest values: exact over a short memory, recomputed only now and then.

Rule: bounded memory; with too few values there is no answer, because a guess would be acted upon.
"""

from __future__ import annotations

from collections import deque

MEMORY = 256
LEAST = 20
_FRESH = 16


class Quantile:
    """The `q` quantile (0 to 1) of the last MEMORY values."""

    __slots__ = ("_new", "_q", "_value", "_values")

    def __init__(self, q: float) -> None:
        self._q = q
        self._values: deque[float] = deque(maxlen=MEMORY)
        self._value: float | None = None
        self._new = 0

    def add(self, value: float) -> None:
        """Takes a value in."""
        self._values.append(value)
        self._new += 1

    def at_least(self, value: float) -> None:
        """Takes in a value that is known only to be no smaller: it says something if it lies beyond the quantile."""
        if self._value is not None and value > self._value:
            self.add(value)

    def value(self) -> float | None:
        """The quantile, at most 16 values old; None below LEAST values."""
        if len(self._values) < LEAST:
            return None
        if self._value is None or self._new >= _FRESH:
            ordered = sorted(self._values)
            self._value = ordered[min(int(self._q * len(ordered)), len(ordered) - 1)]
            self._new = 0
        return self._value
