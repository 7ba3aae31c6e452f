"""Every route, in one table.

Rule: a path that is not here does not exist; both listeners and both prefixes are made from this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from runestone.core.call import Operation
from runestone.edge.admin import VERBS, Admin, CacheAdmin
from runestone.edge.batch import Batches
from runestone.edge.calls import Calls, Handler
from runestone.edge.health import Health
from runestone.edge.models import Models
from runestone.edge.module import Module
from runestone.edge.request import SOCKETS
from runestone.edge.stamp import Stamp
from runestone.edge.state import Watching
from runestone.edge.streams import Streams
from runestone.edge.telemetry import Metrics
from runestone.edge.websocket.endpoint import WebSockets

AZURE = "/openai/deployments/{model}"


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
) -> list[tuple[str, str, Handler]]:
    """(method, path, handler), most used first."""
    chat = calls.handler(Operation.CHAT)
    completions = calls.handler(Operation.COMPLETIONS)
    embeddings = calls.handler(Operation.EMBEDDINGS)
    live = [("GET", path, sockets.handle) for path in SOCKETS] if sockets is not None else []
    return [
        ("POST", "/v1/chat/completions", chat),
        ("POST", "/v1/messages", calls.handler(Operation.MESSAGES)),
        ("POST", "/v1/embeddings", embeddings),
        ("POST", "/v1/completions", completions),
        ("POST", "/v1/messages/count_tokens", calls.handler(Operation.COUNT_TOKENS)),
        ("POST", "/v1/batch", batches.handle),
        ("GET", "/v1/models", models.listing),
        ("GET", "/v1/models/{id:.+}", models.one),
        ("GET", "/v1/streams/{id}", streams.show),
        ("DELETE", "/v1/streams/{id}", streams.end),
        *live,
        ("GET", "/runestone.js", module.show),
        # the same for clients whose base URL has no /v1
        ("POST", "/chat/completions", chat),
        ("POST", "/completions", completions),
        ("POST", "/embeddings", embeddings),
        ("POST", "/batch", batches.handle),
        ("GET", "/models", models.listing),
        ("GET", "/models/{id:.+}", models.one),
        # Azure's form, where the deployment names the model
        ("POST", AZURE + "/chat/completions", chat),
        ("POST", AZURE + "/completions", completions),
        ("POST", AZURE + "/embeddings", embeddings),
        ("GET", "/health", health.summary),
        ("GET", "/health/live", health.live),
        ("GET", "/health/ready", health.ready),
        ("GET", "/metrics", metrics.scrape),
        *[
            (method, path, _within(admin_middlewares, handler))
            for method, path, handler in (
                ("GET", "/admin/providers", admin.show_providers),
                ("POST", "/admin/providers/{name}/{verb:" + "|".join(VERBS) + "}", admin.change_provider),
                ("GET", "/admin/cache", cache.show),
                ("POST", "/admin/cache/clear", cache.clear),
                ("POST", "/admin/cache/warm", cache.warm),
                ("GET", "/admin/state", watching.state),
                ("GET", "/admin/tail", watching.tail),
            )
        ],
    ]


def _within(middlewares: Sequence[Middleware], handler: Handler) -> Handler:
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    return handler


def application(
    table: list[tuple[str, str, Handler]], middlewares: list[Middleware], *, max_body: int, stamp: Stamp
) -> web.Application:
    """The aiohttp application of the table."""
    app = web.Application(middlewares=middlewares, client_max_size=max_body)
    app.on_response_prepare.append(stamp.prepare)
    for method, path, handler in table:
        if method == "GET":
            app.router.add_get(path, handler)  # and HEAD, which load balancers like to ask
        else:
            app.router.add_route(method, path, handler)
    return app
