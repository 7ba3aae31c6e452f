"""When small questions that wait together are sent as one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count, cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.window import FADES, LEARNS, Bounds, Window

TIMEOUT = 0.1
ROUNDING = 1e-9


def bounds(most: int = 10, timeout: float = TIMEOUT, concurrency: int = 5, *, adaptive: bool = True) -> Bounds:
    return Bounds(most=most, timeout=timeout, concurrency=concurrency, adaptive=adaptive)


def busy(
    wanted: Bounds, *, rate: float = 100.0, latency: float = 0.2, under_way: int = 1, seconds: float = 10.0
) -> Window:
    """A window that has seen `rate` arrivals a second up to 0.0, batches of `latency`, and has some under way."""
    window = Window(wanted)
    window.begin()
    window.end(latency)
    for number in range(round(rate * seconds), -1, -1):
        window.arrive(-number / rate)
    for _ in range(under_way):
        window.begin()
    return window


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("waiting", [1, 3, 10, 1000])
def test_an_idle_window_adds_no_delay(waiting: int, adaptive: bool) -> None:
    """With nothing under way what is there goes in the moment it came, however much came before."""
    fresh, seasoned = Window(bounds(adaptive=adaptive)), busy(bounds(adaptive=adaptive), rate=1000.0, under_way=0)
    for window in (fresh, seasoned):
        window.arrive(0.0)
        assert window.due(waiting, 0.0, 0.0)


@pytest.mark.parametrize("under_way", [0, 1, 5, 9])
@pytest.mark.parametrize("now", [0.0, 0.1, 1e9])
def test_nothing_waiting_is_never_due(under_way: int, now: float) -> None:
    """There is nothing to send."""
    assert not busy(bounds(), under_way=under_way).due(0, 0.0, now)


@pytest.mark.parametrize(
    ("rate", "latency", "concurrency", "worth"),
    [
        (100.0, 0.2, 5, 4),
        (90.0, 0.2, 5, 4),
        (85.0, 0.2, 5, 3),
        (100.0, 0.2, 2, 10),
        (1000.0, 0.03, 5, 6),
        (1000.0, 0.03, 6, 5),
        (200.0, 0.05, 1, 10),
        (40.0, 0.5, 10, 2),
        (10.0, 0.1, 5, 1),
        (100.0, 0.01, 1, 1),
    ],
)
def test_littles_law_says_how_many_are_worth_it(rate: float, latency: float, concurrency: int, worth: int) -> None:
    """Arrivals a second, times the seconds a batch is under way, shared among those that may be."""
    assert busy(bounds(most=50, concurrency=concurrency), rate=rate, latency=latency).worth == worth


def test_the_window_grows_with_arrivals_and_with_latency() -> None:
    """And shrinks with them; with as many under way as may be it is a smaller share for each."""
    by_rate = [busy(bounds(most=100), rate=rate).worth for rate in (10.0, 100.0, 300.0, 1000.0)]
    by_latency = [busy(bounds(most=100), latency=latency).worth for latency in (0.01, 0.2, 0.5, 2.0)]
    by_concurrency = [busy(bounds(most=100, concurrency=number), rate=300.0).worth for number in (20, 5, 2, 1)]
    for grown in (by_rate, by_latency, by_concurrency):
        assert grown == sorted(set(grown))


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(-1, 5), st.none() | st.floats(0, 1e6)), max_size=60),
)
def test_between_one_and_the_most_are_worth_it(
    most: int, concurrency: int, steps: list[tuple[float, float | None]]
) -> None:
    """Whatever the arrivals and latencies, and whatever the clock does; not adaptive, it is always the most."""
    adaptive, full = Window(bounds(most, 1.0, concurrency)), Window(bounds(most, 1.0, concurrency, adaptive=False))
    now = 0.0
    for pause, latency in steps:
        now += pause
        for window in (adaptive, full):
            window.arrive(now)
            window.begin()
            window.end(latency)
        assert 1 <= adaptive.worth <= most
        assert full.worth == most


def test_without_a_known_latency_one_is_worth_it() -> None:
    """Until a batch has come back there is nothing to expect, and no reason to wait."""
    window = Window(bounds())
    for number in range(1000):
        window.arrive(number / 1000)
    window.begin()
    window.end(None)
    assert window.worth == 1


def test_the_rate_fades() -> None:
    """A lull of FADES leaves a third of what was known; after five of them an item is alone again."""
    for pause, worth in ((0.0, 30), (FADES, 11), (2 * FADES, 4), (5 * FADES, 1), (1e6, 1)):
        window = busy(bounds(most=100), rate=300.0, latency=0.5)
        window.arrive(pause)
        assert window.worth == worth


def test_a_clock_that_steps_back_does_no_harm() -> None:
    """No time has passed, then: the rate neither fades nor grows but by what arrives."""
    window, still = (busy(bounds(most=100), rate=300.0, latency=0.5) for _ in range(2))
    for _ in range(30):
        still.arrive(0.0)
    for back in (0.001, 1.0, 1e9):
        for _ in range(10):
            window.arrive(-back)
    assert window.worth == still.worth


def test_the_latency_is_learned_bit_by_bit() -> None:
    """The first is believed, each one after it moves the expectation by LEARNS; one that says nothing does not."""
    window = busy(bounds(most=1000, concurrency=1), rate=1000.0, latency=0.1, under_way=0)
    rate = window.worth / 0.1
    expected = 0.1
    for latency in (0.5, 0.5, None, 0.0, 0.2, None):
        window.begin()
        window.end(latency)
        expected += 0.0 if latency is None else LEARNS * (latency - expected)
        assert window.worth == pytest.approx(rate * expected, abs=1)


def test_batches_under_way_are_counted() -> None:
    """Each that has gone, until it is back, with or without something to say."""
    window = Window(bounds())
    for _ in range(3):
        window.begin()
    window.end(0.1)
    window.end(None)
    assert window.under_way == 1


PATIENCE = 4 / 100.5  # busy() with its defaults: 4 are worth it, and arrive at 100 a second


@pytest.mark.parametrize(
    ("under_way", "waiting", "waited", "is_due"),
    [
        (0, 1, 0.0, True),  # nothing under way
        (1, 1, 0.0, False), (1, 3, 0.0, False), (1, 4, 0.0, True), (4, 4, 0.0, True), (4, 50, 0.0, True),
        (1, 1, PATIENCE * 0.9, False), (1, 1, PATIENCE * 1.1, True), (4, 3, PATIENCE * 1.1, True),
        (5, 4, 0.0, False), (5, 1000, 0.0, False), (5, 4, PATIENCE * 1.1, False), (9, 1000, TIMEOUT * 0.99, False),
        (5, 1, TIMEOUT, True), (9, 1000, TIMEOUT, True), (99, 1, TIMEOUT * 2, True),
    ],
)  # fmt: skip
def test_what_is_due(under_way: int, waiting: int, waited: float, is_due: bool) -> None:
    """Enough of them or long enough, while fewer than `concurrency` are under way; after `timeout`, whatever is."""
    assert busy(bounds(), under_way=under_way).due(waiting, 0.0, waited) is is_due


@pytest.mark.parametrize(
    ("under_way", "waiting", "waited", "is_due"),
    [
        (0, 1, 0.0, True),
        (1, 9, 0.0, False), (1, 9, TIMEOUT * 0.99, False), (1, 10, 0.0, True), (4, 11, 0.0, True),
        (5, 10, TIMEOUT * 0.99, False), (1, 1, TIMEOUT, True), (5, 1, TIMEOUT, True), (9, 10, TIMEOUT, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rate", [1.0, 1000.0])
def test_not_adaptive_it_waits_until_it_is_full(
    under_way: int, waiting: int, waited: float, is_due: bool, rate: float
) -> None:
    """Or for the timeout; arrivals and latency make no difference."""
    assert busy(bounds(adaptive=False), rate=rate, under_way=under_way).due(waiting, 0.0, waited) is is_due


def test_a_lull_sends_what_there_is() -> None:
    """Who waits for company waits only as long as it should take to come: much less than the timeout."""
    window = busy(bounds(timeout=60.0))
    deadline = window.deadline(0.0)
    assert deadline == pytest.approx(PATIENCE, rel=0.02)
    assert not window.due(2, 0.0, deadline - 0.001)
    assert window.due(2, 0.0, deadline)


STEPS = st.lists(st.tuples(st.sampled_from("aaaabe"), st.floats(0, 0.5), st.floats(0, 2)), max_size=80)
BOUNDS = st.builds(
    bounds,
    most=st.integers(1, 20),
    timeout=st.sampled_from([0.0, 0.001, 0.1, 3.0]),
    concurrency=st.integers(1, 6),
    adaptive=st.booleans(),
)


@given(BOUNDS, STEPS, st.integers(1, 30), st.floats(0, 1))
def test_who_asks_again_at_the_deadline_does_not_ask_in_vain(
    wanted: Bounds, steps: list[tuple[str, float, float]], waiting: int, waited: float
) -> None:
    """What is not due has a deadline that is still to come, and is due then; never later than the timeout."""
    window, now = Window(wanted), 1000.0
    for verb, pause, latency in steps:
        now += pause
        if verb == "a":
            window.arrive(now)
        elif verb == "b":
            window.begin()
        elif window.under_way:
            window.end(latency)
    oldest = now - waited * wanted.timeout
    deadline = window.deadline(oldest)
    assert oldest <= deadline <= oldest + wanted.timeout
    assert window.due(waiting, oldest, deadline)
    assert window.due(waiting, oldest, oldest + wanted.timeout)
    if not window.due(waiting, oldest, now):
        assert now < deadline


class Line:
    """What stands in line before a window, on a clock of its own: asks as gateway/batch.py does, and notes what goes.

    `serve(now, items)` says when a batch that goes now is back.
    """

    def __init__(self, wanted: Bounds, serve: Callable[[float, int], float]) -> None:
        self.window = Window(wanted)
        self._bounds = wanted
        self._serve = serve
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = count()
        self._queue: deque[tuple[int, float]] = deque()
        self._timer = math.inf
        self._after: Callable[[int], None] = lambda _: None
        self.now = 0.0
        self.batches: list[tuple[list[int], list[float], int]] = []
        """Who went together, how long each had waited, and how many batches were under way before."""
        self.answered: list[float] = []

    def at(self, when: float, what: Callable[..., None], *told: object) -> None:
        heappush(self._events, (when, next(self._order), what, told))

    def ask(self, who: int) -> None:
        self.window.arrive(self.now)
        self._queue.append((who, self.now))
        self._look()

    def run(self, until: float = math.inf) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what, told = heappop(self._events)
            what(*told)

    def closed(self, callers: int, until: float) -> None:
        """Each caller asks anew as soon as it is answered."""
        self._after = self.ask
        for who in range(callers):
            self.at(0.0, self.ask, who)
        self.run(until)

    def _look(self, due: float | None = None) -> None:
        """Sends what is due; `due`: for a timer, which may have been set anew since."""
        window, queue = self.window, self._queue
        if due not in (None, self._timer):
            return
        while queue and window.due(len(queue), queue[0][1], self.now):
            items = [queue.popleft() for _ in range(min(self._bounds.most, len(queue)))]
            who = [name for name, _ in items]
            self.batches.append((who, [self.now - came for _, came in items], window.under_way))
            window.begin()
            self.at(self._serve(self.now, len(items)), self._back, who, self.now)
        self._timer = max(window.deadline(queue[0][1]), self.now) if queue else math.inf
        if queue:
            self.at(self._timer, self._look, self._timer)

    def _back(self, who: Sequence[int], began: float) -> None:
        self.window.end(self.now - began)
        self.answered += [self.now] * len(who)
        self._look()
        for name in who:
            self._after(name)


class Provider:
    """20 ms for a call and 1 ms for each item in it, on 10 connections; a call waits for the first that is free."""

    def __init__(self, connections: int = 10) -> None:
        self._free = [0.0] * connections

    def __call__(self, now: float, items: int) -> float:
        back = max(now, heappop(self._free)) + 0.020 + 0.001 * items
        heappush(self._free, back)
        return back


@given(
    BOUNDS,
    st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.1, 2.0]), max_size=80),
    st.lists(st.sampled_from([0.0, 0.005, 0.05, 1.0, 50.0]), min_size=1, max_size=10),
)
def test_a_window_keeps_its_promises(wanted: Bounds, pauses: list[float], latencies: list[float]) -> None:
    """Everybody goes once, in order, at most `most` together; more than `concurrency` only past the timeout.

    And the timeout is the most that anybody ever waits, though nothing ever came back.
    """
    latency = cycle(latencies)
    line, came = Line(wanted, lambda now, _: now + next(latency)), 0.0
    for who, pause in enumerate(pauses):
        came += pause
        line.at(came, line.ask, who)
    line.run()
    assert [name for who, _, _ in line.batches for name in who] == list(range(len(pauses)))
    for who, waits, under_way in line.batches:
        assert len(who) <= wanted.most
        assert max(waits) <= wanted.timeout + ROUNDING
        assert under_way < wanted.concurrency or waits[0] >= wanted.timeout - ROUNDING
    assert line.window.under_way == 0


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("pause", [0.05, 1.0, 10.0])
def test_one_call_at_a_time_never_waits(pause: float, adaptive: bool) -> None:
    """Who asks when everything has been answered goes up at once."""
    line = Line(bounds(adaptive=adaptive), Provider())
    for number in range(50):
        line.at(number * pause, line.ask, number)
    line.run()
    assert [waits for _, waits, _ in line.batches] == [[0.0]] * 50


def throughput(wanted: Bounds, callers: int = 200, seconds: float = 5.0) -> tuple[float, Line]:
    line = Line(wanted, Provider())
    line.closed(callers, seconds)
    return sum(at > 1.0 for at in line.answered) / (seconds - 1.0), line


def test_together_is_at_least_three_times_as_fast_as_alone() -> None:
    """200 callers who each ask again when they are answered, through 5 batches of 10 or by 10 connections."""
    alone, _ = throughput(bounds(most=1, timeout=0.0, concurrency=10))
    together, line = throughput(bounds())
    assert alone == pytest.approx(10 / 0.021, rel=0.01)
    assert together >= 3 * alone
    assert max(wait for _, waits, _ in line.batches for wait in waits) <= TIMEOUT + ROUNDING


@pytest.mark.parametrize("callers", [1, 2, 5, 20, 50])
def test_few_callers_are_not_slower_for_it(callers: int) -> None:
    """Company is only waited for where it is likely: a closed loop loses at most a fifth, and mostly gains."""
    alone, _ = throughput(bounds(most=1, timeout=0.0, concurrency=10), callers)
    together, _ = throughput(bounds(), callers)
    assert together >= 0.8 * alone
