"""What an operator sees of a running gateway, put together from its parts: what GET /admin/state tells."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, perf_counter

from runestone import __version__
from runestone.core.json import JsonObject
from runestone.gateway.inflight import InFlight, Seen
from runestone.telemetry.log_queue import dropped_lines
from runestone.telemetry.tail import Tail
from runestone.wiring.caching import Caching
from runestone.wiring.streams import Live

LONGEST = 300
"""Characters of a model's name."""
_STATM = Path("/proc/self/statm")


def log_samples() -> Iterator[tuple[str, dict[str, str], float]]:
    """What metrics read at any time."""
    yield "log_lines_dropped_total", {}, dropped_lines()


class State:
    """`providers` tells of pools and breakers; the rest is asked directly. `since` is when the process began, of
    `time.monotonic`.
    """

    def __init__(
        self,
        inflight: InFlight,
        providers: Callable[[], JsonObject],
        caching: Caching,
        live: Live,
        tail: Tail,
        since: float,
    ) -> None:
        self._inflight = inflight
        self._providers = providers
        self._caching = caching
        self._live = live
        self._tail = tail
        self._since = since

    async def __call__(self, most: int) -> JsonObject:
        """Everything, with the `most` calls that have been here longest."""
        lag = await _lag()
        memory = await asyncio.to_thread(_resident)
        live, sessions = self._live, self._live.sessions
        return {
            "time": datetime.now(UTC).isoformat(),
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(monotonic() - self._since, 3),
            "draining": live.running.draining,
            "memory_bytes": memory,
            "loop_lag_seconds": round(lag, 6),
            "tasks": len(asyncio.all_tasks()),
            "calls": self._calls(most),
            "streams": {"active": live.running.streams, "resumable": len(live.streams)},
            "websocket": {
                "connections": sessions.connections,
                "sessions": len(list(sessions)),
                "away": sessions.away,
                "rooms": len(live.rooms),
                "received": sessions.tally.received,
                "sent": sessions.tally.sent,
            },
            "cache": {_plain(name): int(value) for name, _, value in self._caching.samples()},
            "providers": self._providers(),
            "log": {"dropped": dropped_lines(), "followers": len(self._tail)},
        }

    def _calls(self, most: int) -> JsonObject:
        oldest = self._inflight.oldest(most, perf_counter())
        return {
            "total": len(self._inflight),
            "finished": self._inflight.finished,
            "stages": self._inflight.stages(),
            "oldest": [_call(seen) for seen in oldest],
        }


def _plain(name: str) -> str:
    return name.removeprefix("cache_").removesuffix("_total")


def _call(seen: Seen) -> JsonObject:
    return {
        "id": seen.id,
        "operation": seen.operation,
        "model": seen.model[:LONGEST],
        "stream": seen.stream,
        "key": seen.key,
        "age_seconds": round(seen.age, 3),
        "stage": seen.stage,
        "target": str(seen.target)[:LONGEST] if seen.target is not None else None,
        "attempts": seen.attempts,
        "cache": seen.cache,
    }


async def _lag() -> float:
    """Seconds one turn of the loop takes now: what everything else waits for."""
    before = perf_counter()
    await asyncio.sleep(0)
    return perf_counter() - before


def _resident() -> int:
    """Bytes of memory now; where the system has no /proc, the most there were."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
