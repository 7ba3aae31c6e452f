"""Builds every object from a configuration: the only module that knows all rings.

Rule: nobody imports this but cli.py, serving.py and tests; everything is handed over by keyword, nothing is looked up.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

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
from runestone.gateway.limits import LimitKeys
from runestone.gateway.meter import Meter
from runestone.gateway.pipeline import Stage
from runestone.gateway.refresh import Refresher
from runestone.gateway.route import Route
from runestone.gateway.send import Send
from runestone.gateway.targets import Targets
from runestone.providers.http import HttpProvider
from runestone.tasks import Supervisor, spawn
from runestone.telemetry.logs import CallLog
from runestone.telemetry.metrics import Metrics
from runestone.telemetry.tail import Tail
from runestone.wiring.cache_control import CacheControl, cache_control_of
from runestone.wiring.caching import Caching, batch_stages, cache_stages, caching_of
from runestone.wiring.keys import key_ring_of, limits_of
from runestone.wiring.pipelines import Watch, admin_of, pipelines_of
from runestone.wiring.prices import costs_of
from runestone.wiring.providers import listers_of, pools_of, traits_of, upstreams_of
from runestone.wiring.routing import candidate_of, model_names, resilience_of, targets_of, ways_of
from runestone.wiring.state import log_samples, watching_of
from runestone.wiring.streams import Live, live_of
from runestone.wiring.telemetry import Following, following_of


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
    following: Following
    metrics: Metrics

    async def start(self) -> None:
        """Fills the cache, opens the providers, and begins to look after them."""
        await self.following.start()
        await self.cache.start()
        self.tasks.start("prices", self.metrics.costs.load())
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
        await self.following.close()


def build(configuration: Configuration) -> App:
    """Every object of the gateway, wired; nothing is opened yet. Raises ConfigurationError."""
    upstreams = upstreams_of(configuration)
    names = model_names(configuration)
    targets = targets_of(configuration)
    control = Control(upstreams, targets)
    caching = caching_of(configuration, names)
    cache = cache_control_of(configuration, caching, names)
    tasks, running = Supervisor(), Running()
    access = Access(tuple(key.models for key in configuration.auth.keys))
    limits = limits_of(configuration.auth)
    following = following_of(configuration.telemetry, names.names())
    metrics = Metrics(
        names.names(),
        lambda: (*control.samples(), *caching.samples(), *live.samples(), *following.samples(), *log_samples()),
        costs_of(configuration),
    )
    tail = Tail(metrics.costs.of)
    meter = Meter([metrics, CallLog(metrics.costs.of), tail, *([following] if following.tracer is not None else [])])
    keys = _keys(configuration, access, limits)
    stages: dict[str, Sequence[Stage]] = {
        "meter": [meter],
        **keys,
        **cache_stages(configuration, caching, Refresher(tasks.start, [meter, *chain(*keys.values())])),
        **batch_stages(configuration, names, metrics.batched),
        **_walks(configuration, names, targets, metrics),
    }
    watch = Watch(seconds=metrics.middleware, failed=metrics.middleware_failed, tracer=following.tracer)
    send = Send(upstreams, traits_of(configuration))
    gateway = pipelines_of(configuration.pipelines, stages, send, watch)
    live = live_of(
        configuration, gateway, running=running, start=tasks.start, refused=metrics.refused, following=following
    )
    cors = Cors(configuration.server.cors_origins) if configuration.server.cors_origins else None
    stamp = Stamp(limits.headers, cors)
    refused, health = Refused(metrics.refused), Health(providers=len(upstreams))
    total, max_body = configuration.routing.timeouts.total, configuration.server.max_body
    table = routes(
        Calls(gateway, max_body=max_body, total=total, running=running, streams=live.streams, stamp=stamp),
        Batches(
            gateway,
            max_body=max_body,
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
        CacheAdmin(cache, max_body=max_body),
        live.streams,
        live.sockets,
        live.module,
        admin_of(configuration.pipelines),
        watching_of(meter.inflight, control.providers, caching, live, tail),
    )
    middlewares: list[Middleware] = [Rescue(refused), Authenticate(key_ring_of(configuration.auth))]
    if cors is not None:
        middlewares.insert(1, cors)
    app = application(table, middlewares, max_body=max_body, stamp=stamp)
    pools = pools_of(configuration, upstreams)
    return App(app, health, running, upstreams, control, pools, tasks, caching, cache, live, following, metrics)


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
