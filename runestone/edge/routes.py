"""Every route, in one table.

Rule: a path that is not here does not exist; both listeners, both prefixes and /openapi.json are made from this table.
What a row does is said in described/operations.py; who adds one here says it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from runestone.core.call import Operation
from runestone.edge.admin import VERBS, Admin, CacheAdmin
from runestone.edge.batch import Batches
from runestone.edge.calls import Calls, Handler
from runestone.edge.described import operations as about
from runestone.edge.described.about import Needs, Route
from runestone.edge.health import Health
from runestone.edge.models import Models
from runestone.edge.module import Module
from runestone.edge.openapi import Document
from runestone.edge.request import SOCKETS
from runestone.edge.stamp import Stamp
from runestone.edge.state import Watching
from runestone.edge.streams import Streams
from runestone.edge.telemetry import Metrics
from runestone.edge.websocket.endpoint import WebSockets

AZURE = "/openai/deployments/{model}"
CHANGE = "/admin/providers/{name}/{verb:" + "|".join(VERBS) + "}"


def routes(
    calls: Calls,
    batches: Batches,
    models: Models,
    health: Health,
    metrics: Metrics,
    admin: Admin,
    cache: CacheAdmin,
    streams: Streams,
    sockets: WebSockets | None,
    module: Module,
    admin_middlewares: Sequence[Middleware],
    watching: Watching,
) -> list[Route]:
    """The rows, most used first; of two that do the same the one to use comes first. Rows for admin keys have
    `admin_middlewares` around them.
    """
    chat = calls.handler(Operation.CHAT)
    completions = calls.handler(Operation.COMPLETIONS)
    embeddings = calls.handler(Operation.EMBEDDINGS)
    live = [Route("GET", path, sockets.handle, about.SOCKET) for path in SOCKETS] if sockets is not None else []
    table: list[Route] = []
    table += [
        Route("POST", "/v1/chat/completions", chat, about.CHAT),
        Route("POST", "/v1/messages", calls.handler(Operation.MESSAGES), about.MESSAGES),
        Route("POST", "/v1/embeddings", embeddings, about.EMBEDDINGS),
        Route("POST", "/v1/completions", completions, about.COMPLETIONS),
        Route("POST", "/v1/messages/count_tokens", calls.handler(Operation.COUNT_TOKENS), about.COUNT_TOKENS),
        Route("POST", "/v1/batch", batches.handle, about.BATCH),
        Route("GET", "/v1/models", models.listing, about.MODELS),
        Route("GET", "/v1/models/{id:.+}", models.one, about.MODEL),
        Route("GET", "/v1/streams/{id}", streams.show, about.STREAM),
        Route("DELETE", "/v1/streams/{id}", streams.end, about.END_STREAM),
        *live,
        Route("GET", "/runestone.js", module.show, about.BROWSER_MODULE),
        Route("GET", "/openapi.json", Document(table).show, about.DOCUMENT),
        # the same for clients whose base URL has no /v1
        Route("POST", "/chat/completions", chat, about.CHAT),
        Route("POST", "/completions", completions, about.COMPLETIONS),
        Route("POST", "/embeddings", embeddings, about.EMBEDDINGS),
        Route("POST", "/batch", batches.handle, about.BATCH),
        Route("GET", "/models", models.listing, about.MODELS),
        Route("GET", "/models/{id:.+}", models.one, about.MODEL),
        # Azure's form, where the deployment names the model
        Route("POST", AZURE + "/chat/completions", chat, about.AZURE_CHAT),
        Route("POST", AZURE + "/completions", completions, about.AZURE_COMPLETIONS),
        Route("POST", AZURE + "/embeddings", embeddings, about.AZURE_EMBEDDINGS),
        Route("GET", "/health", health.summary, about.HEALTH),
        Route("GET", "/health/live", health.live, about.LIVE),
        Route("GET", "/health/ready", health.ready, about.READY),
        Route("GET", "/metrics", metrics.scrape, about.METRICS),
        Route("GET", "/admin/providers", admin.show_providers, about.PROVIDERS),
        Route("POST", CHANGE, admin.change_provider, about.CHANGE_PROVIDER),
        Route("POST", "/admin/reload", admin.reload, about.RELOAD),
        Route("GET", "/admin/cache", cache.show, about.CACHE),
        Route("POST", "/admin/cache/clear", cache.clear, about.CLEAR_CACHE),
        Route("POST", "/admin/cache/warm", cache.warm, about.WARM_CACHE),
        Route("GET", "/admin/state", watching.state, about.STATE),
        Route("GET", "/admin/tail", watching.tail, about.TAIL),
    ]
    table[:] = [
        row._replace(handler=_within(admin_middlewares, row.handler)) if row.about.needs is Needs.ADMIN else row
        for row in table
    ]
    return table


def is_private(path: str) -> bool:
    """Whether this is for operators and their machines alone: what an admin listener keeps off the others."""
    return path == "/metrics" or path.startswith("/admin/")


def _within(middlewares: Sequence[Middleware], handler: Handler) -> Handler:
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    return handler


def application(
    table: Iterable[Route], middlewares: list[Middleware], *, max_body: int, stamp: Stamp
) -> web.Application:
    """The aiohttp application of the table."""
    app = web.Application(middlewares=middlewares, client_max_size=max_body)
    app.on_response_prepare.append(stamp.prepare)
    for route in table:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)  # and HEAD, which load balancers like to ask
        else:
            app.router.add_route(route.method, route.path, route.handler)
    return app
