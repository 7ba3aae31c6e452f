"""Walks a call's targets until one answers; goes round again while that is worth it.

The first round asks each target once, without a pause: another target costs nothing. Further rounds are retries: they
wait (exponentially, with full jitter, at least the retry-after), stay inside the call's deadline, and inside a budget,
so that retries cannot multiply an outage.
Rule: only failures that another attempt could mend go on (`retryable`), and only before the first byte: a reply that is
returned is final. The last failure is what the client hears.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from time import perf_counter

from runestone.core.backoff import delay
from runestone.core.budget import Budget
from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.errors import ProviderRefused, ProviderTimeout, RunestoneError, Unavailable
from runestone.gateway.pipeline import Next

LONGEST_WAIT = 5.0
"""Seconds a caller is kept waiting for a retry; who would have to wait longer is told so instead."""

Count = Callable[[str], None]


class Fallback:
    """The stage. `retries` beyond the first round; `chance` gives numbers from 0 to 1; `count` hears of what was
    done.
    """

    def __init__(self, *, retries: int, budget: Budget, chance: Callable[[], float], count: Count) -> None:
        self._retries = retries
        self._budget = budget
        self._chance = chance
        self._count = count

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        self._budget.call(perf_counter())
        targets = call.targets
        failure: RunestoneError | None = None
        try:
            for number in range(len(targets) + self._retries if targets else 0):
                if failure is not None:
                    if number < len(targets):
                        self._count("failover")
                    elif not await self._may_retry(call, number - len(targets), failure):
                        break
                call.target = targets[number % len(targets)]
                call.has_next = number + 1 < len(targets)
                call.attempts += 1
                try:
                    return await next(call)
                except RunestoneError as error:
                    call.failures += ((call.target, error.code or error.type),)
                    if not _may_move(error, call) or perf_counter() >= call.deadline:
                        raise
                    failure = error
            raise failure or Unavailable("no provider is configured for this model")
        finally:
            # Its traceback holds this frame: kept, each call that moved on would wait for the garbage collector.
            failure = None

    async def _may_retry(self, call: Call, retry: int, failure: RunestoneError) -> bool:
        """Waits until the next attempt; False when it would not be worth it."""
        if isinstance(failure, ProviderTimeout) or not failure.retryable:
            return False  # it took its time once, and the same wait again is no help; or the answer would be the same
        wait = delay(retry, self._chance(), most=LONGEST_WAIT, retry_after=failure.retry_after)
        now = perf_counter()
        if wait > LONGEST_WAIT or now + wait >= call.deadline or not self._budget.spend(now):
            return False
        self._count("retry")
        await asyncio.sleep(wait)
        return True


def _may_move(error: RunestoneError, call: Call) -> bool:
    """Whether another attempt is worth making. Who cannot go on with an answer says nothing of who can."""
    return error.retryable or (call.has_next and (error.elsewhere or call.goes_on or _is_wanted(error, call)))


_REFUSALS = {
    "context_window": re.compile(r"(?i)context.?(length|window)|maximum context|prompt is too long|too many tokens"),
    "content_policy": re.compile(r"(?i)content.?(policy|filter|management)|safety system|flagged"),
}
"""How vendors say it: in a code where they have one, else in the message."""


def _is_wanted(error: RunestoneError, call: Call) -> bool:
    """Whether this refusal is one the operator wants to be taken to the next target."""
    if not call.resilience.fallback_on or not isinstance(error, ProviderRefused):
        return False
    said = f"{error.code} {error.message[:1000]}"
    return any(_REFUSALS[kind].search(said) for kind in call.resilience.fallback_on)
