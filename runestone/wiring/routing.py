"""Where the calls of a configuration go: model names, the state of targets, the order they are asked in."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

from runestone.config.load import OFF, SIMULATED
from runestone.config.schema import Configuration, Model
from runestone.config.units import parse_duration
from runestone.core.breaker import Breaker
from runestone.core.call import Target
from runestone.core.concurrency import Concurrency
from runestone.core.names import Listing, Names
from runestone.core.resilience import P95, Pace, Resilience
from runestone.core.steer import capabilities_of
from runestone.core.strategy import POLICIES, Candidate, Order
from runestone.gateway.route import Way
from runestone.gateway.targets import Targets, Watched
from runestone.providers.catalog import CATALOG
from runestone.providers.prices import price_of
from runestone.wiring.providers import pool_of


def model_names(configuration: Configuration) -> Names:
    """The table of model names of a configuration."""
    return Names(
        {name: tuple(_target(target) for target in model.targets) for name, model in configuration.models.items()},
        configuration.aliases,
        [
            Listing(name, provider.models, closed=provider.kind == SIMULATED)
            for name, provider in configuration.providers.items()
        ],
    )


def targets_of(configuration: Configuration, before: Targets | None = None, kept: Container[str] = ()) -> Targets:
    """The state of every target the configuration names; those of the providers `kept` are what they were `before`."""
    breaker, adaptive = configuration.breaker, configuration.routing.adaptive_concurrency

    def make(target: Target) -> Watched:
        known = before.exactly(target) if before is not None and target.provider in kept else None
        if known is not None:
            return known
        pool = pool_of(configuration.providers[target.provider], configuration)
        capacity = pool.default_size + pool.max_overflow
        own = Breaker(
            failures=breaker.failure_threshold,
            successes=breaker.success_threshold,
            reset_after=breaker.reset_timeout,
        )
        return Watched(target, own if breaker.enabled else None, Concurrency(most=capacity) if adaptive else None)

    known = {_target(text) for model in configuration.models.values() for text in model.targets}
    return Targets(known, configuration.providers, make)


def ways_of(configuration: Configuration, names: Names, targets: Targets) -> dict[str | None, Way]:
    """How the models with several targets, or with refusals that move on, are routed."""
    ways: dict[str | None, Way] = {}
    for name, model in configuration.models.items():
        strategy = model.strategy or POLICIES[configuration.routing.policy]
        weights = model.weights or (1,) * len(model.targets)
        candidates = [
            candidate_of(configuration, targets, target, weight, priced=len(model.targets) > 1)
            for target, weight in zip(names.resolve(name), weights, strict=True)
        ]
        ways[name] = Way(Order(strategy, candidates), resilience_of(configuration, model))
    return ways


def candidate_of(
    configuration: Configuration, targets: Targets, target: Target, weight: int, *, priced: bool
) -> Candidate:
    """What a strategy knows of a target; `priced` looks its price up."""
    provider = configuration.providers[target.provider]
    entry = CATALOG.get(provider.kind)
    # A vendor's price is for the vendor's own address; looking prices up loads their tables, so only where there is
    # a choice.
    is_vendors = entry is not None and provider.base_url in (None, entry.base_url)
    price = price_of(provider.kind, target.model) if priced and is_vendors else None
    capabilities = capabilities_of(target.model, entry.dialect if entry is not None else "openai")
    return Candidate(target, weight=weight, price=price, health=targets.of(target).health, capabilities=capabilities)


def resilience_of(configuration: Configuration, model: Model | None = None) -> Resilience:
    """What is done when the targets of `model` do badly; what it does not say is said by `[routing]`."""
    routing = configuration.routing
    model = model or Model()
    pace = model.min_tokens_per_second
    if pace is None:
        pace = routing.min_tokens_per_second
    return Resilience(
        fallback_on=frozenset(model.fallback_on),
        hedge=_hedge(model.hedge or routing.hedge),
        ttft_timeout=model.ttft_timeout or routing.ttft_timeout,
        pace=Pace(pace, routing.pace_window) if pace else None,
        continues=(model.stream_failure or routing.stream_failure) == "continue",
    )


def _hedge(told: str) -> float | Literal["p95"] | None:
    if told == OFF:
        return None
    return P95 if told == P95 else parse_duration(told)


def _target(text: str) -> Target:
    provider, _, model = text.partition("/")
    return Target(provider, model)
