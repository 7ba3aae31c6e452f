"""The endpoints of a configuration: the handlers, the middlewares around them, and which listener shows what."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware

from runestone.config.schema import Configuration
from runestone.control import Control
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
from runestone.edge.routes import application, is_private, routes
from runestone.edge.stamp import Stamp
from runestone.edge.state import Watching
from runestone.edge.telemetry import Metrics as MetricsEndpoint
from runestone.gateway.access import Access
from runestone.gateway.limits import LimitKeys
from runestone.gateway.pipelines import Pipelines
from runestone.tasks import spawn
from runestone.wiring.cache_control import CacheControl
from runestone.wiring.caching import Caching
from runestone.wiring.keys import key_ring_of
from runestone.wiring.lasting import Lasting
from runestone.wiring.pipelines import admin_of
from runestone.wiring.providers import listers_of
from runestone.wiring.state import State


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints of one configuration show and change."""

    gateway: Pipelines
    names: Names
    access: Access
    limits: LimitKeys
    control: Control
    caching: Caching
    cache: CacheControl
    upstreams: dict[str, Upstream]


def endpoints_of(
    configuration: Configuration, parts: Parts, lasting: Lasting
) -> tuple[web.Application, web.Application | None]:
    """The application of the usual listeners, and of the admin listener, where there is one."""
    server, live, metrics, running = configuration.server, lasting.live, lasting.metrics, lasting.running
    total, max_body = configuration.routing.timeouts.total, server.max_body
    cors = Cors(server.cors_origins) if server.cors_origins else None
    stamp = Stamp(parts.limits.headers, cors)
    refused = Refused(metrics.refused)
    table = routes(
        Calls(parts.gateway, max_body=max_body, total=total, running=running, streams=live.streams, stamp=stamp),
        Batches(
            parts.gateway,
            max_body=max_body,
            total=total,
            concurrency=configuration.batch.max_concurrency,
            running=running,
            spawn=spawn,
            refused=refused,
        ),
        Models(parts.names, parts.access, listers_of(configuration, parts.upstreams)),
        Health(lasting.looked(), lambda: lasting.heartbeat.is_stuck, lasting.since),
        MetricsEndpoint(metrics),
        Admin(parts.control.providers, parts.control.act, lasting.reload_now),
        CacheAdmin(parts.cache, max_body=max_body),
        live.streams,
        live.sockets if configuration.websocket.enabled else None,
        live.module,
        admin_of(configuration.pipelines),
        Watching(
            State(lasting.inflight, parts.control.providers, parts.caching, live, lasting.tail, lasting.since),
            lasting.tail,
        ),
    )
    middlewares: list[Middleware] = [Rescue(refused), Authenticate(key_ring_of(configuration.auth))]
    if cors is not None:
        middlewares.insert(1, cors)
    if server.admin_port is None:
        return application(table, middlewares, max_body=max_body, stamp=stamp), None
    shown = [row for row in table if not is_private(row[1])]
    kept = [row for row in table if is_private(row[1]) or row[1].startswith("/health")]
    return (
        application(shown, middlewares, max_body=max_body, stamp=stamp),
        application(kept, middlewares, max_body=max_body, stamp=stamp),
    )
