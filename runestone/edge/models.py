"""GET /v1/models: the names this key may ask for.

One object serves both vendors' SDKs: OpenAI's fields and Anthropic's stand side by side.
Deliberately absent: what providers would list themselves; only configured names are promised.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from runestone.core.json import JsonObject
from runestone.core.names import Names
from runestone.edge.request import CALLER
from runestone.errors import NotFound
from runestone.gateway.access import Access


class Models:
    """The two handlers."""

    def __init__(self, names: Names, access: Access) -> None:
        self._names = names
        self._access = access

    async def listing(self, request: web.Request) -> web.Response:
        caller = request[CALLER]
        names = [name for name in self._names.names() if self._access.allows(caller, name)]
        return _json(
            {
                "object": "list",
                "data": [self._describe(name) for name in names],
                "has_more": False,
                "first_id": names[0] if names else None,
                "last_id": names[-1] if names else None,
            }
        )

    async def one(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if not self._access.allows(request[CALLER], name):
            raise NotFound(f"the model {name[:200]!r} does not exist here", param="model", code="model_not_found")
        return _json(self._describe(name))

    def _describe(self, name: str) -> JsonObject:
        owner = self._names.resolve(name)[0].provider
        return {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": owner,
            "type": "model",
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
        }


def _json(value: JsonObject) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
