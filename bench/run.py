"""One run of the load generator: what is asked of it, and what it answers.

Rule: both cross a process border, so both are plain values; a rate or a cost is computed where it is read, never
stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import orjson


@dataclass(frozen=True, slots=True)
class Run:
    """A URL on loopback, how many connections, for how long. `watch` is the server whose CPU time is read."""

    url: str
    connections: int
    seconds: float
    warm_up: float = 0.3
    stream: bool = False
    paced: bool = False
    watch: int | None = None
    most: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in milliseconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> Self | None:
        if not seconds:
            return None
        ordered = sorted(seconds)
        at = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 for share in (0.5, 0.9, 0.99))
        return cls(*at)


@dataclass(frozen=True, slots=True)
class Result:
    """What one run measured. `units` are calls, or events of paced streams."""

    units: int
    seconds: float
    cpu_seconds: float | None
    waited_seconds: float | None
    latency: Spread | None
    first_byte: Spread | None
    calls: int
    faults: int
    first_fault: str | None

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """The watched server's CPU time per unit."""
        return (self.cpu_seconds or 0.0) / max(self.units, 1) * 1e6

    @property
    def busy(self) -> float:
        """The watched server's share of one core, in percent."""
        return (self.cpu_seconds or 0.0) / self.seconds * 100

    @property
    def taken(self) -> float:
        """The share of the time, in percent, in which others had the watched server's core while it wanted to run."""
        return (self.waited_seconds or 0.0) / self.seconds * 100

    @classmethod
    def read(cls, text: bytes) -> Self:
        fields = orjson.loads(text)
        for name in ("latency", "first_byte"):
            fields[name] = Spread(**fields[name]) if fields[name] else None
        return cls(**fields)
