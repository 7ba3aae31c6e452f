"""One stretch of the soak's load (soak_load.py): what is asked of it, and what it answers.

Rule: as in run.py, plain values that cross a process border.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import orjson

GRACE = 25.0
"""Seconds after its last beginning in which a visit must have ended."""
_TEXTS = 100


@dataclass(frozen=True, slots=True)
class Job:
    """The gateway's port on loopback, for how long, and at what share of the usual rate. `turn` tells one stretch from
    the next: nothing is asked anew that an earlier one has asked, but for what shall be a hit.
    """

    port: int
    seconds: float
    turn: int = 0
    share: float = 1.0


@dataclass(slots=True)
class Tally:
    """What visitors saw, by the kind of visit: calls (requests and messages), what failed as it should
    (`{"aborted": {"503": 3}}`), and what went wrong. `skipped` are visits that did not begin: too many were under way;
    `late` is how late the schedule itself was at most, in seconds: what the machine did to it, it did to everything.
    """

    calls: Counter[str] = field(default_factory=Counter)
    expected: dict[str, Counter[str]] = field(default_factory=dict)
    unexpected: dict[str, Counter[str]] = field(default_factory=dict)
    skipped: int = 0
    late: float = 0.0
    seconds: float = 0.0

    def failed(self, kind: str, what: str, *, expected: bool) -> None:
        """Counts it; so many different texts of a kind, then "other"."""
        seen = (self.expected if expected else self.unexpected).setdefault(kind, Counter())
        seen[what if what in seen or len(seen) < _TEXTS else "other"] += 1

    @classmethod
    def read(cls, text: bytes) -> Self:
        fields = orjson.loads(text)
        fields["calls"] = Counter(fields["calls"])
        for name in ("expected", "unexpected"):
            fields[name] = {kind: Counter(counts) for kind, counts in fields[name].items()}
        return cls(**fields)

    def plus(self, other: Self) -> Self:
        """Both together."""
        both = type(self)(self.calls + other.calls, skipped=self.skipped + other.skipped)
        both.late, both.seconds = max(self.late, other.late), self.seconds + other.seconds
        for name in ("expected", "unexpected"):
            mine, others = getattr(self, name), getattr(other, name)
            for kind in {**mine, **others}:
                getattr(both, name)[kind] = mine.get(kind, Counter()) + others.get(kind, Counter())
        return both

    @property
    def total(self) -> int:
        """All calls."""
        return self.calls.total()

    def count(self, *, expected: bool) -> int:
        """All failures of that sort."""
        return sum(counts.total() for counts in (self.expected if expected else self.unexpected).values())
