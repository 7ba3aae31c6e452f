"""GET /metrics: what Prometheus scrapes."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web


class Exposition(Protocol):
    """Something that can be scraped."""

    content_type: str

    def expose(self) -> bytes:
        """The text."""


class Metrics:
    """The handler."""

    def __init__(self, source: Exposition) -> None:
        self._source = source

    async def scrape(self, request: web.Request) -> web.Response:
        return web.Response(body=self._source.expose(), headers={"Content-Type": self._source.content_type})
