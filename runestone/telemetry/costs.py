"""US dollars of calls, from list prices (core/price.py); only for providers whose prices are known.

Loading the tables of prices takes long (providers/prices.py), so it is done in a thread while the first calls run
already; what those take is noted, and priced when the prices have come.
Rule: nothing is invented: without a price, or a count of tokens, there is no cost. What the cache has answered costs
nothing.
Deliberately absent: what attempts cost that failed or were overtaken, since nobody counts their tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from runestone.core.call import FREE
from runestone.core.price import Price, cost
from runestone.core.record import Record
from runestone.core.summary import Summary
from runestone.telemetry.counter import Total

LookUp = Callable[[str, str], Price | None]
"""The price of a provider's model; remembers what it was asked, within bounds."""
MOST_WAITING = 10_000
"""Calls noted while the prices are on their way."""


class Costs:
    """`look_up` knows the prices of `providers`. Its first call may take a second: `load` makes it."""

    def __init__(self, providers: Iterable[str] = (), look_up: LookUp = lambda provider, model: None) -> None:
        self.providers = frozenset(providers)
        self._look_up = look_up
        self._is_ready = not self.providers
        self._waiting: list[tuple[Total, str, str, Summary]] = []

    async def load(self) -> None:
        """Gets the prices, in a thread, and prices what was asked meanwhile."""
        if self.providers:
            await asyncio.to_thread(self._look_up, min(self.providers), "")
        self._is_ready = True
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            self.charge(*told)

    def of(self, record: Record) -> float | None:
        """What a call has cost; None when that is not known (or not yet)."""
        if record.cache in FREE:
            return 0.0
        provider, model = record.provider, record.target_model
        if provider not in self.providers or model is None or not self._is_ready:
            return None
        return cost(self._look_up(provider, model), record.summary)

    def charge(self, total: Total, provider: str, model: str, summary: Summary) -> None:
        """Adds to `total` what an answer of one of the `providers` costs, now or when the prices have come."""
        if not self._is_ready:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append((total, provider, model, summary))
            return
        dollars = cost(self._look_up(provider, model), summary)
        if dollars:
            total.value += dollars
