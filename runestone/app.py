"""Builds every object from a configuration: the only module that knows all rings.

Rule: nobody imports this but cli.py, serving.py and tests; everything is handed over by keyword, nothing is looked up.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from runestone.config.load import HEDGE_P95, SIMULATED
from runestone.config.schema import Configuration, Key, Provider
from runestone.config.schema import Pool as PoolSettings
from runestone.config.units import parse_duration
from runestone.control import Control
from runestone.core.breaker import Breaker
from runestone.core.budget import Budget
from runestone.core.call import Caller, Target
from runestone.core.concurrency import Concurrency
from runestone.core.keys import KeyRing, ListedKey, digest
from runestone.core.names import Listing, Names, is_pattern
from runestone.core.quota import Limits
from runestone.core.steer import capabilities_of
from runestone.core.strategy import POLICIES, Candidate, Order
from runestone.core.upstream import Upstream
from runestone.dialects.passage import Traits
from runestone.edge.admin import Admin
from runestone.edge.calls import Calls
from runestone.edge.health import Health
from runestone.edge.middleware.authenticate import Authenticate
from runestone.edge.middleware.rescue import Rescue
from runestone.edge.models import Lister, Models
from runestone.edge.request import REQUEST_ID
from runestone.edge.routes import application, routes
from runestone.edge.running import Running
from runestone.edge.telemetry import Metrics as MetricsEndpoint
from runestone.errors import RunestoneError
from runestone.gateway.access import Access
from runestone.gateway.fallback import Fallback
from runestone.gateway.guard import Guard
from runestone.gateway.hedge import Hedge
from runestone.gateway.limits import Limited, LimitKeys
from runestone.gateway.meter import Meter
from runestone.gateway.pipeline import Next, Stage, compose
from runestone.gateway.route import Route, Way
from runestone.gateway.send import Send
from runestone.gateway.targets import Targets, Watched
from runestone.providers.catalog import CATALOG
from runestone.providers.http import HttpProvider, Timeouts
from runestone.providers.pool import PoolLimits
from runestone.providers.prices import price_of
from runestone.providers.simulated.behaviour import Behaviour
from runestone.providers.simulated.provider import OPERATIONS, SimulatedProvider
from runestone.tasks import Supervisor
from runestone.telemetry.logs import CallLog
from runestone.telemetry.metrics import Metrics

_log = logging.getLogger("runestone")


@dataclass(frozen=True, slots=True)
class App:
    """What was built: the aiohttp application, and what must be opened and closed with it."""

    web: web.Application
    health: Health
    running: Running
    upstreams: dict[str, Upstream]
    control: Control
    pools: dict[str, PoolSettings]
    tasks: Supervisor

    async def start(self) -> None:
        """Opens the providers, and begins to look after them."""
        for name, upstream in self.upstreams.items():
            await upstream.start()
            if isinstance(upstream, HttpProvider):
                pool = self.pools[name]
                checked = partial(self.control.checked, name)
                work = upstream.tend(pool.warmup, pool.health_check_interval, checked)
                self.tasks.start(f"tend {name}", work)

    async def close(self) -> None:
        """Ends every task and connection."""
        await self.tasks.close()
        for upstream in self.upstreams.values():
            await upstream.close()


def build(configuration: Configuration) -> App:
    """Every object of the gateway, wired; nothing is opened yet."""
    upstreams = {name: _upstream(name, entry, configuration) for name, entry in configuration.providers.items()}
    names = model_names(configuration)
    targets = _targets(configuration)
    control = Control(upstreams, targets)
    metrics = Metrics(names.names(), control.samples)
    access = Access(tuple(key.models for key in configuration.auth.keys))
    limits = LimitKeys({key.name: _limited(key) for key in configuration.auth.keys if _limits(key) != Limits()})
    keys: list[Stage] = []
    if any(key.models != ("*",) for key in configuration.auth.keys):
        keys.append(access)
    if limits.keys:
        keys.append(limits)
    gateway = _gateway(configuration, upstreams, names, targets, metrics, keys)
    health = Health(providers=len(upstreams))
    running = Running()

    def refused(request: web.Request, error: RunestoneError) -> None:
        metrics.failed(error.source, error.code or error.type)
        fields = {
            "id": request.get(REQUEST_ID),
            "method": request.method,
            "path": request.path[:200],
            "status": error.status,
            "error": error.code,
        }
        _log.info("refused", extra={"fields": fields})

    table = routes(
        Calls(gateway, max_body=configuration.server.max_body, running=running),
        Models(names, access, _listers(configuration, upstreams)),
        health,
        MetricsEndpoint(metrics),
        Admin(control.providers, control.act),
    )
    ring = KeyRing(map(_listed, configuration.auth.keys), required=configuration.auth.required)
    middlewares: list[Middleware] = [Rescue(refused), Authenticate(ring)]
    app = application(table, middlewares, max_body=configuration.server.max_body, limit_headers=limits.headers)
    pools = {name: pool_of(entry, configuration) for name, entry in configuration.providers.items()}
    return App(app, health, running, upstreams, control, pools, Supervisor())


def _gateway(
    configuration: Configuration,
    upstreams: dict[str, Upstream],
    names: Names,
    targets: Targets,
    metrics: Metrics,
    keys: Iterable[Stage],
) -> Next:
    """The stages, in the order of gateway/pipeline.py; one that is not configured is not there."""
    routing = configuration.routing
    budget = Budget(share=routing.retry_budget)
    traits = {name: _traits(entry, configuration) for name, entry in configuration.providers.items()}
    route = Route(
        names,
        total=routing.timeouts.total,
        ways=_ways(configuration, names, targets),
        candidate=lambda target: _candidate(configuration, targets, target, 1, priced=False),
        chance=random.random,
    )
    stages: list[Stage] = [Meter([metrics, CallLog()]), *keys, route]
    if routing.hedge is not None:
        after = None if routing.hedge == HEDGE_P95 else parse_duration(routing.hedge)
        stages.append(Hedge(targets, after=after, budget=budget, count=metrics.tried))
    stages.append(Fallback(retries=routing.retries, budget=budget, chance=random.random, count=metrics.tried))
    stages.append(Guard(targets))
    return compose(stages, Send(upstreams, traits, ttft_timeout=routing.ttft_timeout))


def _targets(configuration: Configuration) -> Targets:
    """The state of every target the configuration names."""
    breaker, adaptive = configuration.breaker, configuration.routing.adaptive_concurrency

    def make(target: Target) -> Watched:
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


def _ways(configuration: Configuration, names: Names, targets: Targets) -> dict[tuple[Target, ...], Way]:
    """How the models with several targets, or with refusals that move on, are routed."""
    ways = {}
    for name, model in configuration.models.items():
        strategy = model.strategy or POLICIES[configuration.routing.policy]
        weights = model.weights or (1,) * len(model.targets)
        candidates = [
            _candidate(configuration, targets, target, weight, priced=len(model.targets) > 1)
            for target, weight in zip(names.resolve(name), weights, strict=True)
        ]
        ways[names.resolve(name)] = Way(Order(strategy, candidates), frozenset(model.fallback_on))
    return ways


def _candidate(
    configuration: Configuration, targets: Targets, target: Target, weight: int, *, priced: bool
) -> Candidate:
    provider = configuration.providers[target.provider]
    entry = CATALOG.get(provider.kind)
    # A vendor's price is for the vendor's own address; looking prices up loads their tables, so only where there is
    # a choice.
    is_vendors = entry is not None and provider.base_url in (None, entry.base_url)
    price = price_of(provider.kind, target.model) if priced and is_vendors else None
    capabilities = capabilities_of(target.model, entry.dialect if entry is not None else "openai")
    return Candidate(target, weight=weight, price=price, health=targets.of(target).health, capabilities=capabilities)


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


def _listers(configuration: Configuration, upstreams: dict[str, Upstream]) -> dict[str, Lister]:
    """The providers whose own lists tell what can be asked for: those found by patterns, or by their name alone."""
    return {
        name: upstream.list_models
        for name, upstream in upstreams.items()
        if isinstance(upstream, HttpProvider)
        and not upstream.passthrough
        and (not configuration.providers[name].models or any(map(is_pattern, configuration.providers[name].models)))
    }


def _target(text: str) -> Target:
    provider, _, model = text.partition("/")
    return Target(provider, model)


def _listed(key: Key) -> ListedKey:
    sha256 = key.sha256 or digest(key.key.value if key.key else "")
    caller = Caller(name=key.name, admin=key.admin, models=key.models)
    return ListedKey(sha256, caller, active=key.active, expires=key.expires)


def _limits(key: Key) -> Limits:
    return Limits(
        requests_per_minute=key.requests_per_minute,
        requests_per_hour=key.requests_per_hour,
        tokens_per_minute=key.tokens_per_minute,
        concurrent_requests=key.concurrent_requests,
    )


def _limited(key: Key) -> Limited:
    return Limited(_limits(key), key.queue)


def _upstream(name: str, provider: Provider, configuration: Configuration) -> Upstream:
    if provider.kind == SIMULATED:
        told = provider.simulated
        behaviour = Behaviour(
            ttft=told.ttft,
            tokens_per_second=told.tokens_per_second,
            error_rate=told.error_rate,
            status=told.status,
            cut_after=told.cut_after,
            hang=told.hang,
        )
        # Chance is handed in; this one decides which calls fail on purpose, nothing secret.
        return SimulatedProvider(
            behaviour=behaviour,
            chance=random.random,
            first_byte=configuration.routing.timeouts.first_byte,
        )
    entry = CATALOG[provider.kind]
    timeouts = configuration.routing.timeouts
    pool = pool_of(provider, configuration)
    return HttpProvider(
        name=name,
        base_url=provider.base_url or entry.base_url,
        auth=entry.auth,
        credentials=[secret.value for secret in provider.api_keys],
        passthrough=provider.passthrough,
        headers={**dict(entry.headers), **provider.headers},
        timeouts=Timeouts(
            connect=timeouts.connect, first_byte=timeouts.first_byte, between_bytes=timeouts.between_bytes
        ),
        limits=PoolLimits(
            size=pool.default_size,
            overflow=pool.max_overflow,
            checkout_timeout=pool.checkout_timeout,
            waiting=pool.max_waiting,
        ),
        health_path=entry.health_path,
    )


def pool_of(provider: Provider, configuration: Configuration) -> PoolSettings:
    """`[pool]` with what the provider overrides."""
    own = {field.name: getattr(provider.pool, field.name) for field in fields(provider.pool)}
    return replace(configuration.pool, **{name: value for name, value in own.items() if value is not None})


def _traits(provider: Provider, configuration: Configuration) -> Traits:
    if provider.kind == SIMULATED:
        return Traits(operations=OPERATIONS)
    entry = CATALOG[provider.kind]
    return Traits(
        dialect=entry.dialect,
        operations=entry.operations,
        ends_with_done=entry.ends_with_done if provider.ends_with_done is None else provider.ends_with_done,
        max_tokens_field=provider.max_tokens_field or entry.max_tokens_field,
        stream_usage=entry.stream_usage,
        reasoning_field=entry.reasoning_field,
        default_max_tokens=configuration.routing.default_max_tokens,
    )
