"""A retry budget: how many calls beyond the first attempts may be made, so that retries cannot multiply an outage.

    extras in the window  <  share * first attempts in the window + reserve      then one more extra is allowed

Rule: an extra is a retry, a fallback or a hedge; whoever is refused one answers with the failure it has. The reserve
lets a quiet target be retried at all. Both counts slide together, in tenths of the window.
Source: the retry budgets of Finagle (https://twitter.github.io/finagle/guide/Clients.html#retries) and Google's SRE
book, "Handling Overload" (https://sre.google/sre-book/handling-overload/).
Deliberately absent: giving an extra back (a hedge that was cancelled has cost the provider all the same), and memory of
who asked.
"""

from __future__ import annotations

import math

SLOTS = 10
_ROUNDING = 1e-9  # 0.7 * 10 is a little more than 7


class Tally:
    """Two sums over a sliding window of `window` seconds, kept in ten slots.

    The youngest slot is still filling, so the sums cover the last 90 to 100 % of the window. A `now` that is a little
    older than one before counts in the youngest slot; one older than the whole window is another clock: the sums start
    anew. O(1) per call. Raises ValueError for a window that is not positive.
    """

    __slots__ = ("_firsts", "_newest", "_seconds", "_width", "first", "second")

    def __init__(self, window: float) -> None:
        if not 0 < window < math.inf:
            raise ValueError(f"a window has a positive length in seconds, not {window}")
        self._width = window / SLOTS
        self._newest = 0
        self.clear()

    def clear(self) -> None:
        """Both sums are 0."""
        self._firsts = [0] * SLOTS
        self._seconds = [0] * SLOTS
        self.first = 0
        self.second = 0

    def add(self, now: float, first: int = 0, second: int = 0) -> None:
        """Adds to both sums; with nothing to add it only lets go of what is too old."""
        number = math.floor(now / self._width)
        passed = number - self._newest
        if passed >= SLOTS or passed < -SLOTS:
            self.clear()
            self._newest = number
        elif passed > 0:
            for old in range(self._newest + 1, number + 1):
                slot = old % SLOTS
                self.first -= self._firsts[slot]
                self.second -= self._seconds[slot]
                self._firsts[slot] = self._seconds[slot] = 0
            self._newest = number
        slot = self._newest % SLOTS
        self._firsts[slot] += first
        self._seconds[slot] += second
        self.first += first
        self.second += second


class Budget:
    """Extras for one target, or for all of them. `window` is in seconds.

    Raises ValueError for a share or a reserve below 0 and for a window that is not positive.
    """

    __slots__ = ("_reserve", "_share", "_tally")

    def __init__(self, *, share: float = 0.2, window: float = 10.0, reserve: int = 3) -> None:
        if not 0 <= share < math.inf or reserve < 0:
            raise ValueError(f"share and reserve of a retry budget are not negative: {share}, {reserve}")
        self._share = share
        self._reserve = reserve
        self._tally = Tally(window)

    def call(self, now: float) -> None:
        """Counts a first attempt."""
        self._tally.add(now, first=1)

    def spend(self, now: float) -> bool:
        """Takes one extra; False, and nothing taken, when the window has had its share."""
        self._tally.add(now)
        if self._tally.second + _ROUNDING >= self._share * self._tally.first + self._reserve:
            return False
        self._tally.add(now, second=1)
        return True
