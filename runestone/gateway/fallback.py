"""Walks a call's targets until one answers.

Rule: only failures another target could mend move on (`retryable`), and only before the first byte: a reply that is
returned
is final. The last failure is what the client hears.
"""

from __future__ import annotations

from time import perf_counter

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.errors import RunestoneError, Unavailable
from runestone.gateway.pipeline import Next


class Fallback:
    """The stage."""

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        failure: RunestoneError | None = None
        for target in call.targets:
            call.target = target
            call.attempts += 1
            try:
                return await next(call)
            except RunestoneError as error:
                if not error.retryable or perf_counter() >= call.deadline:
                    raise
                failure = error
        raise failure or Unavailable("no provider is configured for this model")
