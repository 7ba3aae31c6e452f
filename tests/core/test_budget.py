"""The retry budget, and the sliding sums it is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.budget import Budget, Tally


def spent(budget: Budget, now: float, wanted: int) -> int:
    return sum(budget.spend(now) for _ in range(wanted))


def test_a_quiet_target_may_be_retried() -> None:
    """The reserve is there without any call."""
    assert spent(Budget(), 0.0, 10) == 3


@pytest.mark.parametrize(("share", "calls", "extras"), [(0.2, 100, 23), (0.0, 100, 3), (0.7, 10, 10), (1.0, 5, 8)])
def test_extras_are_a_share_of_the_calls(share: float, calls: int, extras: int) -> None:
    """share * calls + reserve, and no more."""
    budget = Budget(share=share)
    for _ in range(calls):
        budget.call(5.0)
    assert spent(budget, 5.0, 1000) == extras


def test_the_budget_comes_back() -> None:
    """A window later the extras are forgotten, and so are the calls that earned them."""
    budget = Budget(window=10)
    for _ in range(100):
        budget.call(0.0)
    assert spent(budget, 0.0, 100) == 23
    assert spent(budget, 8.9, 100) == 0
    assert spent(budget, 10.0, 100) == 3


@given(st.lists(st.tuples(st.floats(0, 0.9), st.booleans()), max_size=200))
def test_retries_cannot_multiply_an_outage(steps: list[tuple[float, bool]]) -> None:
    """Whatever the order, the extras of nine tenths of a window are at most the share of a window's calls + reserve."""
    budget, now = Budget(share=0.2, window=10.0, reserve=1), 0.0
    calls: list[float] = []
    extras: list[float] = []
    for pause, first in steps:
        now += pause
        if first:
            budget.call(now)
            calls.append(now)
        elif budget.spend(now):
            extras.append(now)
            recent = sum(at > now - 9 for at in extras)
            assert recent <= 0.2 * sum(at > now - 10 for at in calls) + 1 + 1


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5)), max_size=100))
def test_a_tally_covers_nine_to_ten_tenths_of_its_window(steps: list[tuple[float, int]]) -> None:
    """The sum lies between what the last 90 % and the last 100 % of the window held."""
    tally, now = Tally(10.0), 0.0
    events: list[tuple[float, int]] = []
    for pause, count in steps:
        now += pause
        events.append((now, count))
        tally.add(now, first=count)
        assert sum(n for at, n in events if at > now - 9) <= tally.first
        assert tally.first <= sum(n for at, n in events if at > now - 10)


def test_a_clock_that_steps_back_does_no_harm() -> None:
    """A little back counts as now; far back is another clock, and the sums start anew."""
    tally = Tally(10.0)
    tally.add(100.0, 1, 1)
    tally.add(95.0, 1)
    assert (tally.first, tally.second) == (2, 1)
    tally.add(5.0, 1)
    assert (tally.first, tally.second) == (1, 0)


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"reserve": -1}, {"window": 0.0}, {"window": float("inf")}])
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """Negative shares and reserves, and windows without a length, are a ValueError."""
    with pytest.raises(ValueError):
        Budget(**wrong)  # type: ignore[arg-type]
