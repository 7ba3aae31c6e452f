"""The quantile of the latest values."""

from __future__ import annotations

from runestone.core.quantile import LEAST, MEMORY, Quantile


def test_too_few_values_say_nothing() -> None:
    """Below the least number there is no answer."""
    quantile = Quantile(0.95)
    for value in range(LEAST - 1):
        quantile.add(value)
        assert quantile.value() is None
    quantile.add(1.0)
    assert quantile.value() is not None


def test_it_is_the_quantile_of_the_latest_values() -> None:
    """Old values are forgotten; the answer is at most a few values behind."""
    quantile = Quantile(0.95)
    for value in range(1000):
        quantile.add(float(value))
    found = quantile.value()
    assert found is not None
    assert abs(found - (1000 - MEMORY * 0.05)) < 3
    for _ in range(MEMORY):
        quantile.add(1.0)
    assert quantile.value() == 1.0


def test_a_value_that_was_not_seen_to_its_end_counts_if_it_was_slow() -> None:
    """Of an answer that was overtaken it is known that it took longer: beyond the quantile that says something."""
    quantile = Quantile(0.95)
    for _ in range(MEMORY):
        quantile.add(1.0)
    assert quantile.value() == 1.0
    for _ in range(40):
        quantile.at_least(0.5)
        quantile.at_least(2.0)
    assert quantile.value() == 2.0


def test_without_a_quantile_an_unseen_end_says_nothing() -> None:
    """Nothing to compare it with."""
    quantile = Quantile(0.95)
    for _ in range(LEAST):
        quantile.at_least(2.0)
    assert quantile.value() is None
