"""Finds out who calls, from the key that was presented.

Rule: a listed key is known by its name from here on, and is not kept; health and metrics need none.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from runestone.core.call import ANONYMOUS
from runestone.core.keys import KeyRing
from runestone.edge.calls import Handler
from runestone.edge.request import SOCKETS, VISIT, credential, socket_credential
from runestone.errors import Unauthorized

_OPEN = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/runestone.js", "/openapi.json"})


class Authenticate:
    """The middleware."""

    __middleware_version__ = 1

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        if path in SOCKETS and "Upgrade" in request.headers:
            try:
                self._identify(request, socket_credential(request.headers))
            except Unauthorized as refusal:
                request[VISIT].refusal = refusal
        elif path not in _OPEN:
            self._identify(request, credential(request.headers))
        return await handler(request)

    def _identify(self, request: web.Request, presented: str | None) -> None:
        visit = request[VISIT]
        visit.caller = self._keys.identify(presented, datetime.now(UTC))
        if visit.caller is ANONYMOUS:  # a key of ours is for us, and never goes to a provider
            visit.credential = presented
