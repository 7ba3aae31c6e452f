"""Which targets may answer a call, in which order, and until when.

Rule: decides only; nothing is sent here.
"""

from __future__ import annotations

from runestone.core.call import Call
from runestone.core.names import Names
from runestone.core.reply import Reply
from runestone.gateway.pipeline import Next


class Route:
    """The stage. `total` is the seconds a call may take, all attempts included."""

    def __init__(self, names: Names, *, total: float) -> None:
        self._names = names
        self._total = total

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        call.targets = self._names.resolve(call.model)
        call.deadline = call.started + min(self._total, call.timeout or self._total)
        return await next(call)
