"""What runs right now: every call from the moment it is metered to its end, oldest first.

Rule: costs a call an entry of a dictionary and its removal; everything else is work for who looks.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import NamedTuple

from runestone.core.call import Call, Target


class Seen(NamedTuple):
    """A call as it is at one moment. `age` in seconds."""

    id: str
    operation: str
    model: str
    stream: bool
    key: str
    age: float
    stage: str
    target: Target | None
    attempts: int
    cache: str


class InFlight:
    """`calls` that are under way, in the order they came; `finished` is how many were, and are not any more."""

    def __init__(self) -> None:
        self.calls: dict[Call, None] = {}
        self.finished = 0

    def __len__(self) -> int:
        return len(self.calls)

    def oldest(self, most: int, now: float) -> list[Seen]:
        """The `most` that have been here longest."""
        return [_seen(call, now) for call in islice(self.calls, most)]

    def stages(self) -> dict[str, int]:
        """How many calls are where."""
        return dict(Counter(call.progress.stage for call in self.calls))


def _seen(call: Call, now: float) -> Seen:
    progress = call.progress
    return Seen(
        call.id,
        call.operation.value,
        call.model,
        call.stream,
        call.caller.name,
        now - call.started,
        progress.stage,
        progress.target or call.target,
        progress.attempts,
        call.cache,
    )
