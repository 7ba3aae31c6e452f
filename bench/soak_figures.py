"""What the soak looks at: the gateway's figures at one moment, how they are judged, how they are shown.

Rule: pure. Memory is judged from the end of the warm-up, once everything that is kept on purpose is full; what belongs
to somebody (a slot, a task, a session) is judged by what is left of it when everybody has gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isnan, nan
from typing import Any, Self

from bench import table
from bench.soak_run import Tally

MOST_GROWTH = 5.0
"""Percent of the memory after the warm-up."""
EXPORTERS = 2
"""Connections to the collector, which come with the first span and the first export."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Memory in MB; everything else is a count. `files` is NaN where the system does not tell."""

    memory: float
    files: float
    tasks: float
    active: float
    idle: float
    waiting: float
    calls: float
    streams: float
    sessions: float
    rooms: float
    held: float
    entries: float

    @classmethod
    def of(cls, state: Mapping[str, Any], memory: float, files: float) -> Self:
        """From what GET /admin/state says."""
        pools = [provider["pool"] for provider in state["providers"].values() if "pool" in provider]
        sockets, streams = state["websocket"], state["streams"]
        return cls(
            memory=memory,
            files=files,
            tasks=state["tasks"],
            active=sum(pool["active"] for pool in pools),
            idle=sum(pool["idle"] for pool in pools),
            waiting=sum(pool["waiting"] for pool in pools),
            calls=state["calls"]["total"],
            streams=streams["active"],
            sessions=sockets["sessions"],
            rooms=sockets["rooms"],
            held=streams["resumable"],
            entries=state["cache"]["entries"],
        )

    def most(self, other: Self) -> Self:
        """The larger of each."""
        return type(self)(*(max(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)))

    def left(self, start: Self) -> dict[str, float]:
        """What there is now and was not at the start, of that which somebody must have given back.

        Idle connections to providers are kept on purpose: the files they are do not count, nor do EXPORTERS.
        """
        left = {WORDS[name]: getattr(self, name) - getattr(start, name) for name in _GIVEN_BACK}
        left[WORDS["files"]] = (self.files - self.idle) - (start.files - start.idle) - EXPORTERS
        return {what: count for what, count in left.items() if count > 0}


WORDS = {
    "memory": "resident memory, MB",
    "files": "open files",
    "tasks": "tasks",
    "active": "pool slots, active",
    "idle": "pool slots, idle",
    "waiting": "pool slots, waited for",
    "calls": "calls in flight",
    "streams": "streams under way",
    "sessions": "WebSocket sessions",
    "rooms": "rooms",
    "held": "held streams",
    "entries": "cache entries",
}
_GIVEN_BACK = ("tasks", "active", "waiting", "calls", "streams", "sessions", "rooms", "held")


@dataclass(frozen=True, slots=True)
class Course:
    """The whole soak: figures at rest before anything, after the warm-up, in the middle and at the end; the most there
    was under load; what visitors saw in each of the three stretches between.
    """

    start: Figures
    warm: Figures
    middle: Figures
    end: Figures
    most: Figures
    tallies: tuple[Tally, ...]

    @property
    def growth(self) -> float:
        """Of memory after the warm-up, in percent."""
        return grown(self.warm.memory, self.end.memory)

    def faults(self) -> list[str]:
        """Why it is not flat; nothing where it is."""
        found = []
        if not self.growth <= MOST_GROWTH:
            found.append(f"memory grew by {self.growth:.1f} % after the warm-up")
        found += [f"{count:.0f} {what} left" for what, count in self.end.left(self.start).items()]
        if not all(tally.total for tally in self.tallies):
            found.append("there was a stretch without a call")
        if unexpected := sum(tally.count(expected=False) for tally in self.tallies):
            late = max(tally.late for tally in self.tallies)
            found.append(f"{unexpected} unexpected failures (the machine let the load itself wait {late:.1f} s)")
        return found

    def verdict(self) -> str:
        """One line."""
        if faults := self.faults():
            return f"NOT FLAT: {'; '.join(faults)}"
        return f"FLAT: memory {self.growth:+.1f} % after the warm-up, nothing left, no unexpected failure"


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """One figure at all moments; `most` is NaN where nobody looked, which is so for those that only count up."""

    HEAD = ("what", "start", "after warm-up", "middle", "end", "growth %", "most under load")
    LEFT = frozenset({0})

    what: str
    values: tuple[float, float, float, float]
    most: float = nan
    places: int = 0

    def cells(self) -> tuple[str, ...]:
        _, warm, _, end = self.values
        growth = nan if isnan(self.most) else grown(warm, end)
        shown = (_shown(value, self.places) for value in self.values)
        return self.what, *shown, "" if isnan(growth) else f"{growth:+.1f}", _shown(self.most, self.places)


@dataclass(frozen=True, slots=True)
class Kind(table.Line):
    """What one kind of visitor saw; failures in each stretch."""

    HEAD = ("visitors", "calls", "expected failures", "unexpected", "which")
    LEFT = frozenset({0, 4})

    kind: str
    calls: int
    expected: tuple[int, ...]
    unexpected: tuple[int, ...]
    which: str

    def cells(self) -> tuple[str, ...]:
        parts = (" / ".join(f"{count:,}" for count in counts) for counts in (self.expected, self.unexpected))
        return self.kind, f"{self.calls:,}", *parts, self.which


def lines(course: Course) -> list[table.Line]:
    """Two tables: the figures, and what visitors saw."""
    moments = (course.start, course.warm, course.middle, course.end)
    shown: list[table.Line] = []
    for name, words in WORDS.items():
        start, warm, middle, end = (getattr(moment, name) for moment in moments)
        places = 1 if name == "memory" else 0
        shown.append(Line(words, (start, warm, middle, end), getattr(course.most, name), places))
    counts: dict[str, Sequence[int]] = {
        "calls made until then": [tally.total for tally in course.tallies],
        "expected failures": [tally.count(expected=True) for tally in course.tallies],
        "unexpected failures": [tally.count(expected=False) for tally in course.tallies],
        "visits that did not begin": [tally.skipped for tally in course.tallies],
    }
    for what, (first, second, third) in counts.items():
        shown.append(Line(what, (0, first, first + second, first + second + third)))
    kinds = dict.fromkeys(kind for tally in course.tallies for kind in tally.calls)
    return shown + [_kind(kind, course.tallies) for kind in kinds]


def grown(before: float, after: float) -> float:
    """In percent; NaN from nothing."""
    return (after / before - 1) * 100 if before else nan


def _kind(kind: str, tallies: Sequence[Tally]) -> Kind:
    seen: dict[bool, list[int]] = {}
    texts: dict[str, int] = {}
    for expected in (False, True):
        counts = [(tally.expected if expected else tally.unexpected).get(kind) for tally in tallies]
        seen[expected] = [one.total() if one else 0 for one in counts]
        for what, count in (pair for one in counts if one for pair in one.most_common()):
            name = what if expected else f"UNEXPECTED {what}"
            texts[name] = texts.get(name, 0) + count
    ordered = sorted(texts.items(), key=lambda pair: (not pair[0].startswith("UNEXPECTED"), -pair[1]))
    which = ", ".join(f"{count:,} x {what}" for what, count in ordered[:4])
    more = len(ordered) - 4
    calls = sum(tally.calls[kind] for tally in tallies)
    return Kind(kind, calls, tuple(seen[True]), tuple(seen[False]), which + (f" and {more} more" if more > 0 else ""))


def _shown(value: float, places: int) -> str:
    return "" if isnan(value) else f"{value:,.{places}f}"
