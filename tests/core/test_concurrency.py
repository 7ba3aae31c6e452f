"""The adaptive concurrency limit, against scripted servers."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest

from runestone.core.concurrency import Concurrency
from runestone.errors import InternalError

IDLE = 0.1  # seconds a server takes that has nothing else to do
Answer = Callable[[int, float], tuple[float, bool]]  # calls in flight, now -> seconds, overloaded


class Simulation:
    """`callers` ask as often as they are let in; `answer` says how long each call takes and whether it fails."""

    def __init__(self, limit: Concurrency, answer: Answer, callers: int = 10**6, stream: float = 0.0) -> None:
        self.limit, self.answer, self.callers, self.stream = limit, answer, callers, stream
        self.now, self.number = 0.0, 0
        self.calls: list[tuple[float, int, float, bool]] = []
        self.seen = [limit.limit]

    def run(self, leaves: int) -> list[int]:
        """The limits after each of so many calls."""
        for _ in range(leaves):
            while len(self.calls) < self.callers and self.limit.enter():
                latency, overloaded = self.answer(self.limit.in_flight, self.now)
                self.number += 1
                lasts = latency if overloaded else latency + self.stream
                heapq.heappush(self.calls, (self.now + lasts, self.number, latency, overloaded))
            self.now, _, latency, overloaded = heapq.heappop(self.calls)
            self.limit.leave(self.now, latency=latency, overloaded=overloaded)
            self.seen.append(self.limit.limit)
        return self.seen[-leaves:]


def queueing(capacity: int, noise: float = 0.0, idle: float = IDLE) -> Answer:
    """Latency rises in line with what is in flight beyond the capacity; `noise` is a lognormal sigma."""
    dice = random.Random(capacity)
    return lambda flying, now: (idle * max(1.0, flying / capacity) * dice.lognormvariate(0, noise), False)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("stream", [0.0, 2.0], ids=["short", "streams"])
@pytest.mark.parametrize(("capacity", "initial"), [(100, 10), (100, 100), (100, 800), (30, 400), (400, 20)])
def test_the_limit_finds_the_capacity(capacity: int, initial: int, stream: float, noise: float) -> None:
    """From below and from above it settles within a factor of two of what the server can do, and stays there.

    Where latencies scatter, most of the time, and within a factor of three always.
    """
    simulation = Simulation(Concurrency(initial=initial), queueing(capacity, noise), stream=stream)
    limits = sorted(simulation.run(60_000)[20_000:])
    strays = int(len(limits) * 0.1 * noise)
    assert capacity / 2 <= limits[strays]
    assert limits[-1 - strays] <= 2 * capacity
    assert capacity / 3 <= limits[0] <= limits[-1] <= 3 * capacity


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("initial", [4, 10, 100, 500])
def test_a_healthy_server_is_given_more(initial: int, noise: float) -> None:
    """Where latency does not depend on the load, the limit does not sink, however much single calls differ."""
    simulation = Simulation(Concurrency(initial=initial), queueing(10**9, noise), callers=max(1, initial // 4))
    simulation.run(20 * initial)
    simulation.callers = 10**6
    limits = simulation.run(20_000)
    assert min(limits) >= 0.8 * initial
    assert limits[-1] > initial


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("initial", [4, 10, 100, 500])
def test_a_healthy_server_is_believed_after_a_cold_start(initial: int, noise: float) -> None:
    """Out of a burst the quickest answers come first and make the rest look slow: one trial finds that out."""
    limits = Simulation(Concurrency(initial=initial), queueing(10**9, noise)).run(40_000)
    assert min(limits) >= int(0.4 * initial)
    assert limits[-1] > initial


@pytest.mark.parametrize("callers", [1, 10, 49])
def test_a_limit_that_is_not_used_stays(callers: int) -> None:
    """Neither does it grow for a server that was never asked for more, nor sink for answers that became slower."""
    simulation = Simulation(Concurrency(), queueing(10**9), callers=callers)
    assert set(simulation.run(2000)) == {100}
    simulation.answer = queueing(10**9, idle=5 * IDLE)
    assert set(simulation.run(2000)) == {100}


def test_an_overload_that_lasts_does_not_become_the_norm() -> None:
    """After thousands of round trips at its capacity a server is still given what it can do, and no more."""
    simulation = Simulation(Concurrency(initial=30), queueing(30, 0.5))
    simulation.run(150_000)
    limits = sorted(simulation.run(20_000))
    assert 20 <= limits[10_000] <= 60
    assert 10 <= limits[0] <= limits[-1] <= 90


def rejecting(capacity: int) -> Answer:
    """Beyond its capacity the server answers 429 at once."""
    return lambda flying, now: (IDLE / 10, True) if flying > capacity else (IDLE, False)


@pytest.mark.parametrize("stream", [0.0, 2.0], ids=["short", "streams"])
@pytest.mark.parametrize("initial", [10, 100, 800])
def test_a_server_that_refuses_is_found_too(initial: int, stream: float) -> None:
    """Without any change of latency: what it refuses tells the limit."""
    limits = Simulation(Concurrency(initial=initial), rejecting(100), stream=stream).run(60_000)[30_000:]
    assert min(limits) >= 50
    assert max(limits) <= 200


def test_single_failures_are_no_overload() -> None:
    """5 % of answers are 503 by accident: the limit grows all the same."""
    dice = random.Random(5)
    limits = Simulation(Concurrency(), lambda flying, now: (IDLE, dice.random() < 0.05)).run(20_000)
    assert min(limits) >= 80
    assert limits[-1] > 100


def test_a_server_that_became_slower_keeps_its_calls() -> None:
    """Latency that does not follow the limit down is not of our making: it becomes the norm, far above the least."""
    simulation = Simulation(Concurrency(initial=200, most=200), queueing(10**9))
    simulation.run(5000)
    simulation.answer = queueing(10**9, idle=5 * IDLE)
    limits = simulation.run(20_000)
    assert min(limits) >= 80
    assert limits[-1] == 200


def test_a_server_that_lost_capacity_is_given_less_and_then_more_again() -> None:
    """The limit follows the server down, and up when it has recovered."""
    simulation = Simulation(Concurrency(initial=400), queueing(400))
    assert 200 <= simulation.run(20_000)[-1] <= 800
    simulation.answer = queueing(50)
    assert 25 <= simulation.run(20_000)[-1] <= 100
    simulation.answer = queueing(400)
    assert 200 <= simulation.run(40_000)[-1] <= 800


def test_an_outage_is_survived() -> None:
    """When everything is refused the limit sinks to the least and no lower; afterwards it comes back."""
    simulation = Simulation(Concurrency(), lambda flying, now: (IDLE / 10, True))
    assert min(simulation.run(5000)) == 4
    simulation.answer = queueing(100)
    assert 50 <= simulation.run(20_000)[-1] <= 200


def test_one_flight_lowers_the_limit_once() -> None:
    """A hundred calls that fail together are one event: the limit is lowered by a tenth, not to the ground."""
    limit = Concurrency(initial=100)
    assert [limit.enter() for _ in range(101)] == [True] * 100 + [False]
    for _ in range(100):
        limit.leave(1.0, latency=None, overloaded=True)
    assert limit.limit == 90


def test_what_says_nothing_changes_nothing() -> None:
    """Calls without a latency, or with one that is no time, only give their place back."""
    limit = Concurrency(initial=10, least=1)
    for latency in (None, -1.0, math.nan, math.inf) * 100:
        assert limit.enter()
        limit.leave(1.0, latency=latency, overloaded=False)
    assert (limit.limit, limit.in_flight) == (10, 0)


def test_a_clock_that_steps_back_does_not_stop_it() -> None:
    """Rounds end by their calls when the clock tells nonsense."""
    simulation = Simulation(Concurrency(), queueing(10**9))
    simulation.run(1000)
    simulation.now -= 1e6
    before = simulation.limit.limit
    assert simulation.run(5000)[-1] > before


def test_a_call_leaves_once() -> None:
    """Leaving twice would let more in than the limit: it is an error of ours."""
    limit = Concurrency()
    assert limit.enter()
    limit.leave(0.0, latency=0.1, overloaded=False)
    with pytest.raises(InternalError):
        limit.leave(0.0, latency=0.1, overloaded=False)


@pytest.mark.parametrize(
    "wrong",
    [{"least": 0}, {"initial": 3}, {"most": 99}, {"backoff": 0.0}, {"backoff": 1.0}, {"tolerance": 1.0}],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    """1 <= least <= initial <= most, backoff within (0, 1), tolerance above 1; else a ValueError."""
    with pytest.raises(ValueError):
        Concurrency(**wrong)
