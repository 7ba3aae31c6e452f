"""Asks a second target when the first is slower than it usually is, and takes whichever answers first.

A few answers in a hundred take many times as long as the rest. Asking again after the time that 19 of 20 answers stay
under costs at most a few calls in a hundred more, and cuts those waits short.
Rules: a hedge is paid from the retry budget; the loser is cancelled at once, and an answer it had is closed; once an
attempt has answered with its first byte there is nothing to hedge.
Source: Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from time import perf_counter

from runestone.core.budget import Budget
from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.core.resilience import P95
from runestone.errors import RunestoneError
from runestone.gateway.pipeline import Next
from runestone.gateway.targets import Targets
from runestone.tasks import spawn

Attempt = asyncio.Task[Reply]


class Hedge:
    """The stage, around the fallback."""

    def __init__(self, targets: Targets, *, budget: Budget, count: Callable[[str], None]) -> None:
        self._targets = targets
        self._budget = budget
        self._count = count

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        hedge = call.resilience.hedge
        after = self._targets.of(call.targets[0]).slow.value() if hedge == P95 else hedge
        if after is None:
            return await next(call)
        attempts: dict[Attempt, Call] = {}
        try:
            first = self._begin(attempts, call, next, 0)
            await asyncio.wait((first,), timeout=after)
            # A call that has moved on already is being helped; a second helper would only cost.
            if not first.done() and not attempts[first].failures and self._budget.spend(perf_counter()):
                self._count("hedge")
                second = self._begin(attempts, call, next, 1)
                attempts[second].waited += after  # so long the first was waited for
            winner = await _first_answer(attempts)
            own = attempts[winner]
            call.target, call.waited = own.target, own.waited
            call.attempts = sum(made.attempts for made in attempts.values())
            call.failures = tuple(failure for made in attempts.values() for failure in made.failures)
            del attempts[winner]
            return winner.result()
        finally:
            await _end(attempts)

    def _begin(self, attempts: dict[Attempt, Call], call: Call, next: Next, turn: int) -> Attempt:  # noqa: A002
        own = copy(call)
        at = turn % len(call.targets)
        own.targets = call.targets[at:] + call.targets[:at]
        own.attempts, own.failures = 0, ()
        attempt = spawn(f"attempt {turn} of {call.id}", _ask(next, own))
        attempts[attempt] = own
        return attempt


async def _ask(next: Next, call: Call) -> Reply:  # noqa: A002
    return await next(call)


async def _first_answer(attempts: dict[Attempt, Call]) -> Attempt:
    """The first attempt that answered; the last that failed, if all did."""
    left = set(attempts)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            if not left or not isinstance(attempt.exception(), RunestoneError):
                return attempt


async def _end(attempts: dict[Attempt, Call]) -> None:
    """Cancels the losers, waits until they have given everything back, and closes what one had in the same moment."""
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, Reply):
            outcome.close(asyncio.CancelledError())
