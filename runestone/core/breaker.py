"""A circuit breaker: a target that keeps failing is left alone for a while, then tried with a few calls.

    state       event     becomes     when
    closed      trip      open        `failures` in a row; or `least` outcomes in `window` seconds, `share` of them bad
    open        probe     half_open   a call asks, `reset_after` seconds after it opened
    half_open   trip      open        one probe fails
    half_open   recover   closed      `successes` probes succeed
    any         reset     closed      an operator says so

Rule: it only counts what it is told; whose fault an outcome was is decided by who calls `fail` or `forget`. Every
transition begins a generation, and an outcome counts only in the generation its call was admitted in: a call that was
under way when the breaker opened neither closes nor reopens it, however late it ends.
Source: M. Nygard, "Release It!", chapter "Circuit Breaker"; https://martinfowler.com/bliki/CircuitBreaker.html
Deliberately absent: growing pauses (a probe is cheap), time-outs (an admitted call ends by its own deadline), and a
clock: an open breaker turns half_open when it is asked, not when the time is up.
"""

from __future__ import annotations

from enum import StrEnum

from runestone.core.budget import Tally
from runestone.errors import InternalError

SLACK = 1e-6
"""Seconds: moments closer than this are the same, so that waiting for exactly `retry_after` is enough."""
PROBE_WAIT = 1.0
"""Seconds: what `retry_after` says while all probes are under way; when they end nobody can know."""


class State(StrEnum):
    """What a breaker does with a call: let it through, refuse it, or let a few through to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(StrEnum):
    """What can happen to a breaker; see the table above."""

    TRIP = "trip"
    PROBE = "probe"
    RECOVER = "recover"
    RESET = "reset"


TRANSITIONS = {
    (State.CLOSED, Event.TRIP): State.OPEN,
    (State.OPEN, Event.PROBE): State.HALF_OPEN,
    (State.HALF_OPEN, Event.TRIP): State.OPEN,
    (State.HALF_OPEN, Event.RECOVER): State.CLOSED,
    (State.CLOSED, Event.RESET): State.CLOSED,
    (State.OPEN, Event.RESET): State.CLOSED,
    (State.HALF_OPEN, Event.RESET): State.CLOSED,
}


class Breaker:
    """The breaker of one target. Times are in seconds, `share` is between 0 and 1.

    Every `admit` that says True is followed by exactly one of `succeed`, `fail` and `forget`, each O(1). Give them the
    `generation` read right after `admit`; without it the calls of earlier generations are taken to end first, which
    never lets a late outcome count but may hold back a probe's while old calls are still under way.
    Raises ValueError for counts below 1, times that are not positive and a share outside (0, 1].
    """

    __slots__ = (
        "_current",
        "_failures",
        "_generation",
        "_least",
        "_opened",
        "_probes",
        "_reset_after",
        "_row",
        "_share",
        "_stale",
        "_state",
        "_successes",
        "_tally",
    )

    def __init__(
        self,
        *,
        failures: int = 5,
        successes: int = 2,
        reset_after: float = 30.0,
        share: float = 0.5,
        window: float = 30.0,
        least: int = 20,
        probes: int = 2,
    ) -> None:
        if min(failures, successes, least, probes) < 1 or reset_after <= 0 or not 0 < share <= 1:
            raise ValueError("a breaker needs counts of at least 1, a positive reset_after and a share in (0, 1]")
        self._failures = failures
        self._successes = successes
        self._reset_after = reset_after
        self._share = share
        self._least = least
        self._probes = probes
        self._state = State.CLOSED
        self._opened = 0.0
        self._row = 0  # failures in a row while closed, successes while half_open
        self._tally = Tally(window)  # outcomes, failures
        self._generation = 1
        self._current = 0  # admitted in this generation and under way
        self._stale = 0  # admitted in an earlier one and under way

    @property
    def state(self) -> State:
        """As of the last event: an open breaker whose time is up is open until somebody asks `admit`."""
        return self._state

    @property
    def generation(self) -> int:
        """Changes with every transition; to be handed back with the outcome of a call admitted now."""
        return self._generation

    def admit(self, now: float) -> bool:
        """Whether a call may go to the target now. Turns an open breaker half_open when its time is up."""
        if self._state is State.OPEN:
            if self.retry_after(now) > 0:
                return False
            self._move(Event.PROBE)
        if self._state is State.HALF_OPEN and self._current >= self._probes:
            return False
        self._current += 1
        return True

    def succeed(self, now: float, generation: int | None = None) -> None:
        """An admitted call went well. Raises InternalError when no call is under way."""
        if not self._over(generation):
            return
        if self._state is State.HALF_OPEN:
            self._row += 1
            if self._row >= self._successes:
                self._move(Event.RECOVER)
        else:
            self._row = 0
            self._tally.add(now, first=1)
            self._trip_if_bad(now)

    def fail(self, now: float, generation: int | None = None) -> None:
        """An admitted call failed, by the target's fault. Raises InternalError when no call is under way."""
        if not self._over(generation):
            return
        if self._state is State.HALF_OPEN:
            self._trip(now)
        else:
            self._row += 1
            self._tally.add(now, first=1, second=1)
            self._trip_if_bad(now)

    def forget(self, now: float, generation: int | None = None) -> None:
        """An admitted call ended and says nothing about the target: the caller's fault, or cancelled.

        Raises InternalError when no call is under way.
        """
        self._over(generation)

    def retry_after(self, now: float) -> float:
        """Seconds until it may admit again, 0.0 when it would now, PROBE_WAIT while all probes are under way."""
        if self._state is State.OPEN:
            self._opened = min(self._opened, now)  # a clock that was set back does not prolong the pause
            wait = self._opened + self._reset_after - now
            return wait if wait > SLACK else 0.0
        if self._state is State.HALF_OPEN and self._current >= self._probes:
            return min(PROBE_WAIT, self._reset_after)
        return 0.0

    def reset(self, now: float) -> None:
        """Closed, all counts empty; what is under way will not count."""
        self._move(Event.RESET)

    def _over(self, generation: int | None) -> bool:
        """Whether the outcome of the call that ended counts."""
        counts = not self._stale if generation is None else generation == self._generation
        if counts and self._current:
            self._current -= 1
        elif not counts and self._stale:
            self._stale -= 1
        else:
            raise InternalError("a breaker was told the outcome of a call it has not admitted, or was told twice")
        return counts

    def _trip_if_bad(self, now: float) -> None:
        tally = self._tally
        if self._row >= self._failures or (tally.first >= self._least and tally.second >= self._share * tally.first):
            self._trip(now)

    def _trip(self, now: float) -> None:
        self._move(Event.TRIP)
        self._opened = now

    def _move(self, event: Event) -> None:
        """The one place where the state changes."""
        state = TRANSITIONS.get((self._state, event))
        if state is None:
            raise InternalError(f"a breaker that is {self._state} cannot {event}")
        self._state = state
        self._generation += 1
        self._stale += self._current
        self._current = 0
        self._row = 0
        self._tally.clear()
