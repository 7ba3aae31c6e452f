"""/admin/state and /admin/tail: what runs right now, and what has just ended, for who looks into it.

Rule: bounded, whatever runs and however slowly it is read; what nobody asks for is not made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson
from aiohttp import web
from multidict import CIMultiDict

from runestone.core.json import JsonObject
from runestone.edge.event_stream import EVENTS
from runestone.errors import BadRequest

MOST_LISTED = 1000
"""Calls listed at most."""
HEARTBEAT = 15.0
"""Seconds after which something is said, so that a follower that has gone is noticed, and one that waits goes on."""
PATIENCE = 60.0
"""Seconds a follower may read nothing."""


class Follower(Protocol):
    """One who follows the calls."""

    async def next(self, patience: float) -> bytes:
        """The events that have come since; b"" when there was none within `patience` seconds."""

    def tell(self, event: bytes) -> None:
        """One more for it."""

    def close(self) -> None:
        """It follows no more."""


class Followed(Protocol):
    """What can be followed."""

    def follow(self) -> Follower:
        """A new follower. Raises Unavailable."""


class Watching:
    """The handlers. `state(most)` is what runs, at most so many calls listed; `tail` is the calls that end."""

    def __init__(self, state: Callable[[int], Awaitable[JsonObject]], tail: Followed) -> None:
        self._state = state
        self._tail = tail

    async def state(self, request: web.Request) -> web.Response:
        most = request.query.get("calls", str(MOST_LISTED))
        if not (most.isascii() and most.isdigit() and len(most) < 10):
            raise BadRequest(f"'calls' must be a whole number, {MOST_LISTED} at most", param="calls")
        told = await self._state(min(int(most), MOST_LISTED))
        return web.Response(body=orjson.dumps(told), content_type="application/json")

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """The records of calls as they end, until the follower leaves, or reads nothing for too long."""
        response = web.StreamResponse(headers=CIMultiDict(EVENTS))
        if request.method == "HEAD":
            return response
        follower = self._tail.follow()
        try:
            await response.prepare(request)
            await _write(response, b": calls as they end\n\n")
            while True:
                said = await follower.next(HEARTBEAT)
                await _write(response, said or b": nothing new\n\n")
        finally:
            follower.close()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await response.write(data)
    except TimeoutError:
        raise ConnectionError("the follower does not read") from None
