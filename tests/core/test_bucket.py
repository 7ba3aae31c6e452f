"""The rate limit of one key (GCRA)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.bucket import MOST_DEBT, Bucket

LIMITS = st.integers(1, 2000)
PERIODS = st.sampled_from([1.0, 60.0, 3600.0])
STARTS = st.sampled_from([0.0, -50.0, 12345.678, 3e6])
ASKED = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 1.2)), max_size=60)  # pause and cost, in shares of the whole


def admitted(bucket: Bucket, now: float, cost: float = 1) -> bool:
    if bucket.wait(now, cost) > 0:
        return False
    bucket.take(now, cost)
    return True


@pytest.mark.parametrize("limit", [1, 3, 60, 1000])
def test_what_was_saved_may_be_spent_at_once(limit: int) -> None:
    """A fresh bucket admits its limit in one moment, then one more after each period / limit seconds."""
    bucket = Bucket(limit, 60.0)
    assert sum(admitted(bucket, 5.0) for _ in range(limit + 10)) == limit
    assert bucket.wait(5.0) == pytest.approx(60 / limit)
    assert admitted(bucket, 5.0 + 60 / limit)
    assert not admitted(bucket, 5.0 + 60 / limit)


@given(LIMITS, PERIODS, STARTS, ASKED)
def test_no_stretch_of_time_admits_more(
    limit: int, period: float, start: float, asked: list[tuple[float, float]]
) -> None:
    """Between any two moments at most limit + limit * elapsed / period is admitted."""
    bucket, now = Bucket(limit, period), start
    taken: list[tuple[float, float]] = []
    for pause, share in asked:
        now += pause * period / 4
        cost = share * limit
        if admitted(bucket, now, cost):
            taken.append((now, cost))
    for first, (since, _) in enumerate(taken):
        total = 0.0
        for at, cost in taken[first:]:
            total += cost
            assert total <= limit + limit * (at - since + 2e-6) / period + 1e-6


@given(LIMITS, PERIODS, STARTS, ASKED)
def test_the_wait_is_exact(limit: int, period: float, start: float, asked: list[tuple[float, float]]) -> None:
    """After the wait the cost is admitted, a little earlier it is not; a refusal has taken nothing."""
    bucket, now = Bucket(limit, period), start
    for pause, share in asked:
        now += pause * period / 10
        cost = share * limit
        before = bucket.reset(now)
        wait = bucket.wait(now, cost)
        if cost > limit:
            assert wait == math.inf
        elif wait > 0:
            with pytest.raises(ValueError):
                bucket.take(now, cost)
            assert bucket.reset(now) == before
            assert bucket.wait(now + wait - 1e-5, cost) > 0 or wait < 2e-5
            now += wait
            bucket.take(now, cost)
        else:
            bucket.take(now, cost)


@given(LIMITS, PERIODS, STARTS, ASKED)
def test_what_remains_may_be_taken(limit: int, period: float, start: float, asked: list[tuple[float, float]]) -> None:
    """`remaining` units are admitted at once and one more is not; after `reset` seconds it is full."""
    bucket, now = Bucket(limit, period), start
    for pause, share in asked:
        now += pause * period / 10
        admitted(bucket, now, share * limit)
        rest = bucket.remaining(now)
        assert 0 <= rest <= limit
        assert bucket.wait(now, rest) <= 1e-6
        assert bucket.wait(now, rest + 1) > 0
        assert bucket.remaining(now) == rest
    assert bucket.remaining(now + bucket.reset(now)) == limit


@given(LIMITS, PERIODS, st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1)), max_size=60))
def test_a_clock_that_steps_back_does_no_harm(limit: int, period: float, asked: list[tuple[float, float]]) -> None:
    """However the clock jumps, two periods are the longest wait, and what it says still holds."""
    bucket, now = Bucket(limit, period), 1e4
    for jump, share in asked:
        now += jump * period
        wait = bucket.wait(now, share * limit)
        assert 0 <= wait <= 2 * period + 1e-6
        now += wait
        assert admitted(bucket, now, share * limit)


@given(LIMITS, st.lists(st.floats(0, 59.9), max_size=60))
def test_calls_out_of_order_earn_nothing(limit: int, late: list[float]) -> None:
    """A `now` up to one period old is taken as the latest: no refill is counted twice."""
    bucket = Bucket(limit, 60.0)
    bucket.take(1000.0, limit)
    for age in late:
        assert not admitted(bucket, 1000.0 - age)
        assert not admitted(bucket, 1000.0)


def test_estimates_are_corrected() -> None:
    """What was estimated too high comes back, up to full; what was too low is taken, as a debt if need be."""
    bucket = Bucket(100, 60.0)
    bucket.take(0.0, 80)
    bucket.give(0.0, 30)
    assert bucket.remaining(0.0) == 50
    bucket.give(0.0, -150)
    assert (bucket.remaining(0.0), bucket.reset(0.0)) == (0, pytest.approx(120))
    assert bucket.wait(0.0, 0) == pytest.approx(60)
    assert bucket.wait(0.0) == pytest.approx(60.6)
    bucket.give(0.0, 1000)
    assert (bucket.remaining(0.0), bucket.reset(0.0)) == (100, 0.0)
    assert bucket.wait(0.0, 101) == math.inf


@pytest.mark.parametrize("amount", [-1e30, -math.inf])
def test_a_mistaken_correction_does_not_close_a_bucket_for_ever(amount: float) -> None:
    """A debt ends: MOST_DEBT periods later something is admitted again."""
    bucket = Bucket(100, 60.0)
    bucket.give(7.0, amount)
    bucket.give(7.0, amount)
    assert bucket.wait(7.0, 0) == pytest.approx(60 * MOST_DEBT)


@pytest.mark.parametrize(("limit", "period"), [(0, 60.0), (-1, 60.0), (1, 0.0), (1, math.inf), (1, math.nan)])
def test_a_limit_that_makes_no_sense_is_refused(limit: int, period: float) -> None:
    """Limits below 1 and periods without a length are a ValueError."""
    with pytest.raises(ValueError):
        Bucket(limit, period)


def test_costs_and_amounts_are_numbers() -> None:
    """A negative cost, or one that is no number, is a ValueError: it would fill the bucket."""
    bucket = Bucket(1, 1.0)
    for cost in (-1, math.nan):
        with pytest.raises(ValueError):
            bucket.wait(0.0, cost)
    with pytest.raises(ValueError):
        bucket.give(0.0, math.nan)
