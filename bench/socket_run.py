"""One run of the load generator that holds on (socket_load.py): what is asked of it, and what it answers.

Rule: as in run.py, plain values that cross a process border; what follows from them is computed where it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import orjson

from bench.run import Result, Spread

GRACE = 5.0
"""Seconds for what is still to come after the window, and for streams to begin before it."""
OPENS_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is held, and for how long. `watch` is the server's process, `provider` the provider's."""

    kind: str
    connections: int
    seconds: float
    url: str = ""
    streams: int = 0
    rate: int = 0
    warm_up: float = 0.5
    watch: int = 0
    provider: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is the window: its units are pings, or events. Memory in MB: with the first one served, with all of
    them open, at the end.

    `whole` counts what was as it should be: pings answered, streams complete, streams that spoke in the window;
    `apart` streams that had not begun when it opened, or were complete when it closed. `late` is how late the schedule
    itself was; `load_busy` the load's and the provider's share of a core, in percent.
    """

    result: Result
    opened: int
    opening: float
    whole: int
    apart: int
    memory: tuple[float, float, float]
    load_busy: float
    late: Spread | None = None

    @classmethod
    def read(cls, text: bytes) -> Self:
        fields = orjson.loads(text)
        fields["result"] = Result.read(orjson.dumps(fields["result"]))
        fields["late"] = Spread(**fields["late"]) if fields["late"] else None
        return cls(**fields)

    @property
    def kilobytes(self) -> float:
        """Resident memory of one, in KB, when all were open."""
        return (self.memory[1] - self.memory[0]) * 1024 / max(self.opened - 1, 1)

    @property
    def kilobytes_used(self) -> float:
        """The same at the end of the run."""
        return (self.memory[2] - self.memory[0]) * 1024 / max(self.opened - 1, 1)
