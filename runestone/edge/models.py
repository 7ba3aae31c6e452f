"""GET /v1/models: the names this key may ask for.

One object serves both vendors' SDKs: OpenAI's fields and Anthropic's stand side by side. Configured names come first;
where a provider is found by patterns, or by its own name alone, what it lists itself follows, asked for at most every
five minutes.
Rule: a provider that does not answer is left out, never an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

import orjson
from aiohttp import web

from runestone.core.json import JsonObject
from runestone.core.names import Names
from runestone.edge.request import VISIT
from runestone.errors import NotFound
from runestone.gateway.access import Access

KEPT = 300.0
"""Seconds a provider's list is believed."""

Lister = Callable[[], Awaitable[list[str]]]


class Models:
    """The two handlers. `listers` ask the providers whose models the configuration does not name one by one."""

    def __init__(self, names: Names, access: Access, listers: Mapping[str, Lister]) -> None:
        self._names = names
        self._access = access
        self._listers = listers
        self._listed: dict[str, tuple[float, list[str]]] = {}

    async def listing(self, request: web.Request) -> web.Response:
        """Every name, in the order it would be looked up."""
        await asyncio.gather(*(self._refresh(provider) for provider in self._listers))
        found = dict.fromkeys(self._names.names())
        for provider, (_, listed) in self._listed.items():
            found.update(dict.fromkeys(self._asked_as(provider, model) for model in listed))
        names = [name for name in found if self._access.allows(request[VISIT].caller, name)]
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
        """One name. Raises NotFound."""
        name = request.match_info["id"]
        if not self._access.allows(request[VISIT].caller, name):
            raise NotFound(f"the model {name[:200]!r} does not exist here", param="model", code="model_not_found")
        return _json(self._describe(name))

    async def _refresh(self, provider: str) -> None:
        expires, known = self._listed.get(provider, (0.0, []))
        if expires <= monotonic():
            self._listed[provider] = (monotonic() + KEPT, known)  # meanwhile nobody else asks
            listed = await self._listers[provider]()
            self._listed[provider] = (monotonic() + KEPT, listed or known)

    def _asked_as(self, provider: str, model: str) -> str:
        """The bare name where it leads to this provider, else `provider/model`."""
        targets = self._names.find(model)
        return model if targets and targets[0].provider == provider else f"{provider}/{model}"

    def _describe(self, name: str) -> JsonObject:
        return {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": self._names.resolve(name)[0].provider,
            "type": "model",
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
        }


def _json(value: JsonObject) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
