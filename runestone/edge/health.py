"""GET /health, /health/live, /health/ready: for load balancers and people. No key needed, nothing private told.

/health         what is wrong, in words: ok, degraded (it serves, and somebody should look), or down
/health/ready   503 while draining, and when no target can serve: send calls elsewhere
/health/live    503 only when the loop has been stuck: what a restart mends, and nothing else
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final, Literal, NamedTuple

import orjson
from aiohttp import web

from runestone import __version__
from runestone.core.json import JsonObject

Status = Literal["ok", "degraded", "down"]
_ORDER: Final = ("ok", "degraded", "down")
MOST = 20
"""Problems of one check that are told."""


class Check(NamedTuple):
    """What was looked at, and what is wrong with it: `problems` in words; `more` is told as it is. `is_needed`: nothing
    can be served while it is down.
    """

    name: str
    status: Status
    problems: tuple[str, ...] = ()
    more: JsonObject | None = None
    is_needed: bool = False


class Health:
    """The handlers; `look` looks at everything now, `is_stuck` at the loop; the process began at `since`, of
    `time.monotonic`. `parent` is the process that operators send signals to, where this is a worker.
    """

    def __init__(
        self, look: Callable[[], Iterable[Check]], is_stuck: Callable[[], bool], since: float, parent: int | None = None
    ) -> None:
        self._look = look
        self._is_stuck = is_stuck
        self._since = since
        self._parent = parent

    async def summary(self, request: web.Request) -> web.Response:
        return self._answer(lambda checks: any(check.status == "down" for check in checks))

    async def live(self, request: web.Request) -> web.Response:
        is_stuck = self._is_stuck()
        return _json({"status": "down" if is_stuck else "ok"}, 503 if is_stuck else 200)

    async def ready(self, request: web.Request) -> web.Response:
        return self._answer(lambda checks: any(check.status == "down" and check.is_needed for check in checks))

    def _answer(self, is_no: Callable[[list[Check]], bool]) -> web.Response:
        checks = list(self._look())
        worst = max((_ORDER.index(check.status) for check in checks), default=0)
        return _json(
            {
                "status": _ORDER[worst],
                "version": __version__,
                "pid": os.getpid(),
                **({"parent": self._parent} if self._parent is not None else {}),
                "uptime_seconds": round(monotonic() - self._since, 3),
                "checks": {check.name: _told(check) for check in checks},
            },
            503 if is_no(checks) else 200,
        )


def _told(check: Check) -> JsonObject:
    told: JsonObject = {"status": check.status, **(check.more or {})}
    if check.problems:
        more = len(check.problems) - MOST
        told["problems"] = [*check.problems[:MOST], *([f"and {more} more"] if more > 0 else [])]
    return told


def _json(value: JsonObject, status: int) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(value),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
