"""Pages of other origins (the WHATWG Fetch standard, section 3.2, https://fetch.spec.whatwg.org/#http-cors-protocol).

Rule: only origins of the configuration are answered to. Credentials of the browser are never asked for: ours are in
headers that a page sets itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from runestone.core.reply import Headers

ANYBODY = "Access-Control-Allow-Origin"
METHODS = "GET, POST, DELETE, OPTIONS"
LASTING = "600"
"""Seconds a browser may remember a preflight."""


class Cors:
    """The middleware that answers preflights, and the headers of every answer. `origins` may hold "*"."""

    __middleware_version__ = 1

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, request: web.Request) -> Headers:
        """What lets the page read the answer; caches on the way are told that it depends on who asks."""
        origin = request.headers.get("Origin")
        if origin is None or not self._is_ours(origin):
            return [("Vary", "Origin")]
        return [(ANYBODY, origin), ("Access-Control-Expose-Headers", "*"), ("Vary", "Origin")]

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("Access-Control-Request-Headers")
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return await handler(request)
        answer = web.Response(status=204)
        if self._is_ours(request.headers.get("Origin", "")):  # the rest is on every answer
            answer.headers["Access-Control-Allow-Methods"] = METHODS
            answer.headers["Access-Control-Max-Age"] = LASTING
            if asked is not None:
                answer.headers["Access-Control-Allow-Headers"] = asked
        return answer

    def _is_ours(self, origin: str) -> bool:
        return bool(origin) and (origin in self._origins or "*" in self._origins)
