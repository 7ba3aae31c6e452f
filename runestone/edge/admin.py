"""/admin: for keys with `admin = true`, and nobody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from io import BytesIO
from typing import Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from runestone.core.call import ANONYMOUS
from runestone.core.json import JsonObject
from runestone.dialects.body import parse_object
from runestone.edge.request import JSON, VISIT, read_body
from runestone.errors import BadRequest, ConfigurationError, Forbidden, Unauthorized

VERBS = ("drain", "resume", "reset")

MOST_FAULTS = 20
"""Of a configuration, told in one answer; the log has them all."""
CLEARED_BY = ("key", "model", "tag")
LINES = JSON | {"application/jsonl", "application/x-ndjson", "text/plain"}
"""Content types of JSON lines."""


class Admin:
    """The handlers. `providers` tells their state; `act(name, verb)` changes one and tells its new state; `reload`
    reads the configuration again, and tells what has come of it.
    """

    def __init__(
        self,
        providers: Callable[[], JsonObject],
        act: Callable[[str, str], JsonObject],
        reload: Callable[[], Awaitable[JsonObject]],
    ) -> None:
        self._providers = providers
        self._act = act
        self._reload = reload

    async def show_providers(self, request: web.Request) -> web.Response:
        return _json(self._providers())

    async def change_provider(self, request: web.Request) -> web.Response:
        return _json(self._act(request.match_info["name"], request.match_info["verb"]))

    async def reload(self, request: web.Request) -> web.Response:
        """Raises BadRequest with every fault; nothing has changed then."""
        try:
            return _json(await self._reload())
        except ConfigurationError as error:
            faults = "; ".join(error.faults[:MOST_FAULTS])
            raise BadRequest(
                f"the configuration was refused, and nothing has changed: {faults}", code="bad_configuration"
            ) from None


class Cached(Protocol):
    """What is kept, as an operator may see and change it."""

    is_enabled: bool

    def overview(self) -> JsonObject:
        """What is kept, and what has been counted."""

    def clear(self, key: str | None, model: str | None, tag: str | None) -> int:
        """Forgets what was kept for `key`, of `model` and with `tag`, as far as they are given; how many it were."""

    def warm(self, lines: Iterable[bytes]) -> Awaitable[JsonObject]:
        """Keeps the answers of `lines`; what became of them."""


class CacheAdmin:
    """The handlers of /admin/cache. `max_body` in bytes."""

    def __init__(self, cached: Cached, *, max_body: int) -> None:
        self._cached = cached
        self._max_body = max_body

    async def show(self, request: web.Request) -> web.Response:
        return _json(self._cached.overview())

    async def clear(self, request: web.Request) -> web.Response:
        self._refuse_where_it_is_off()
        body = request[VISIT].body = await read_body(request, self._max_body)
        told = parse_object(body)
        for name in told:
            if name not in CLEARED_BY:
                known = ", ".join(CLEARED_BY)
                raise BadRequest(f"the cache cannot be cleared by {name[:100]!r}, only by {known}", param=name[:100])
        return _json({"cleared": self._cached.clear(*(_name(told, name) for name in CLEARED_BY))})

    async def warm(self, request: web.Request) -> web.Response:
        self._refuse_where_it_is_off()
        body = request[VISIT].body = await read_body(request, self._max_body, LINES)
        return _json(await self._cached.warm(BytesIO(body)))

    def _refuse_where_it_is_off(self) -> None:
        if not self._cached.is_enabled:
            raise BadRequest("the cache is off (cache.enabled = false)")


Wrapper = Middleware
"""What may stand around the admin endpoints."""


async def admin_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The middleware around the admin endpoints. Raises Unauthorized, Forbidden."""
    if request[VISIT].caller.admin:
        return await handler(request)
    if request[VISIT].caller is ANONYMOUS:
        raise Unauthorized("the admin endpoints need a key with admin = true", code="missing_authorization")
    raise Forbidden("this key may not use the admin endpoints")


def _name(told: JsonObject, name: str) -> str | None:
    if name not in told:
        return None
    value = told[name]
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name!r} must be a non-empty string", param=name)
    return value


def _json(value: JsonObject) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
