"""Backoff: how long to wait before a retry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.backoff import Pauses, delay


@pytest.mark.parametrize(
    ("attempt", "chance", "waited"),
    [(0, 0.0, 0.0), (0, 0.5, 0.1), (1, 0.5, 0.2), (2, 0.5, 0.4), (5, 0.5, 2.5), (50, 0.5, 2.5), (10**9, 0.9, 4.5)],
)
def test_the_ceiling_doubles_up_to_the_most(attempt: int, chance: float, waited: float) -> None:
    """A delay is evenly between 0 and a ceiling: 0.2 s, doubled with each attempt, at most 5 s."""
    assert delay(attempt, chance) == pytest.approx(waited)


@given(st.integers(0, 2000), st.floats(0, 1, exclude_max=True), st.floats(0, 1e6))
def test_what_the_provider_asked_for_is_the_least(attempt: int, chance: float, asked: float) -> None:
    """With a retry-after nobody comes back earlier, and without one nobody waits longer than the most."""
    assert delay(attempt, chance, retry_after=asked) >= asked
    assert 0 <= delay(attempt, chance) <= 5.0


def test_those_told_the_same_second_do_not_come_back_together() -> None:
    """A retry-after is spread by up to one base."""
    assert [delay(0, chance, retry_after=3) for chance in (0.0, 0.5)] == [3.0, pytest.approx(3.1)]


def test_a_long_backoff_is_not_cut_by_a_short_retry_after() -> None:
    """The longer of the two is waited."""
    assert delay(4, 0.9, retry_after=0.1) == pytest.approx(0.9 * 3.2)


def test_pauses_grow_while_it_goes_on_and_are_forgotten_when_it_is_well() -> None:
    """Half a second at least, thirty more at most; a minute without an end makes the next a first one."""
    pauses = Pauses(first=0.5, most=30.0, well=60.0, chance=lambda: 0.999)
    told = [pauses.next(1.0) for _ in range(9)]
    assert told == sorted(told)
    assert told[0] < 2
    assert 30 < told[-1] <= 30.5
    assert pauses.next(61.0) == told[0]
