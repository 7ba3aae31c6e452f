"""The call log as it grows, for who follows it from outside (GET /admin/tail).

Rule: nobody follows, nothing is made; a follower who reads slowly loses records of its own, and is told how many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import time

import orjson

from runestone.core.record import Record
from runestone.errors import Unavailable
from runestone.telemetry.logs import Price, as_entry, fields_of, level_of

MOST_FOLLOWERS = 16
MOST_KEPT = 1000
"""Records that wait for a follower."""
_LEVELS = {20: "info", 30: "warning"}


class Follower:
    """One who follows. `missed` records found no room, in all; `leave(follower)` is told when it goes."""

    def __init__(self, leave: Callable[[Follower], None]) -> None:
        self.missed = 0
        self._leave = leave
        self._told = 0
        self._kept: deque[bytes] = deque()
        self._news = asyncio.Event()

    def tell(self, event: bytes) -> None:
        """One more record."""
        if len(self._kept) >= MOST_KEPT:
            self.missed += 1
            return
        self._kept.append(event)
        self._news.set()

    async def next(self, patience: float) -> bytes:
        """The events that have come since, as server-sent events; b"" when there was none within `patience`
        seconds.
        """
        if not self._kept:
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return b""
        said = b"".join(self._kept)
        self._kept.clear()
        missed, self._told = self.missed - self._told, self.missed
        return said + b'event: missed\ndata: {"missed":%d}\n\n' % missed if missed else said

    def close(self) -> None:
        """It follows no more."""
        self._leave(self)


class Tail:
    """An observer, and those who follow it. `price` says what a call cost."""

    def __init__(self, price: Price | None = None) -> None:
        self._price = price
        self._followers: set[Follower] = set()

    def __len__(self) -> int:
        return len(self._followers)

    def __call__(self, record: Record) -> None:
        if self._followers:
            fields = fields_of(record, self._price)
            entry = as_entry(time(), _LEVELS[level_of(record)], "runestone.calls", record.operation.value, fields)
            event = b"data: " + orjson.dumps(entry) + b"\n\n"
            for follower in self._followers:
                follower.tell(event)

    def follow(self) -> Follower:
        """A new follower. Raises Unavailable when there are MOST_FOLLOWERS."""
        if len(self._followers) >= MOST_FOLLOWERS:
            raise Unavailable(f"{MOST_FOLLOWERS} follow the calls already", retry_after=5.0)
        follower = Follower(self._followers.discard)
        self._followers.add(follower)
        return follower
