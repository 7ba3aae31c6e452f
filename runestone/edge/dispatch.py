"""From a request to its handler: paths without parameters are found in one look-up.

aiohttp resolves a path, and wraps the handler into the middlewares, for each request anew; for a path that is always
the same both can be done once. Everything else takes the application's own way, with the same result.
Which application that is can change between two requests (a reload): a request stays with the one it began with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from time import monotonic

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_urldispatcher import PlainResource, UrlMappingMatchInfo
from multidict import CIMultiDict, CIMultiDictProxy

CONTINUE = "100-continue"


class Dispatch:
    """Answers requests to the application it was given last, whose routes and middlewares are complete."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._fixed: dict[tuple[str, str], tuple[UrlMappingMatchInfo, Handler]] = {}
        self._is_leaving = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.last = monotonic()
        """When, of `time.monotonic`, the last request came since `leave`."""
        self.adopt(app)

    def adopt(self, app: web.Application) -> None:
        """From now on requests go to `app`."""
        app.freeze()
        fixed = {}
        for route in app.router.routes():
            if isinstance(route.resource, PlainResource):
                fixed[route.method, route.resource.canonical] = _found(app, route), _wrapped(app, route.handler)
        self._app = app
        if not self._is_leaving:
            self._fixed = fixed

    def leave(self) -> None:
        """From now on every answer says that it is the last on its connection: the client's next goes elsewhere."""
        self._is_leaving = True
        self._fixed = {}  # the usual way need not ask
        self.last = monotonic()

    def __call__(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        fixed = self._fixed.get((request.method, request.rel_url.path_safe))
        if fixed is None or "Expect" in request.headers:
            if request.headers.get("Expect", CONTINUE).lower() != CONTINUE:
                _forget(request, "Expect")  # a server may not know what is expected (RFC 9110 10.1.1)
            if self._is_leaving:
                self.last = monotonic()
                request._message = request._message._replace(should_close=True)
            return self._app._handle(request)
        request._match_info, handler = fixed
        return handler(request)

    def request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.Request:
        """What aiohttp's server makes of a head that has come."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if message.version[0] != 1:  # aiohttp would answer in the same
            message = message._replace(version=HttpVersion10, should_close=True)
        size = self._app._client_max_size
        return web.Request(message, payload, protocol, writer, task, self._loop, client_max_size=size)


def _forget(request: web.Request, name: str) -> None:
    """A header that says nothing to us."""
    headers = CIMultiDict(request.headers)
    headers.popall(name)
    request._headers = request._cache["headers"] = CIMultiDictProxy(headers)


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
