"""Requests that were refused before they became a call: those have records, these a line in the log and a count."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web

from runestone.edge.request import VISIT
from runestone.errors import RunestoneError

_log = logging.getLogger("runestone")


class Refused:
    """Told of each by the middleware and the endpoints; `count` adds it to the metrics."""

    def __init__(self, count: Callable[[RunestoneError], None]) -> None:
        self._count = count

    def __call__(self, request: web.Request, error: RunestoneError) -> None:
        self._count(error)
        fields = {
            "id": request[VISIT].id,
            "method": request.method,
            "path": request.path[:200],
            "status": error.status,
            "error": error.code,
        }
        _log.info("refused", extra={"fields": fields})
