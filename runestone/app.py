"""Builds every object from a configuration: the only module that knows all rings.

    build(configuration)           the first: everything
    build(configuration, before)   a reload: what outlives it is taken from `before`, and changed by `take_over` alone

Rule: nobody imports this but cli.py, reload.py, serving/ and tests; everything is handed over by keyword, nothing is
looked up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from aiohttp.web import Application

from runestone.config.schema import Configuration
from runestone.config.schema import Pool as PoolSettings
from runestone.control import Control
from runestone.core.budget import Budget
from runestone.core.names import Names
from runestone.core.record import Observer
from runestone.core.upstream import Upstream
from runestone.edge.running import Running
from runestone.gateway.access import Access
from runestone.gateway.continuation import Continue
from runestone.gateway.fallback import Fallback
from runestone.gateway.guard import Guard
from runestone.gateway.hedge import Hedge
from runestone.gateway.limits import LimitKeys
from runestone.gateway.meter import Meter
from runestone.gateway.pipeline import Stage
from runestone.gateway.pipelines import Pipelines
from runestone.gateway.refresh import Refresher
from runestone.gateway.route import Route
from runestone.gateway.send import Send
from runestone.gateway.targets import Targets
from runestone.providers.http import HttpProvider
from runestone.tasks import Supervisor
from runestone.telemetry.costs import Costs
from runestone.telemetry.logs import CallLog
from runestone.telemetry.metrics import Metrics
from runestone.wiring.cache_control import CacheControl, cache_control_of
from runestone.wiring.caching import Caching, batch_stages, cache_stages, caching_of
from runestone.wiring.endpoints import PUBLIC, Parts, endpoints_of
from runestone.wiring.keys import limits_of, revoked_by
from runestone.wiring.lasting import Lasting, Now, Siblings, lasting_of
from runestone.wiring.pipelines import Watch, pipelines_of
from runestone.wiring.prices import costs_of
from runestone.wiring.providers import pools_of, traits_of, upstreams_of
from runestone.wiring.routing import candidate_of, model_names, resilience_of, targets_of, ways_of
from runestone.wiring.streams import Live
from runestone.wiring.telemetry import Following, following_of


@dataclass(slots=True, kw_only=True)
class App:
    """What one configuration made: the aiohttp applications (wiring/endpoints.py), and what must be opened and closed
    with them.
    """

    configuration: Configuration
    apps: dict[str, Application]
    gateway: Pipelines
    upstreams: dict[str, Upstream]
    control: Control
    targets: Targets
    limits: LimitKeys
    pools: dict[str, PoolSettings]
    caching: Caching
    cache: CacheControl
    following: Following
    meter: Meter
    costs: Costs
    names: Names
    lasting: Lasting
    before: App | None = None
    """The one in force, until this one takes over."""
    tending: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """What looks after the providers that have connections."""

    @property
    def web(self) -> Application:
        """What clients see."""
        return self.apps[PUBLIC]

    @property
    def running(self) -> Running:
        """The calls that run."""
        return self.lasting.running

    @property
    def tasks(self) -> Supervisor:
        """Who owns the background tasks."""
        return self.lasting.tasks

    @property
    def live(self) -> Live:
        """WebSockets and streams that can be rejoined."""
        return self.lasting.live

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        return self.lasting.metrics

    async def start(self) -> None:
        """The first configuration's: fills the cache, opens the providers, and begins to look after them."""
        self.tasks.keep("heartbeat", self.lasting.heartbeat.run)
        await self.open()
        await self.cache.start()
        self.take_over()

    async def open(self) -> None:
        """Opens what is not open yet."""
        if self.before is None or self.following is not self.before.following:
            await self.following.start()
        for name, upstream in self.upstreams.items():
            if self.before is None or self.before.upstreams.get(name) is not upstream:
                await upstream.start()

    def take_over(self) -> None:
        """From now on this configuration is the one in force. Changes all that outlives a reload, at once."""
        lasting, before = self.lasting, self.before
        lasting.now = Now(self.control, self.caching, self.following)
        lasting.heartbeat.limit = self.configuration.server.stuck_after
        lasting.metrics.adopt(self.names.names(), self.costs)
        self.tasks.start("prices", self.costs.load())
        for name, upstream in self.upstreams.items():
            if before is not None and before.upstreams.get(name) is upstream:
                if name in before.tending:
                    self.tending[name] = before.tending[name]
            elif isinstance(upstream, HttpProvider):
                pool = self.pools[name]
                tend = partial(
                    upstream.tend, pool.warmup, pool.health_check_interval, partial(self.lasting.checked, name)
                )
                self.tending[name] = self.tasks.keep(f"tend {name}", tend)
        if before is not None:
            before.stop_tending(self)
            lasting.live.adopt(self.configuration, self.gateway, self.following)
            lasting.live.sessions.revoke(revoked_by(before.configuration.auth, self.configuration.auth))
        self.before = None

    async def follow(self, before: App) -> None:
        """After `take_over`: the cache goes on under these rules."""
        await self.cache.follow(before.cache)

    def is_busy(self, after: App) -> bool:
        """Whether connections are in use to a provider that `after` does not use."""
        return any(
            isinstance(upstream, HttpProvider) and (upstream.pool.active or upstream.pool.waiting)
            for name, upstream in self.upstreams.items()
            if after.upstreams.get(name) is not upstream
        )

    def stop_tending(self, after: App) -> None:
        """Looks no more after what `after` does not use: what it would say is not of the provider of that name."""
        for name, task in self.tending.items():
            if after.upstreams.get(name) is not self.upstreams[name]:
                task.cancel()

    async def retire(self, after: App) -> None:
        """Closes what `after`, which has taken over, does not use. No call of this configuration may run any more."""
        for name, upstream in self.upstreams.items():
            if after.upstreams.get(name) is not upstream:
                await upstream.close()
        if self.following is not after.following:
            await self.following.close()

    async def close(self, *, keep: bool = True) -> None:
        """Ends every session, task and connection; keeps what the next run can use, unless that runs already."""
        self.live.sessions.close()
        await self.tasks.close()
        if keep:
            await self.cache.save()
        for upstream in self.upstreams.values():
            await upstream.close()
        await self.following.close()


def build(configuration: Configuration, before: App | None = None, siblings: Siblings | None = None) -> App:
    """Every object of the gateway, wired; nothing is opened yet, and nothing of `before` is changed. `siblings` are the
    other workers. Raises ConfigurationError.
    """
    lasting = before.lasting if before is not None else lasting_of(configuration, siblings)
    known = (before.configuration, before.upstreams) if before is not None else None
    upstreams = upstreams_of(configuration, lasting.tallies, known)
    names = model_names(configuration)
    targets = _targets(configuration, upstreams, before)
    control = Control(upstreams, targets)
    caching = caching_of(configuration, names, before.caching if before is not None else None)
    limits = limits_of(configuration.auth, before.limits if before is not None else None)
    following = before.following if before is not None and _is_told_alike(configuration, names, before) else None
    following = following or following_of(configuration.telemetry, names.names())
    metrics = lasting.metrics
    observers: list[Observer] = [metrics, CallLog(metrics.cost_of), lasting.tail]
    meter = Meter([*observers, *([following] if following.tracer is not None else [])], lasting.inflight)
    access = Access(tuple(key.models for key in configuration.auth.keys), names)
    keys = _keys(configuration, access, limits)
    stages: dict[str, Sequence[Stage]] = {
        "meter": [meter],
        **keys,
        **cache_stages(configuration, caching, Refresher(lasting.tasks.start, [meter, *chain(*keys.values())])),
        **batch_stages(configuration, names, metrics.batched),
        **_walks(configuration, names, targets, metrics),
    }
    watch = Watch(seconds=metrics.middleware, failed=metrics.middleware_failed, tracer=following.tracer)
    gateway = pipelines_of(configuration.pipelines, stages, Send(upstreams, traits_of(configuration)), watch)
    if before is None:
        lasting.begin(configuration, Now(control, caching, following), gateway)
    cache = cache_control_of(configuration, caching, names)
    parts = Parts(gateway, names, access, limits, control, caching, cache, upstreams)
    return App(
        configuration=configuration,
        apps=endpoints_of(configuration, parts, lasting),
        gateway=gateway,
        upstreams=upstreams,
        control=control,
        targets=targets,
        limits=limits,
        pools=pools_of(configuration, upstreams),
        caching=caching,
        cache=cache,
        following=following,
        meter=meter,
        costs=costs_of(configuration),
        names=names,
        lasting=lasting,
        before=before,
    )


def _targets(configuration: Configuration, upstreams: dict[str, Upstream], before: App | None) -> Targets:
    """What is known of targets goes on where their provider does, and is judged as it was."""
    if before is None:
        return targets_of(configuration)
    old = before.configuration
    is_judged_alike = configuration.breaker == old.breaker
    is_judged_alike &= configuration.routing.adaptive_concurrency == old.routing.adaptive_concurrency
    kept = {name for name, upstream in upstreams.items() if before.upstreams.get(name) is upstream}
    return targets_of(configuration, before.targets, kept if is_judged_alike else ())


def _is_told_alike(configuration: Configuration, names: Names, before: App) -> bool:
    """Whether traces and export need not change: names become labels there too."""
    return configuration.telemetry == before.configuration.telemetry and before.names.names() == names.names()


def _keys(configuration: Configuration, access: Access, limits: LimitKeys) -> dict[str, Sequence[Stage]]:
    """What stands between a client's key and a model, where anything does."""
    is_open = all(key.models == ("*",) for key in configuration.auth.keys)
    return {"access": [] if is_open else [access], "limits": [limits] if limits.keys else []}


def _walks(
    configuration: Configuration, names: Names, targets: Targets, metrics: Metrics
) -> dict[str, Sequence[Stage]]:
    """From the route to the single attempt; what is not configured is not there."""
    routing = configuration.routing
    budget = Budget(share=routing.retry_budget)
    ways = ways_of(configuration, names, targets)
    plain = resilience_of(configuration)
    care = [plain, *(way.resilience for way in ways.values())]
    route = Route(
        names,
        ways=ways,
        resilience=plain,
        candidate=lambda target: candidate_of(configuration, targets, target, 1, priced=False),
        chance=random.random,
    )
    continues = any(resilience.continues for resilience in care)
    hedges = any(resilience.hedge is not None for resilience in care)
    return {
        "route": [route],
        "continue": [Continue(budget=budget, count=metrics.tried)] if continues else [],
        "hedge": [Hedge(targets, budget=budget, count=metrics.tried)] if hedges else [],
        "fallback": [Fallback(retries=routing.retries, budget=budget, chance=random.random, count=metrics.tried)],
        "guard": [Guard(targets)],
    }
