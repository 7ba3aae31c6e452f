"""What a call costs, and when nobody can say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.price import Price, cost
from runestone.core.summary import Summary

PRICE = Price(input=1e-6, output=4e-6, cached=1e-7, cache_write=1.25e-6)
PLAIN = Price(input=1e-6, output=4e-6)
EMBEDDING = Price(input=1e-6, output=0.0)
counts = st.none() | st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("price", "summary", "dollars"),
    [
        (PRICE, Summary(input_tokens=1000, output_tokens=500), 0.003),
        (PRICE, Summary(input_tokens=1000, output_tokens=0, cached_tokens=400), 0.000_64),
        (PRICE, Summary(input_tokens=1000, output_tokens=0, cache_write_tokens=400), 0.001_1),
        (PRICE, Summary(input_tokens=1000, output_tokens=0, cached_tokens=400, cache_write_tokens=100), 0.000_665),
        (PLAIN, Summary(input_tokens=1000, output_tokens=0, cached_tokens=400, cache_write_tokens=100), 0.001),
        (PRICE, Summary(input_tokens=0, output_tokens=0), 0.0),
        (EMBEDDING, Summary(input_tokens=1000), 0.001),
        (Price(0.0, 0.0), Summary(input_tokens=1000, output_tokens=9), 0.0),
        # Counts that contradict each other: never more than all of the input is cached.
        (PRICE, Summary(input_tokens=10, output_tokens=0, cached_tokens=50, cache_write_tokens=50), 1e-6),
        # Not known is not nought.
        (None, Summary(input_tokens=1000, output_tokens=500), None),
        (PRICE, Summary(), None),
        (PRICE, Summary(input_tokens=1000), None),
        (PRICE, Summary(output_tokens=1000), None),
    ],
)
def test_the_cost_of_an_answer(price: Price | None, summary: Summary, dollars: float | None) -> None:
    """Each kind of token at its price; None when a price or a count is missing."""
    assert cost(price, summary) == (None if dollars is None else pytest.approx(dollars))


@given(counts, counts, counts, counts)
def test_no_answer_costs_less_than_nothing(
    paid: int | None, made: int | None, cached: int | None, written: int | None
) -> None:
    """Whatever a provider counts, the cost is unknown, nought or more, and no more than all of it at the full price."""
    found = cost(PRICE, Summary(paid, made, cached, written))
    if found is not None:
        assert 0 <= found <= ((paid or 0) * 1.25e-6 + (made or 0) * 4e-6) * 1.000_001


def test_the_blend_is_three_to_one() -> None:
    """Three parts input, one part output."""
    assert Price(1.0, 5.0).blended == 2.0
