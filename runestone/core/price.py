"""What a model's tokens cost, and what a call has cost.

Rule: US dollars per single token (not per million). None is "not known" and never nought: a free model costs 0.0.
Absent on purpose: where prices come from (providers/prices.py), tiers by length, batch discounts, fees per request.
"""

from __future__ import annotations

from dataclasses import dataclass

from runestone.core.summary import Summary


@dataclass(frozen=True, slots=True)
class Price:
    """One model's. `cached` (read from a vendor's cache) and `cache_write` are None when they cost what input does."""

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None

    @property
    def blended(self) -> float:
        """One number to compare models by: three parts input, one part output.

        Three to one is the mix that artificialanalysis.ai compares models by.
        """
        return (3 * self.input + self.output) / 4


def cost(price: Price | None, summary: Summary) -> float | None:
    """US dollars of one answer; None when the price, or how many tokens it took, is not known.

    A count of output that is missing is nought where output costs nothing (embeddings).
    """
    if price is None or summary.input_tokens is None:
        return None
    output = summary.output_tokens
    if output is None:
        if price.output:
            return None
        output = 0
    # Input counts all of it; some vendors count what they read from and write to the cache twice.
    cached = min(summary.cached_tokens or 0, summary.input_tokens)
    written = min(summary.cache_write_tokens or 0, summary.input_tokens - cached)
    fresh = summary.input_tokens - cached - written
    return (
        fresh * price.input
        + cached * (price.input if price.cached is None else price.cached)
        + written * (price.input if price.cache_write is None else price.cache_write)
        + output * price.output
    )
