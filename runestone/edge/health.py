"""GET /health, /health/live, /health/ready: for load balancers and people. No key needed, nothing private told."""

from __future__ import annotations

import os
from time import monotonic

import orjson
from aiohttp import web

from runestone import __version__
from runestone.core.json import JsonObject


class Health:
    """The handlers; `draining` is set when the server stops taking new work."""

    def __init__(self, *, providers: int) -> None:
        self._providers = providers
        self._since = monotonic()
        self.draining = False

    async def summary(self, request: web.Request) -> web.Response:
        return self._answer()

    async def live(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"}, 200)

    async def ready(self, request: web.Request) -> web.Response:
        return self._answer()

    def _answer(self) -> web.Response:
        checks: JsonObject = {
            "providers": {"status": "ok", "configured": self._providers},
            "drain": {"status": "down" if self.draining else "ok"},
        }
        return _json(
            {
                "status": "down" if self.draining else "ok",
                "version": __version__,
                "pid": os.getpid(),
                "uptime_seconds": round(monotonic() - self._since, 3),
                "checks": checks,
            },
            503 if self.draining else 200,
        )


def _json(value: JsonObject, status: int) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
