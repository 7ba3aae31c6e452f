"""How many calls a target can take at once, learned from how it answers.

Calls are judged in rounds. A round is one flight: it ends when as many calls have left as were in flight when it
began (and ten outcomes and one round trip have passed), so a limit changes at most once per round trip.

    the round                                                   the limit
    more than a tenth of its outcomes were overload             times `backoff`
    its mean latency is above `tolerance` times the long mean   times `backoff`, until the latency is calm again
    it is the thirtieth that was not calm                       times `backoff`, down to half
    its latency is calm and the limit was reached               plus half its square root
    anything else                                               stays

Rule: calm is the lower third of the way to `tolerance` (1.35 of 2.0), so between growing and shrinking there is a place
to rest. Latency lowers the limit only where the limit was reached: otherwise it is not ours to mend. After a cut
the calls still under way are not judged: they speak of the time before (TCP's `recover`, RFC 6582).
The long mean follows faster down than up, and where the limit was reached only as far up as noise goes, otherwise an
overload that lasts becomes the norm. A row of cuts is also a trial: if the limit has halved and the latency did not
follow, our calls are not the cause, and the latency becomes the norm. Thirty rounds that were not calm begin such a
trial as well, so that a long mean that is wrong, or has crept up, is measured anew (as BBR does with its ProbeRTT).
Source: Netflix concurrency-limits, Gradient2Limit and AIMDLimit (https://github.com/Netflix/concurrency-limits,
https://netflixtechblog.medium.com/performance-under-load-3e6fa9a60581); Brakmo and Peterson, "TCP Vegas" (1995).
Deliberately absent: queues; a memory of single calls (a round counts those that leave, whenever they entered); cuts
for accidents: up to a tenth of a round may fail.
"""

from __future__ import annotations

import math

from runestone.errors import InternalError

LEAST_OUTCOMES = 10  # of a round
OVERLOAD_SHARE = 0.1  # of the outcomes of a round; fewer are accidents, not a load
REACHED = 0.9  # of the limit in flight: it is really used
IDLE = 0.5  # of the limit in flight: our calls are not what makes a target slow
NOISE, CALM = 0.25, 0.35  # of the way from the long mean to `tolerance` times it
PATIENCE = 30  # uneasy rounds, less the calm ones, before half the limit is tried
DOWN, UP, UP_IDLE = 0.2, 0.02, 0.05  # how much of the difference the long mean takes on per round
HALVED, FOLLOWED = 0.5, 0.8  # limit and latency, against the first cut: the latency follows the limit, or does not
BEGUN = (math.inf, math.inf)
"""A row of cuts whose latency is still to be measured: that of the first round may be of a limit just reached."""


class _Round:
    """What is seen of one flight. `judged` is False for the flight that was under way when the limit was cut."""

    __slots__ = ("flight", "judged", "latencies", "left", "overloads", "peak", "started", "total")

    def __init__(self, flight: int, started: float | None, judged: bool) -> None:
        self.flight = flight
        self.started = started
        self.judged = judged
        self.peak = flight
        self.left = 0
        self.overloads = 0
        self.latencies = 0
        self.total = 0.0

    def over(self, now: float, round_trip: float) -> bool:
        if self.left < self.flight or (self.judged and self.latencies + self.overloads < LEAST_OUTCOMES):
            return False
        return self.started is None or not 0 <= now - self.started < round_trip


class Concurrency:
    """The limit of one target, between `least` and `most`. O(1) per call.

    Every `enter` that says True is followed by exactly one `leave`. Raises ValueError unless 1 <= least <= initial <=
    most, 0 < backoff < 1 and tolerance > 1.
    """

    __slots__ = (
        "_backoff",
        "_cut",
        "_estimate",
        "_least",
        "_long",
        "_most",
        "_round",
        "_tolerance",
        "_trial",
        "_uneasy",
        "in_flight",
    )

    def __init__(
        self, *, initial: int = 100, least: int = 4, most: int = 4000, backoff: float = 0.9, tolerance: float = 2.0
    ) -> None:
        if not 1 <= least <= initial <= most:
            raise ValueError(f"1 <= least <= initial <= most does not hold: {least}, {initial}, {most}")
        if not 0 < backoff < 1 or not 1 < tolerance < math.inf:
            raise ValueError(f"backoff is between 0 and 1, tolerance above 1: {backoff}, {tolerance}")
        self._estimate = float(initial)
        self._least = least
        self._most = most
        self._backoff = backoff
        self._tolerance = tolerance
        self._long: float | None = None  # seconds
        self._cut: tuple[float, float] | None = None  # limit and latency that a row of cuts is measured by
        self._uneasy = 0  # rounds that were neither calm nor unused, less those that were
        self._trial = False  # the row of cuts goes on to half the limit, calm or not
        self._round = _Round(0, None, judged=True)
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Calls at once."""
        return int(self._estimate)

    def enter(self) -> bool:
        """Takes a place; False, and nothing taken, when as many calls as the limit are in flight."""
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        self._round.peak = max(self._round.peak, self.in_flight)
        return True

    def leave(self, now: float, *, latency: float | None, overloaded: bool) -> None:
        """Gives a place back and learns from it.

        `latency`: seconds to the first byte, None when it says nothing; `overloaded`: 429, 503, 529 or a time-out,
        whose latency is not looked at. Raises InternalError when no call is in flight.
        """
        if not self.in_flight:
            raise InternalError("a concurrency limit was told the end of a call that has not entered")
        self.in_flight -= 1
        seen = self._round
        seen.left += 1
        if overloaded:
            seen.overloads += 1
        elif latency is not None and 0 <= latency < math.inf:
            seen.latencies += 1
            seen.total += latency
        if seen.over(now, self._long or 0.0):
            before = self._estimate
            if seen.judged:
                self._judge(seen)
            self._round = _Round(self.in_flight, now, judged=self._estimate >= before)

    def _judge(self, seen: _Round) -> None:
        """Moves the limit after a round."""
        latency = seen.total / seen.latencies if seen.latencies >= LEAST_OUTCOMES else None
        used = seen.peak / self.limit
        slow = self._slow(latency, used)
        if seen.overloads > OVERLOAD_SHARE * (seen.overloads + seen.latencies) or slow:
            self._estimate = max(self._least, self._estimate * self._backoff)
        elif latency is not None and used >= REACHED and latency <= self._calm():
            self._estimate = min(self._most, self._estimate + math.sqrt(self._estimate) / 2)

    def _calm(self) -> float:
        """Seconds: up to here a round's latency is nothing to worry about."""
        return (self._long or 0.0) * (1 + CALM * (self._tolerance - 1))

    def _slow(self, latency: float | None, used: float) -> bool:
        """Whether the round was slow because of our calls. The long mean learns from it."""
        if latency is None:
            return False
        if self._long is None:
            self._long = latency
        noise = self._long * (1 + NOISE * (self._tolerance - 1))
        if latency < self._long:
            self._long += DOWN * (latency - self._long)
        elif used < IDLE:
            self._long += UP_IDLE * (latency - self._long)
        elif latency <= noise:
            self._long += UP * (latency - self._long)
        calm = latency <= self._calm()
        if used < REACHED or (calm and not self._trial):
            self._uneasy = max(0, self._uneasy - 1)
            self._cut = None
            self._trial = False
            return False
        if self._cut is None:
            self._uneasy += 1
            self._trial = self._uneasy >= PATIENCE
            if not self._trial and latency <= self._tolerance * self._long:
                return False
        return self._ours(latency)

    def _ours(self, latency: float) -> bool:
        """Whether lower limits have brought lower latencies, or have still to show it."""
        if self._cut is None:
            self._cut = BEGUN
            if self._estimate > self._least:
                return True
        elif self._cut is BEGUN:
            self._cut = (self._estimate, latency)
        limit, before = self._cut
        if self._estimate > max(self._least, limit * HALVED):
            return True
        follows = latency <= before * FOLLOWED and self._estimate > self._least
        self._uneasy = 0
        self._trial = False
        if follows and latency > self._calm():
            self._cut = (self._estimate, latency)
            return True
        if not follows:
            self._long = latency
        self._cut = None
        return False
