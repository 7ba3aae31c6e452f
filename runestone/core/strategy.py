"""In which order the targets of a model are tried.

    priority         as given
    round_robin      smooth weighted round robin, the others behind as given
                     (nginx, ngx_http_upstream_round_robin.c: {5, 1, 1} is a a b a c a a)
    health_aware     those whose score is near the best, as given; then the others, best first
    cost_optimized   healthy before unhealthy; in each the cheapest known price first, unknown last
    load_balanced    two by chance, by weight (nginx's `random two`); the one with the lower cost first, where cost is
                     (in flight + 1) x peak-EWMA latency / success / weight (Finagle's P2C with PeakEwma); then the
                     other, then the rest as given
    fastest_first    healthy before unhealthy; in each the lowest latency first. One call in twenty tries another
                     healthy one first, so that the slow can show that they are no longer
    enhanced         0.5 x score + 0.3 x (cheapest price / price) + 0.2 x (lowest latency / latency), ordered as
                     health_aware orders scores; an unknown price counts 0.5; unhealthy behind healthy

Unhealthy is a score below HEALTHY. "Near" has two borders, so that equals do not take turns at the top: a target joins
the leaders within JOINS of the best and leaves them beyond LEAVES.
Rule: every plan is a permutation of all candidates. `now` and `chance` come in; one candidate, or priority, is a stored
answer. O(n log n) for n targets; nothing is remembered but n numbers. `plan` never waits, so it needs no lock.
Absent on purpose: leaving a target out (breakers, steering and limits do), retries, prices as they change.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from runestone.core.call import Target
from runestone.core.health import Health
from runestone.core.price import Price

HEALTHY: Final = 0.5
LEAVES: Final = 0.1
JOINS: Final = 0.02
EXPLORE: Final = 0.05
LEAST_SUCCESS: Final = 0.05
ROUNDING: Final = 1e-9
"""US dollars per token by which prices are softened: free is not infinitely cheaper than nearly free."""
UNKNOWN_PRICE: Final = 0.5

Chance = Callable[[], float]


class Strategy(StrEnum):
    """The value is the word in the configuration; the head of the module says what each does."""

    PRIORITY = "priority"
    ROUND_ROBIN = "round_robin"
    HEALTH_AWARE = "health_aware"
    COST_OPTIMIZED = "cost_optimized"
    LOAD_BALANCED = "load_balanced"
    FASTEST_FIRST = "fastest_first"
    ENHANCED = "enhanced"


POLICIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {
        "default": Strategy.PRIORITY,
        "cost": Strategy.COST_OPTIMIZED,
        "health": Strategy.HEALTH_AWARE,
        "enhanced": Strategy.ENHANCED,
    }
)
"""Routing policy -> the strategy of models that name none."""

PRICED: Final = frozenset({Strategy.COST_OPTIMIZED, Strategy.ENHANCED})
"""Strategies that want prices; the others need none looked up."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A target and what is known of it. `capabilities` None: what its model's name says (core/steer.py)."""

    target: Target
    weight: int = 1
    price: Price | None = None
    health: Health = field(default_factory=Health)
    capabilities: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError("a weight is at least 1")


class Order:
    """One model's. Targets of equal rank keep the order they were given in."""

    def __init__(self, strategy: Strategy, candidates: Sequence[Candidate]) -> None:
        self.strategy = strategy
        self.candidates = tuple(candidates)
        self._targets = tuple(candidate.target for candidate in candidates)
        self._weights = [candidate.weight for candidate in candidates]
        self._sums = list(accumulate(self._weights))
        self._current = [0] * len(self._targets)
        self._leads = [True] * len(self._targets)
        self._by_price = sorted(range(len(self._targets)), key=self._price_rank)
        self._thrift = _thrift([candidate.price for candidate in candidates])
        ways: dict[Strategy, Callable[[float, Chance], list[int]]] = {
            Strategy.ROUND_ROBIN: self._round_robin,
            Strategy.HEALTH_AWARE: self._health_aware,
            Strategy.COST_OPTIMIZED: self._cost_optimized,
            Strategy.LOAD_BALANCED: self._load_balanced,
            Strategy.FASTEST_FIRST: self._fastest_first,
            Strategy.ENHANCED: self._enhanced,
        }
        self._way = ways.get(strategy) if len(self._targets) > 1 else None

    def plan(self, now: float, chance: Chance) -> tuple[Target, ...]:
        """All targets, in the order to try them. `now` is monotonic seconds, `chance()` is in [0, 1)."""
        if self._way is None:
            return self._targets
        targets = self._targets
        return tuple([targets[index] for index in self._way(now, chance)])

    def _round_robin(self, now: float, chance: Chance) -> list[int]:
        current = self._current
        best = 0
        for index, weight in enumerate(self._weights):
            current[index] += weight
            if current[index] > current[best]:
                best = index
        current[best] -= self._sums[-1]
        return self._first([best])

    def _health_aware(self, now: float, chance: Chance) -> list[int]:
        return self._leaders([candidate.health.score(now) for candidate in self.candidates])

    def _cost_optimized(self, now: float, chance: Chance) -> list[int]:
        return self._healthy_first(self._by_price, now)[0]

    def _load_balanced(self, now: float, chance: Chance) -> list[int]:
        one, other = self._two(chance)
        if self._load(other, now) < self._load(one, now):
            one, other = other, one
        return self._first([one, other])

    def _fastest_first(self, now: float, chance: Chance) -> list[int]:
        latencies = [candidate.health.latency(now) for candidate in self.candidates]
        order, healthy = self._healthy_first(sorted(range(len(latencies)), key=latencies.__getitem__), now)
        if healthy > 1 and chance() < EXPLORE:
            order.insert(0, order.pop(1 + _draw(healthy - 1, chance)))
        return order

    def _enhanced(self, now: float, chance: Chance) -> list[int]:
        scores = [candidate.health.score(now) for candidate in self.candidates]
        latencies = [candidate.health.latency(now) for candidate in self.candidates]
        fastest = min(latencies)
        values = [
            # Latencies are sums of positive numbers; one that is nought is the fastest.
            0.5 * score + 0.3 * thrift + 0.2 * (fastest / latency if latency > 0 else 1.0) - (score < HEALTHY)
            for score, thrift, latency in zip(scores, self._thrift, latencies, strict=True)
        ]
        return self._leaders(values)

    def _first(self, first: list[int]) -> list[int]:
        """`first`, then the others as given."""
        return first + [index for index in range(len(self._targets)) if index not in first]

    def _leaders(self, values: list[float]) -> list[int]:
        """Those near the best as given, then the others by value."""
        best, leads = max(values), self._leads
        leading: list[int] = []
        others: list[int] = []
        for index, value in enumerate(values):
            leads[index] = value >= best - (LEAVES if leads[index] else JOINS)
            (leading if leads[index] else others).append(index)
        if len(others) > 1:
            others.sort(key=values.__getitem__, reverse=True)
        return leading + others

    def _healthy_first(self, order: Sequence[int], now: float) -> tuple[list[int], int]:
        """`order` with the unhealthy behind, and how many are healthy."""
        healthy: list[int] = []
        unhealthy: list[int] = []
        for index in order:
            (healthy if self.candidates[index].health.score(now) >= HEALTHY else unhealthy).append(index)
        return healthy + unhealthy, len(healthy)

    def _two(self, chance: Chance) -> tuple[int, int]:
        """Two different candidates, each drawn by weight."""
        sums, total = self._sums, self._sums[-1]
        one = bisect_right(sums, _draw(total, chance))
        weight = self._weights[one]
        point = _draw(total - weight, chance)
        if point >= sums[one] - weight:
            point += weight
        return one, bisect_right(sums, point)

    def _load(self, index: int, now: float) -> float:
        candidate = self.candidates[index]
        health = candidate.health
        success = max(health.success(now), LEAST_SUCCESS)  # failing fast is no reason to get more
        return (health.in_flight + 1) * health.latency(now) / success / candidate.weight

    def _price_rank(self, index: int) -> float:
        price = self.candidates[index].price
        return float("inf") if price is None else price.blended


def _draw(count: int, chance: Chance) -> int:
    """A whole number below `count`, also where the product is rounded up."""
    return min(int(chance() * count), count - 1)


def _thrift(prices: Sequence[Price | None]) -> list[float]:
    """For each price the cheapest as a share of it: 1 for the cheapest, towards 0 for dear ones."""
    cheapest = min((price.blended for price in prices if price is not None), default=0.0) + ROUNDING
    return [UNKNOWN_PRICE if price is None else cheapest / (price.blended + ROUNDING) for price in prices]
