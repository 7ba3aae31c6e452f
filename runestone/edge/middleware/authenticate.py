"""Finds out who calls, from the key that was presented.

Rule: a listed key is known by its name from here on, and is not kept; health and metrics need none.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from runestone.core.call import ANONYMOUS
from runestone.core.keys import KeyRing
from runestone.edge.calls import Handler
from runestone.edge.origin import may_come
from runestone.edge.request import SOCKETS, VISIT, credential, socket_credential
from runestone.errors import Forbidden, Unauthorized

_OPEN = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/runestone.js", "/openapi.json"})


class Authenticate:
    """The middleware. Pages of `origins` may call without a key."""

    __middleware_version__ = 1

    def __init__(self, keys: KeyRing, origins: Iterable[str] = ()) -> None:
        self._keys = keys
        self._origins = frozenset(origins)

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        if path in SOCKETS and "Upgrade" in request.headers:
            try:
                self._identify(request, socket_credential(request.headers))
            except Unauthorized as refusal:
                request[VISIT].refusal = refusal
        elif path not in _OPEN:
            self._identify(request, credential(request.headers))
            if "Origin" in request.headers and request[VISIT].caller is ANONYMOUS and request.method != "OPTIONS":
                self._look_at_page(request)
        return await handler(request)

    def _look_at_page(self, request: web.Request) -> None:
        """A page that somebody looks at could otherwise spend what a gateway without keys has. Raises Forbidden."""
        if not may_come(request, self._origins):
            raise Forbidden("pages of this origin may not call without a key (server.cors_origins)")

    def _identify(self, request: web.Request, presented: str | None) -> None:
        visit = request[VISIT]
        visit.caller = self._keys.identify(presented, datetime.now(UTC))
        if visit.caller is ANONYMOUS:  # a key of ours is for us, and never goes to a provider
            visit.credential = presented
