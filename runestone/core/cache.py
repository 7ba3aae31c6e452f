"""What is kept in memory for a while: least recently used out first, each entry with a time to live.

    look   moves an entry to the young end; one whose time is over is still found until it is `gone`, for who may use it
    put    pushes the oldest out until both bounds hold
    sweep  lets go of what is gone, a few at a time

Rules: O(1) for each of them (a put pays for the sweep of a few others); bounded by entries and by bytes. `now` is
handed in, and comes from a clock that never steps.
Deliberately absent: what an entry means, and whether it may be used: that is the stage's to say (gateway/cache.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

V = TypeVar("V")

SWEPT = 8
"""Entries at most that one put or sweep lets go of because their time is over."""
OVERHEAD = 1024
"""Bytes an entry costs beside its contents: keys, objects, places in the tables (measured by bench/cache.py)."""


@dataclass(slots=True, eq=False)
class Entry(Generic[V]):
    """`value` with what it is found by. Times are seconds of the caller's clock; `size` in bytes, contents alone."""

    value: V
    size: int
    stored: float
    expires: float
    gone: float
    owner: str = ""
    """The client's key it was stored for."""
    model: str = ""
    tags: tuple[str, ...] = ()


class Cache(Generic[V]):
    """At most `max_size` entries of together at most `max_bytes`."""

    def __init__(self, *, max_size: int, max_bytes: int) -> None:
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Entry[V]] = OrderedDict()
        self._ends: list[tuple[float, bytes]] = []  # a heap; what was replaced or pushed out stays in it for a while
        self.bytes = 0
        self.stores = self.evictions = self.expirations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def look(self, key: bytes, now: float) -> Entry[V] | None:
        """The entry under `key`, unless it is gone; it is now the youngest."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.gone:
            self._drop(key, entry)
            self.expirations += 1
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry[V], now: float) -> bool:
        """Keeps `entry` under `key`; False when it could never fit, or is gone already."""
        cost = entry.size + OVERHEAD
        if cost > self._max_bytes or not self._max_size or now >= entry.gone:
            return False
        old = self._entries.get(key)
        if old is not None:
            self._drop(key, old)
        self._entries[key] = entry
        self.bytes += cost
        self.stores += 1
        heappush(self._ends, (entry.gone, key))
        self.sweep(now)
        self._push_out()
        return True

    def grow(self, key: bytes, more: int) -> bool:
        """Makes room for `more` bytes in an entry that is kept; False when there is none without pushing others out."""
        entry = self._entries.get(key)
        if entry is None or self.bytes + more > self._max_bytes:
            return False
        entry.size += more
        self.bytes += more
        return True

    def sweep(self, now: float) -> None:
        """Lets go of entries that are gone, at most SWEPT."""
        ends = self._ends
        for _ in range(SWEPT):
            if not ends or ends[0][0] > now:
                break
            gone, key = heappop(ends)
            entry = self._entries.get(key)
            if entry is not None and entry.gone <= gone:
                self._drop(key, entry)
                self.expirations += 1
        if len(ends) > 2 * len(self._entries) + 64:  # mostly of entries that are there no more
            self._ends = [(entry.gone, key) for key, entry in self._entries.items()]
            heapify(self._ends)

    def bound(self, *, max_size: int, max_bytes: int) -> None:
        """Other bounds from now on; what no longer fits is pushed out, oldest first."""
        self._max_size, self._max_bytes = max_size, max_bytes
        self._push_out()

    def clear(self, matches: Callable[[Entry[V]], bool] | None = None) -> int:
        """Forgets what `matches`, everything without; how many it were."""
        found = [(key, entry) for key, entry in self._entries.items() if matches is None or matches(entry)]
        for key, entry in found:
            self._drop(key, entry)
        return len(found)

    def items(self) -> Iterator[tuple[bytes, Entry[V]]]:
        """Everything, least recently used first."""
        return iter(self._entries.items())

    def _push_out(self) -> None:
        while len(self._entries) > self._max_size or self.bytes > self._max_bytes:
            oldest = next(iter(self._entries))
            self._drop(oldest, self._entries[oldest])
            self.evictions += 1

    def _drop(self, key: bytes, entry: Entry[V]) -> None:
        del self._entries[key]
        self.bytes -= entry.size + OVERHEAD
