"""The order of targets: every plan has all of them, and each strategy keeps its word."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.call import Target
from runestone.core.health import Health
from runestone.core.price import Price
from runestone.core.strategy import POLICIES, Candidate, Order, Strategy

NAMES = "abcdefgh"


def candidate(
    name: str,
    *,
    weight: int = 1,
    price: float | None = None,
    latency: float | None = None,
    failures: int = 0,
    in_flight: int = 0,
) -> Candidate:
    health = Health()
    for _ in range(50 if latency is not None else 0):
        health.begin(0)
        health.end(0, latency=latency, ok=True)
    for _ in range(failures):
        health.begin(0)
        health.end(0, latency=None, ok=False)
    for _ in range(in_flight):
        health.begin(0)
    paid = None if price is None else Price(price, price)
    return Candidate(Target("p", name), weight=weight, price=paid, health=health)


def never() -> float:
    """Chance that picks the first and never explores."""
    return 0.999_999


def letters(targets: tuple[Target, ...]) -> str:
    return "".join(target.model for target in targets)


def plan(strategy: Strategy, *candidates: Candidate, chance: Callable[[], float] = never) -> str:
    return letters(Order(strategy, candidates).plan(0, chance))


def fail(candidate: Candidate, times: int, now: float = 0) -> None:
    for _ in range(times):
        candidate.health.begin(now)
        candidate.health.end(now, latency=None, ok=False)


@given(
    st.sampled_from(Strategy),
    st.lists(
        st.builds(
            dict,
            weight=st.integers(1, 9),
            price=st.none() | st.floats(0, 1e-3),
            latency=st.none() | st.floats(0, 60),
            failures=st.integers(0, 20),
            in_flight=st.integers(0, 5),
        ),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=5),
)
def test_every_plan_is_a_permutation(
    strategy: Strategy, made: list[dict[str, float]], dice: random.Random, times: list[float]
) -> None:
    """Whatever is known, whenever asked, however the dice fall: each target stands in the plan once."""
    candidates = [candidate(name, **known) for name, known in zip(NAMES, made, strict=False)]
    order = Order(strategy, candidates)
    for now in times:
        assert Counter(order.plan(now, dice.random)) == Counter(each.target for each in candidates)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("extreme", [0.0, 0.999_999_999_999, 1 - 2**-53])
def test_the_ends_of_chance_are_safe(strategy: Strategy, extreme: float) -> None:
    """The lowest and the highest number a die can show lead to a plan of all targets."""
    order = plan(strategy, candidate("a", weight=3), candidate("b"), candidate("c", weight=2), chance=lambda: extreme)
    assert sorted(order) == ["a", "b", "c"]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_one_target_is_the_stored_plan(strategy: Strategy) -> None:
    """With one target nothing is computed: the same object each time, no dice, no health."""

    def broken() -> float:
        raise AssertionError

    order = Order(strategy, [candidate("a")])
    assert order.plan(0, broken) is order.plan(1, broken)
    assert letters(order.plan(2, broken)) == "a"


@pytest.mark.parametrize("strategy", sorted(set(Strategy) - {Strategy.ROUND_ROBIN, Strategy.LOAD_BALANCED}))
def test_equals_keep_the_order_they_were_given_in(strategy: Strategy) -> None:
    """Where nothing tells targets apart, the configuration does."""
    assert plan(strategy, candidate("b"), candidate("c"), candidate("a")) == "bca"


def test_priority_is_as_given() -> None:
    """Not even a failing target is moved."""
    assert plan(Strategy.PRIORITY, candidate("a", failures=50), candidate("b")) == "ab"


def test_round_robin_is_nginx_smooth_one() -> None:
    """Weights 5, 1, 1 give a a b a c a a, again and again (the example of nginx's commit)."""
    order = Order(Strategy.ROUND_ROBIN, [candidate("a", weight=5), candidate("b"), candidate("c")])
    turns = "".join(letters(order.plan(0, never))[0] for _ in range(14))
    assert turns == "aabacaa" * 2


def test_behind_the_turn_the_others_are_as_given() -> None:
    """Only who begins changes."""
    order = Order(Strategy.ROUND_ROBIN, [candidate(name) for name in "abc"])
    assert [letters(order.plan(0, never)) for _ in range(4)] == ["abc", "bac", "cab", "abc"]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_each_round_gives_each_its_weight(weights: list[int]) -> None:
    """In as many calls as the weights add up to, each target begins as often as it weighs."""
    order = Order(Strategy.ROUND_ROBIN, [candidate(n, weight=w) for n, w in zip(NAMES, weights, strict=False)])
    turns = Counter(order.plan(0, never)[0].model for _ in range(sum(weights)))
    assert turns == dict(zip(NAMES, weights, strict=False))


def test_health_aware_moves_the_failing_behind() -> None:
    """The best score first; the others by score."""
    found = plan(Strategy.HEALTH_AWARE, candidate("a", failures=9), candidate("b", failures=4), candidate("c"))
    assert found == "cba"


def test_health_aware_does_not_mind_a_small_difference() -> None:
    """One failure among equals moves nobody."""
    assert plan(Strategy.HEALTH_AWARE, candidate("a", failures=1), candidate("b")) == "ab"


def test_who_fell_behind_returns_when_it_is_as_good() -> None:
    """Two borders: a target leaves the lead when clearly worse, and is not back before it is nearly as good."""
    first, second = candidate("a"), candidate("b")
    order = Order(Strategy.HEALTH_AWARE, [first, second])
    fail(first, 2)
    seen = [letters(order.plan(now, never)) for now in (0, 30, 60, 600)]
    assert first.health.score(60) > 0.9, "within the outer border, and yet not back"
    assert seen == ["ba", "ba", "ba", "ab"]


def test_cost_optimized_takes_the_cheapest_known() -> None:
    """Unknown prices are last; free is known."""
    found = plan(
        Strategy.COST_OPTIMIZED,
        candidate("a"),
        candidate("b", price=3e-6),
        candidate("c", price=1e-6),
        candidate("d", price=0.0),
    )
    assert found == "dcba"


def test_cheap_and_unhealthy_is_behind_dear_and_healthy() -> None:
    """Unhealthy targets are last, by price among themselves, and come back when they have recovered."""
    order = Order(
        Strategy.COST_OPTIMIZED,
        [candidate("a", price=1.0, failures=20), candidate("b", price=2.0), candidate("c", price=0.5, failures=20)],
    )
    assert letters(order.plan(0, never)) == "bca"
    assert letters(order.plan(1_000, never)) == "cab"


def test_the_less_loaded_of_two_is_first() -> None:
    """Of two targets as fast, the one with fewer calls in flight, however the dice fall."""
    for seed in range(20):
        dice = random.Random(seed)
        found = plan(
            Strategy.LOAD_BALANCED,
            candidate("a", latency=1, in_flight=5),
            candidate("b", latency=1, in_flight=1),
            chance=dice.random,
        )
        assert found == "ba"


def test_the_faster_of_two_is_first_until_it_is_busy() -> None:
    """Cost is calls times latency: three times as fast bears three times the calls."""
    slow = candidate("a", latency=3)
    assert plan(Strategy.LOAD_BALANCED, slow, candidate("b", latency=1)) == "ba"
    assert plan(Strategy.LOAD_BALANCED, slow, candidate("b", latency=1, in_flight=4)) == "ab"


def test_failing_fast_attracts_no_calls() -> None:
    """A target that answers with failures at once has few in flight; it is not preferred for it."""
    found = plan(Strategy.LOAD_BALANCED, candidate("a", latency=1, failures=30), candidate("b", latency=1, in_flight=9))
    assert found == "ba"


@pytest.mark.parametrize("weights", [(1, 1), (4, 1), (1, 1, 1), (6, 2, 1, 1)])
def test_load_follows_weights(weights: tuple[int, ...]) -> None:
    """Targets as fast as each other, with calls that take their time, get shares near their weights."""
    dice = random.Random(7)
    candidates = [candidate(n, weight=w, latency=1) for n, w in zip(NAMES, weights, strict=False)]
    order, begun, running = Order(Strategy.LOAD_BALANCED, candidates), Counter[str](), []
    by_name = {each.target.model: each for each in candidates}
    for step in range(4_000):
        now = step / 20
        first = order.plan(now, dice.random)[0].model
        by_name[first].health.begin(now)
        begun[first] += 1
        running.append(first)
        if len(running) > 40:
            by_name[running.pop(0)].health.end(now, latency=1, ok=True)
    shares = [begun[name] / 4_000 for name in by_name]
    assert shares == pytest.approx([weight / sum(weights) for weight in weights], abs=0.08)


def test_fastest_first_is_by_latency() -> None:
    """The unknown stands where one second does; the failing are last."""
    found = plan(
        Strategy.FASTEST_FIRST,
        candidate("a", latency=3),
        candidate("b"),
        candidate("c", latency=0.2),
        candidate("d", latency=0.1, failures=30),
    )
    assert found == "cbad"


def test_one_call_in_twenty_tries_another() -> None:
    """Each of the slower healthy ones is tried now and then; an unhealthy one is not."""
    dice = random.Random(3)
    order = Order(
        Strategy.FASTEST_FIRST,
        [
            candidate("a", latency=0.1),
            candidate("b", latency=2),
            candidate("c", latency=3),
            candidate("d", failures=30),
        ],
    )
    first = Counter(order.plan(0, dice.random)[0].model for _ in range(10_000))
    assert first["a"] == pytest.approx(9_500, abs=150)
    assert first["b"] == pytest.approx(250, abs=100)
    assert first["c"] == pytest.approx(250, abs=100)
    assert first["d"] == 0


@pytest.mark.parametrize(
    ("one", "other", "first"),
    [
        ({"price": 1e-5}, {"price": 1e-6}, "b"),
        ({"latency": 2.0}, {"latency": 0.2}, "b"),
        ({"price": 1e-6, "latency": 2.0}, {"price": 1e-5, "latency": 0.2}, "a"),  # price counts more than latency
        ({"price": 0.0, "latency": 0.1, "failures": 20}, {"price": 1e-3, "latency": 9.0}, "b"),  # healthy comes first
        ({"price": 1e-6}, {"price": 1.05e-6}, "a"),  # near enough: as given
        ({"price": 1.05e-6}, {"price": 1e-6}, "a"),
    ],
)
def test_enhanced_weighs_health_price_and_latency(one: dict[str, float], other: dict[str, float], first: str) -> None:
    """The documented mix: half health, three tenths price, two tenths latency, unhealthy behind healthy."""
    assert plan(Strategy.ENHANCED, candidate("a", **one), candidate("b", **other))[0] == first  # type: ignore[arg-type]


def test_a_weight_is_at_least_one() -> None:
    """Weight 0 would never be reached, and is refused."""
    with pytest.raises(ValueError, match="at least 1"):
        candidate("a", weight=0)


def test_policies_have_a_strategy() -> None:
    """The four words of [routing] policy."""
    assert {name: strategy.value for name, strategy in POLICIES.items()} == {
        "default": "priority",
        "cost": "cost_optimized",
        "health": "health_aware",
        "enhanced": "enhanced",
    }
