"""GET /metrics: what Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web


class Metrics:
    """The handler. `expose` gives the text, of this `content_type`."""

    def __init__(self, expose: Callable[[], Awaitable[bytes]], content_type: str) -> None:
        self._expose = expose
        self._content_type = content_type

    async def scrape(self, request: web.Request) -> web.Response:
        return web.Response(body=await self._expose(), headers={"Content-Type": self._content_type})
