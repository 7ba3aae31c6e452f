"""Counts the longest prompts: only watches, and no call fails because of it.

[pipelines]
default = ["meter", "access", "limits", "loudest:Loudest", "..."]
"""

from __future__ import annotations

from collections import Counter

from runestone.middleware import Call, Next, Reply, observer


class Watch:
    """A middleware may be any object that is called like one."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()

    async def __call__(self, call: Call, next: Next) -> Reply:
        self.bytes[call.caller.name] += len(call.body)
        return await next(call)


Loudest = observer(Watch())
