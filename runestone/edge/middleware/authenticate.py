"""Finds out who calls, from the key that was presented.

Rule: a listed key is known by its name from here on, and is not kept; health and metrics need none.
"""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from runestone.core.call import ANONYMOUS
from runestone.core.keys import KeyRing
from runestone.edge.calls import Handler
from runestone.edge.request import CALLER, CREDENTIAL, credential

_OPEN = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


class Authenticate:
    """The middleware."""

    __middleware_version__ = 1

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            request[CALLER] = ANONYMOUS
            return await handler(request)
        presented = credential(request.headers)
        caller = request[CALLER] = self._keys.identify(presented, datetime.now(UTC))
        if presented is not None and caller is ANONYMOUS:  # a key of ours is for us, and never goes to a provider
            request[CREDENTIAL] = presented
        return await handler(request)
