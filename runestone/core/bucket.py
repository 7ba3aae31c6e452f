"""A rate limit: `limit` units per `period` seconds, all of them at once if they were saved up, refilled smoothly.

The generic cell rate algorithm in its form as virtual scheduling: one number is kept, the moment at which the bucket
is full again (the standard's theoretical arrival time). A unit is worth period / limit seconds and moves that moment
by as much; a cost fits when the moment stays within one period from now.

Rule: in any stretch of time at most `limit + limit * seconds / period` units are admitted; what is refused costs
nothing. A `now` older than one before is taken as that one; one older by more than a period is another clock, and what
was in use then is in use now, no more.
Source: ATM Forum, Traffic Management Specification 4.0, section 4.4.3 (GCRA);
https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
Deliberately absent: a burst other than the limit, and queues: the wait goes out as a value.
"""

from __future__ import annotations

import math

SLACK = 1e-6
"""Seconds: moments closer than this are the same, so that waiting for exactly `wait` is enough."""
MOST_DEBT = 60
"""Periods: what a mistaken correction can cost at most, so that it does not close a bucket for ever."""


class Bucket:
    """One limit of one key. O(1) per call. Raises ValueError for a limit below 1 or a period that is not positive."""

    __slots__ = ("_full", "_last", "_period", "_unit", "limit")

    def __init__(self, limit: int, period: float) -> None:
        if limit < 1 or not 0 < period < math.inf:
            raise ValueError(f"a limit is at least 1 in a positive number of seconds, not {limit} in {period}")
        self.limit = limit
        self._period = period
        self._unit = period / limit
        self._full = -math.inf
        self._last = -math.inf

    def wait(self, now: float, cost: float = 1) -> float:
        """Seconds until `cost` would be admitted if nothing else is: 0.0 = now, inf = never (more than the limit).

        Takes nothing. Raises ValueError for a negative cost.
        """
        if not cost >= 0:
            raise ValueError(f"a cost is not negative: {cost}")
        if cost > self.limit:
            return math.inf
        moment = self._moment(now)
        fits = max(self._full, moment) + cost * self._unit - self._period
        return 0.0 if fits - moment <= SLACK else fits - now

    def take(self, now: float, cost: float = 1) -> None:
        """Takes `cost`, after `wait` said 0.0 for the same moment. Raises ValueError, and takes nothing, otherwise."""
        if self.wait(now, cost) > 0:
            raise ValueError("the bucket does not hold that much: ask wait() first")
        self._full = max(self._full, self._moment(now)) + cost * self._unit

    def give(self, now: float, amount: float) -> None:
        """Corrects an estimate: a positive amount is given back, a negative one is taken, if need be as a debt.

        Never more than full, never deeper in debt than MOST_DEBT periods. Raises ValueError for what is not a number.
        """
        if math.isnan(amount):
            raise ValueError("an amount is a number")
        moment = self._moment(now)
        full = max(self._full, moment) - amount * self._unit
        self._full = min(full, max(self._full, moment + (MOST_DEBT + 1) * self._period))

    def remaining(self, now: float) -> int:
        """Whole units that would be admitted at once now."""
        free = self._period - self._used(now) + SLACK
        units = min(self.limit, max(0, math.floor(free / self._unit)))
        if units and self.wait(now, units) > 0:  # rounding must not promise what wait() denies
            return units - 1
        return units

    def reset(self, now: float) -> float:
        """Seconds until it is full, if nothing is taken."""
        used = self._used(now)
        return used + self._last - now if used > 0 else 0.0

    def _used(self, now: float) -> float:
        """What is taken and not yet refilled, in seconds."""
        moment = self._moment(now)
        return max(0.0, self._full - moment)

    def _moment(self, now: float) -> float:
        """The present: the latest `now` so far, or `now` itself when it comes from another clock."""
        behind = self._last - now
        if behind > self._period:
            self._full -= behind
            self._last = now
        elif behind < 0:
            self._last = now
        return self._last
