"""Builds every object from a configuration: the only module that knows all rings.

Rule: nobody imports this but cli.py, serving.py and tests; everything is handed over by keyword, nothing is looked up.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from runestone.config.schema import Configuration
from runestone.config.schema import Pool as PoolSettings
from runestone.control import Control
from runestone.core.budget import Budget
from runestone.core.names import Names
from runestone.core.upstream import Upstream
from runestone.edge.admin import Admin, CacheAdmin
from runestone.edge.batch import Batches
from runestone.edge.calls import Calls
from runestone.edge.cors import Cors
from runestone.edge.health import Health
from runestone.edge.middleware.authenticate import Authenticate
from runestone.edge.middleware.rescue import Rescue
from runestone.edge.models import Models
from runestone.edge.refused import Refused
from runestone.edge.routes import application, routes
from runestone.edge.running import Running
from runestone.edge.stamp import Stamp
from runestone.edge.telemetry import Metrics as MetricsEndpoint
from runestone.gateway.access import Access
from runestone.gateway.continuation import Continue
from runestone.gateway.fallback import Fallback
from runestone.gateway.guard import Guard
from runestone.gateway.hedge import Hedge
from runestone.gateway.meter import Meter
from runestone.gateway.pipeline import Next, Stage, compose
from runestone.gateway.refresh import Refresher
from runestone.gateway.route import Route
from runestone.gateway.send import Send
from runestone.gateway.targets import Targets
from runestone.providers.http import HttpProvider
from runestone.tasks import Supervisor, spawn
from runestone.telemetry.logs import CallLog
from runestone.telemetry.metrics import Metrics
from runestone.wiring.cache_control import CacheControl, cache_control_of
from runestone.wiring.caching import Caching, batch_stages, cache_stages, caching_of
from runestone.wiring.keys import key_ring_of, limits_of
from runestone.wiring.providers import listers_of, pool_of, traits_of, upstreams_of
from runestone.wiring.routing import candidate_of, model_names, resilience_of, targets_of, ways_of
from runestone.wiring.streams import Live, live_of


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
    caching: Caching
    cache: CacheControl
    live: Live

    async def start(self) -> None:
        """Fills the cache, opens the providers, and begins to look after them."""
        await self.cache.start()
        for name, upstream in self.upstreams.items():
            await upstream.start()
            if isinstance(upstream, HttpProvider):
                pool = self.pools[name]
                checked = partial(self.control.checked, name)
                work = upstream.tend(pool.warmup, pool.health_check_interval, checked)
                self.tasks.start(f"tend {name}", work)

    async def close(self) -> None:
        """Ends every session, task and connection, and keeps what the next run can use."""
        self.live.sessions.close()
        await self.tasks.close()
        await self.cache.close()
        for upstream in self.upstreams.values():
            await upstream.close()


def build(configuration: Configuration) -> App:
    """Every object of the gateway, wired; nothing is opened yet."""
    upstreams = upstreams_of(configuration)
    names = model_names(configuration)
    targets = targets_of(configuration)
    control = Control(upstreams, targets)
    caching = caching_of(configuration, names)
    cache = cache_control_of(configuration, caching, names)
    tasks = Supervisor()
    running = Running()
    metrics = Metrics(names.names(), lambda: (*control.samples(), *caching.samples(), *live.samples()))
    access = Access(tuple(key.models for key in configuration.auth.keys))
    limits = limits_of(configuration.auth)
    keys: list[Stage] = []
    if any(key.models != ("*",) for key in configuration.auth.keys):
        keys.append(access)
    if limits.keys:
        keys.append(limits)
    meter = Meter([metrics, CallLog()])
    savers = [
        *cache_stages(configuration, caching, Refresher(tasks.start, [meter, *keys])),
        *batch_stages(configuration, names, metrics.batched),
    ]
    gateway = _gateway(configuration, upstreams, names, targets, metrics, [meter, *keys, *savers])
    health = Health(providers=len(upstreams))
    total = configuration.routing.timeouts.total
    cors = Cors(configuration.server.cors_origins) if configuration.server.cors_origins else None
    stamp = Stamp(limits.headers, cors)
    live = live_of(configuration, gateway, running=running, start=tasks.start, refused=metrics.refused)
    refused = Refused(metrics.refused)
    table = routes(
        Calls(
            gateway,
            max_body=configuration.server.max_body,
            total=total,
            running=running,
            streams=live.streams,
            stamp=stamp,
        ),
        Batches(
            gateway,
            max_body=configuration.server.max_body,
            total=total,
            concurrency=configuration.batch.max_concurrency,
            running=running,
            spawn=spawn,
            refused=refused,
        ),
        Models(names, access, listers_of(configuration, upstreams)),
        health,
        MetricsEndpoint(metrics),
        Admin(control.providers, control.act),
        CacheAdmin(cache, max_body=configuration.server.max_body),
        live.streams,
        live.sockets,
        live.module,
    )
    middlewares: list[Middleware] = [Rescue(refused), Authenticate(key_ring_of(configuration.auth))]
    if cors is not None:
        middlewares.insert(1, cors)
    app = application(table, middlewares, max_body=configuration.server.max_body, stamp=stamp)
    pools = {
        name: pool_of(entry, configuration)
        for name, entry in configuration.providers.items()
        if isinstance(upstreams[name], HttpProvider)
    }
    return App(app, health, running, upstreams, control, pools, tasks, caching, cache, live)


def _gateway(
    configuration: Configuration,
    upstreams: dict[str, Upstream],
    names: Names,
    targets: Targets,
    metrics: Metrics,
    before: Iterable[Stage],
) -> Next:
    """The stages, in the order of gateway/pipeline.py: those `before` the route, then the walks."""
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
    stages: list[Stage] = [*before, route]
    if any(resilience.continues for resilience in care):
        stages.append(Continue(budget=budget, count=metrics.tried))
    if any(resilience.hedge is not None for resilience in care):
        stages.append(Hedge(targets, budget=budget, count=metrics.tried))
    stages.append(Fallback(retries=routing.retries, budget=budget, chance=random.random, count=metrics.tried))
    stages.append(Guard(targets))
    return compose(stages, Send(upstreams, traits_of(configuration)))
