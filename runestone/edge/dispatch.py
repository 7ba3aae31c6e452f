"""From a request to its handler: paths without parameters are found in one look-up.

aiohttp resolves a path, and wraps the handler into the middlewares, for each request anew; for a path that is always
the same both can be done once. Everything else takes the application's own way, with the same result.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import PlainResource, UrlMappingMatchInfo


class Dispatch:
    """Answers requests to `app`, whose routes and middlewares are complete."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._fixed: dict[tuple[str, str], tuple[UrlMappingMatchInfo, Handler]] = {}
        for route in app.router.routes():
            if isinstance(route.resource, PlainResource):
                self._fixed[route.method, route.resource.canonical] = _found(app, route), _wrapped(app, route.handler)

    def __call__(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        fixed = self._fixed.get((request.method, request.rel_url.path_safe))
        if fixed is None or "Expect" in request.headers:
            return self._app._handle(request)
        request._match_info, handler = fixed
        return handler(request)


def _found(app: web.Application, route: web.AbstractRoute) -> UrlMappingMatchInfo:
    """What a request says of its route; it holds nothing of the request, and is the same for all."""
    found = UrlMappingMatchInfo({}, route)
    found.add_app(app)
    found.freeze()
    return found


def _wrapped(app: web.Application, handler: Handler) -> Handler:
    for middleware in reversed(app.middlewares):
        handler = partial(middleware, handler=handler)
    return handler
