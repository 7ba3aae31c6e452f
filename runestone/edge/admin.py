"""/admin: for keys with `admin = true`, and nobody else."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from aiohttp import web

from runestone.core.call import ANONYMOUS
from runestone.core.json import JsonObject
from runestone.edge.request import CALLER
from runestone.errors import Forbidden, Unauthorized

VERBS = ("drain", "resume", "reset")


class Admin:
    """The handlers. `providers` tells their state; `act(name, verb)` changes one and tells its new state."""

    def __init__(self, providers: Callable[[], JsonObject], act: Callable[[str, str], JsonObject]) -> None:
        self._providers = providers
        self._act = act

    async def show_providers(self, request: web.Request) -> web.Response:
        _refuse_others(request)
        return _json(self._providers())

    async def change_provider(self, request: web.Request) -> web.Response:
        _refuse_others(request)
        return _json(self._act(request.match_info["name"], request.match_info["verb"]))


def _refuse_others(request: web.Request) -> None:
    if request[CALLER].admin:
        return
    if request[CALLER] is ANONYMOUS:
        raise Unauthorized("the admin endpoints need a key with admin = true", code="missing_authorization")
    raise Forbidden("this key may not use the admin endpoints")


def _json(value: JsonObject) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
