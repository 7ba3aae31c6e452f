"""What is known of one target: how long its first byte takes, how often it succeeds, how many calls it has now.

    latency   peak-EWMA: a slow answer is believed at once and fades over PEAK_FADES seconds to what is typical here;
              what is typical fades over MEMORY seconds to UNKNOWN_LATENCY, so that nobody is avoided for ever.
    success   EWMA of good and bad calls, each weighs EVENT_WEIGHT; fades to 1 over SUCCESS_FADES seconds.
    score     success, x FAILED_CHECK while an active check says no, x 0.8 to 1 for how slow it is by its own standards.

Rule: numbers only, O(1) in time and memory; `now` is monotonic seconds and comes in. A failure's latency counts only
when it is a slow one: a target that fails fast must not look fast. A call that says nothing (the caller's fault, or
cancelled) changes nothing but `in_flight`. A good call withdraws a failed check, for it is better evidence; a good
check does not mend `success`, for a cheap path that works says little of the model.
Source: Finagle's PeakEwma (com.twitter.finagle.loadbalancer.PeakEwma) and linkerd's, where an idle target's cost fades
to nothing in ten seconds. Answers of models take that long, so here only the peak fades so fast.
Absent on purpose: breaking (that decides, this knows), percentiles, any list of calls.
"""

from __future__ import annotations

from math import exp
from typing import Final

from runestone.errors import InternalError

UNKNOWN_LATENCY: Final = 1.0
PEAK_FADES: Final = 10.0
MEMORY: Final = 300.0
SUCCESS_FADES: Final = 60.0
EVENT_WEIGHT: Final = 0.1
SAMPLE_WEIGHT: Final = 0.25
"""The most that one answer moves what is typical: after a long silence one outlier is not the new normal."""
FAILED_CHECK: Final = 0.25
CHECK_LASTS: Final = 120.0
"""Seconds after which a failed check is no longer believed: checks may have been switched off."""
SLOWNESS_COSTS: Final = 0.2


class Health:
    """One target's. Every call `begin`s once and `end`s once."""

    __slots__ = ("_checked", "_failed_check", "_heard", "_peak", "_seen", "_success", "_typical", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        """Calls that have begun and not ended."""
        self._typical: float | None = None
        self._peak = 0.0  # by how much the last slow answer was above what was typical
        self._seen = 0.0  # when `_typical` and `_peak` were right
        self._success = 1.0
        self._heard = 0.0  # when `_success` was right
        self._failed_check = False
        self._checked = 0.0

    def begin(self, now: float) -> None:
        """A call goes out."""
        self.in_flight += 1

    def end(self, now: float, *, latency: float | None, ok: bool | None) -> None:
        """A call is over. `latency` is seconds to the first byte, None when none came; `ok` None says nothing.

        Raises InternalError when no call is out: someone counted twice.
        """
        if self.in_flight <= 0:
            raise InternalError("a call ended at a target where none had begun")
        self.in_flight -= 1
        if ok is None:
            return
        self._success = self.success(now) * (1 - EVENT_WEIGHT) + (EVENT_WEIGHT if ok else 0.0)
        self._heard = max(now, self._heard)
        if ok:
            self._failed_check = False
        if latency is not None and (ok or latency > self.latency(now)):
            self._observe(now, latency)

    def checked(self, now: float, ok: bool) -> None:
        """An active check of the target's provider came back."""
        self._failed_check = not ok
        self._checked = now

    @property
    def is_known(self) -> bool:
        """Whether any call has ended."""
        return self._heard > 0.0

    def has_failed_check(self, now: float) -> bool:
        """Whether the last active check failed, not long ago, and no call has gone well since."""
        return self._failed_check and now - self._checked < CHECK_LASTS

    def latency(self, now: float) -> float:
        """Seconds to the first byte to expect now; UNKNOWN_LATENCY when nothing is known."""
        idle = now - self._seen
        if self._typical is None:
            return UNKNOWN_LATENCY
        if idle <= 0.0:
            return self._typical + self._peak
        return self._settled(idle) + self._peak * exp(-idle / PEAK_FADES)

    def success(self, now: float) -> float:
        """The share of calls that succeed, 0 to 1; 1 when nothing is known, or nothing has been heard for long."""
        if self._success == 1.0:
            return 1.0
        idle = now - self._heard
        return 1.0 - (1.0 - self._success) * exp(-idle / SUCCESS_FADES) if idle > 0.0 else self._success

    def score(self, now: float) -> float:
        """0 (do not use) to 1 (as good as it gets). A failed check alone puts it below one half."""
        score = self.success(now)
        if self.has_failed_check(now):
            score *= FAILED_CHECK
        if self._typical is not None and self._peak > 0.0:
            idle = max(now - self._seen, 0.0)
            usual = self._settled(idle)
            expected = usual + self._peak * exp(-idle / PEAK_FADES)
            if expected > 0.0:
                score *= 1.0 - SLOWNESS_COSTS * (1.0 - usual / expected)
        return score

    def _settled(self, idle: float) -> float:
        """What is typical, after `idle` seconds without news."""
        typical = UNKNOWN_LATENCY if self._typical is None else self._typical
        return UNKNOWN_LATENCY + (typical - UNKNOWN_LATENCY) * exp(-max(idle, 0.0) / MEMORY)

    def _observe(self, now: float, latency: float) -> None:
        if self._typical is None:
            self._typical, self._peak, self._seen = latency, 0.0, now
            return
        idle = max(now - self._seen, 0.0)
        before = self.latency(now)
        kept = exp(-idle / PEAK_FADES)
        typical = self._typical + min(1.0 - kept, SAMPLE_WEIGHT) * (latency - self._typical)
        # At once up; down as far as the time since the last answer allows.
        level = latency if latency >= before else latency + (before - latency) * kept
        self._typical = typical
        self._peak = max(level - typical, 0.0)
        self._seen = max(now, self._seen)
