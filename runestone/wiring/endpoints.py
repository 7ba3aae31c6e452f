"""The endpoints of a configuration: the handlers, the middlewares around them, and which listener shows what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from runestone.edge.described.about import Route
from runestone.edge.health import Health
from runestone.edge.middleware.authenticate import Authenticate
from runestone.edge.middleware.rescue import Rescue
from runestone.edge.models import Models
from runestone.edge.openapi import Document
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

PUBLIC, ADMIN, FAMILY = "public", "admin", "family"
DOCUMENT = "/openapi.json"
OPEN = ("/health", "/health/live", "/health/ready", DOCUMENT)
"""On the admin listener too."""


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


def endpoints_of(configuration: Configuration, parts: Parts, lasting: Lasting) -> dict[str, web.Application]:
    """The applications by who is served: PUBLIC, ADMIN where that has a listener of its own, and FAMILY where there
    are several workers.
    """
    server, siblings = configuration.server, lasting.siblings
    max_body = server.max_body
    cors = Cors(server.cors_origins) if server.cors_origins else None
    stamp = Stamp(parts.limits.headers, cors)
    refused = Refused(lasting.metrics.refused)
    middlewares: list[Middleware] = [
        Rescue(refused),
        Authenticate(key_ring_of(configuration.auth), server.cors_origins),
    ]
    if cors is not None:
        middlewares.insert(1, cors)
    around = [*admin_of(configuration.pipelines), *([siblings.everywhere] if siblings is not None else [])]
    table = _table(configuration, parts, lasting, refused, stamp, around)
    apps = {}
    if server.admin_port is not None:
        own = _described(row for row in table if is_private(row.path) or row.path in OPEN)
        table = _described(row for row in table if not is_private(row.path))
        apps[ADMIN] = application(own, middlewares, max_body=max_body, stamp=stamp)
    apps[PUBLIC] = application(table, middlewares, max_body=max_body, stamp=stamp)
    if siblings is not None:
        inner = [
            row for row in _table(configuration, parts, lasting, refused, stamp, (), alone=True) if is_private(row.path)
        ]
        apps[FAMILY] = application(inner, [Rescue(refused)], max_body=max_body, stamp=stamp)
    return apps


def _described(rows: Iterable[Route]) -> list[Route]:
    """These rows, with a document of their own: each listener tells of what is there, and of nothing else."""
    told = list(rows)
    document = Document(told)
    return [row._replace(handler=document.show) if row.path == DOCUMENT else row for row in told]


def _table(
    configuration: Configuration,
    parts: Parts,
    lasting: Lasting,
    refused: Refused,
    stamp: Stamp,
    around: Sequence[Middleware],
    *,
    alone: bool = False,
) -> list[Route]:
    """The routes; `alone` are those that tell of this process only."""
    live, running = lasting.live, lasting.running
    total, max_body = configuration.routing.timeouts.total, configuration.server.max_body
    parent = lasting.siblings.parent if lasting.siblings is not None else None
    state = State(lasting.inflight, parts.control.providers, parts.caching, live, lasting.tail, lasting.since)
    return routes(
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
        Health(lasting.looked(), lambda: lasting.heartbeat.is_stuck, lasting.since, parent),
        MetricsEndpoint(lasting.expose if alone else lasting.expose_all, lasting.metrics.content_type),
        Admin(parts.control.providers, parts.control.act, lasting.reload_now),
        CacheAdmin(parts.cache, max_body=max_body),
        live.streams,
        live.sockets if configuration.websocket.enabled else None,
        live.module,
        around,
        Watching(state, lasting.tail if alone else lasting.followed()),
    )
