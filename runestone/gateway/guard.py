"""Whether a target may take a call now, and what the call says about the target.

The breaker keeps calls from a target that fails, the concurrency limit from one that is overloaded; both refuse with
the time after which it is worth asking again, so that the fallback moves on.
Rule: only the provider's own faults count: no connection, deadlines of ours, 5xx, answers that are none, broken
streams. A 4xx is the caller's, a client that leaves says nothing, and a deadline the caller has set is the caller's.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.errors import ProviderError, ProviderRefused, ProviderTimeout, Unavailable
from runestone.gateway.pipeline import Next
from runestone.gateway.targets import Targets, Watched

OVERLOADED = frozenset({429, 503, 529})
BUSY_FOR = 0.2
"""Seconds after which a target at its concurrency limit is worth another try."""


class Guard:
    """The stage, inside the fallback: once per attempt."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        if call.target is None:
            raise Unavailable("no target was chosen")
        watched = self._targets.of(call.target)
        progress = call.watched()
        progress.target = call.target
        progress.attempts += 1
        began = perf_counter()
        generation = _admit(watched, began)
        try:
            reply = await next(call)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):  # overtaken by a hedge: without it, only fast answers count
                watched.slow.at_least(perf_counter() - began)
            else:
                progress.stage = "retry"
            _settle(watched, generation, call, error, latency=None)
            raise
        latency = perf_counter() - began
        watched.slow.add(latency)
        if reply.blocks is None:
            _settle(watched, generation, call, None, latency)
        else:
            reply.when_closed(lambda reply, error: _settle(watched, generation, call, error, latency))
        return reply


def _admit(watched: Watched, now: float) -> int:
    """The breaker's generation the call belongs to. Raises Unavailable."""
    breaker, concurrency = watched.breaker, watched.concurrency
    if breaker is not None and not breaker.admit(now):
        wait = breaker.retry_after(now)
        raise Unavailable(f"{watched.target.provider} has failed too often and rests", retry_after=wait)
    if concurrency is not None and not concurrency.enter():
        if breaker is not None:
            breaker.forget(now, breaker.generation)
        raise Unavailable(f"{watched.target.provider} has as many calls as it can take", retry_after=BUSY_FOR)
    watched.health.begin(now)
    return breaker.generation if breaker is not None else 0


def _settle(watched: Watched, generation: int, call: Call, error: BaseException | None, latency: float | None) -> None:
    now = perf_counter()
    verdict = judge(call, error)
    if watched.breaker is not None:
        if verdict is None:
            watched.breaker.forget(now, generation)
        elif verdict:
            watched.breaker.succeed(now, generation)
        else:
            watched.breaker.fail(now, generation)
    if watched.concurrency is not None:
        watched.concurrency.leave(now, latency=latency, overloaded=_is_overload(error, verdict))
    watched.health.end(now, latency=latency, ok=verdict)


def judge(call: Call, error: BaseException | None) -> bool | None:
    """True: the target did well; False: it failed; None: the outcome says nothing about it."""
    if error is None:
        return True
    if not isinstance(error, ProviderError) or isinstance(error, ProviderRefused):
        return None
    if isinstance(error, ProviderTimeout) and error.is_total and call.timeout is not None:
        return None
    return False


def _is_overload(error: BaseException | None, verdict: bool | None) -> bool:
    if isinstance(error, ProviderTimeout):
        return verdict is False
    return isinstance(error, ProviderError) and error.provider_status in OVERLOADED
