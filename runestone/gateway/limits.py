"""The limits of a client's key: calls a minute and an hour, tokens a minute, calls at a time.

A call over a limit is refused with the real wait, or, where the key has a `queue`, waits for its turn: in order, a
bounded number for a bounded time. Keys have queues of their own, so that one key's rush is not another's wait.
Rule: counted once per call against the key's own numbers; a refused call consumes nothing; a slot is always given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter

from runestone.core.call import FREE, Call, Caller
from runestone.core.quota import Limits, Quota, Refusal
from runestone.core.reply import Headers, Reply
from runestone.core.summary import Summary
from runestone.core.tokens import estimate_messages
from runestone.errors import RateLimited
from runestone.gateway.pipeline import Next

MAX_QUEUED = 100
"""Calls of one key that may wait at a time."""


class Limited:
    """One key: its quota, and the calls that wait for it. `queue` in seconds, None refuses at once."""

    def __init__(self, limits: Limits, queue: float | None) -> None:
        self.limits = limits
        self.queue = queue
        self.quota = Quota(limits)
        self.counts_tokens = limits.tokens_per_minute is not None
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._queued = 0

    async def admit(self, tokens: int) -> None:
        """Takes one call in. Raises RateLimited."""
        now = perf_counter()
        if self.queue is None or (self._queued == 0 and not self._turn.locked()):
            refusal = self.quota.admit(now, tokens)
            if refusal is None:
                return
            if self.queue is None:
                raise _limited(refusal)
        if self._queued >= MAX_QUEUED:
            raise RateLimited("too many calls of this key are waiting for their turn", retry_after=self.queue)
        self._queued += 1
        try:
            await self._wait(tokens, now + (self.queue or 0.0))
        finally:
            self._queued -= 1

    def settle(self, estimated: int, actual: int | None) -> None:
        """One admitted call is over."""
        self.quota.settle(perf_counter(), estimated, actual)
        self._freed.set()

    async def _wait(self, tokens: int, deadline: float) -> None:
        """In order: whoever holds the turn waits for the quota, the others for the turn."""
        try:
            async with asyncio.timeout(deadline - perf_counter()), self._turn:
                while refusal := self.quota.admit(perf_counter(), tokens):
                    if refusal.limit != "concurrent" and perf_counter() + refusal.wait > deadline:
                        raise _limited(refusal)
                    self._freed.clear()
                    try:
                        async with asyncio.timeout(refusal.wait):
                            await self._freed.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise RateLimited("the call waited for its turn as long as this key may", retry_after=1.0) from None


class LimitKeys:
    """The stage. `keys` by the caller's name; callers that are not there have no limits."""

    def __init__(self, keys: Mapping[str, Limited]) -> None:
        self.keys = keys

    def headers(self, caller: Caller) -> Headers:
        """What every answer to a limited key carries."""
        limited = self.keys.get(caller.name)
        return limited.quota.headers(perf_counter()) if limited is not None else []

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        limited = self.keys.get(call.caller.name)
        if limited is None:
            return await next(call)
        tokens = estimate_messages(call.fields) if limited.counts_tokens else 0
        call.watched().stage = "limits"
        await limited.admit(tokens)
        call.progress.stage = "gateway"
        try:
            reply = await next(call)
        except BaseException:
            limited.settle(tokens, 0)
            raise
        reply.when_closed(lambda reply, error: limited.settle(tokens, _used(call, reply.summary)))
        return reply


def _used(call: Call, summary: Summary) -> int | None:
    if call.cache in FREE:
        return 0
    if summary.input_tokens is None and summary.output_tokens is None:
        return None
    return (summary.input_tokens or 0) + (summary.output_tokens or 0)


def _limited(refusal: Refusal) -> RateLimited:
    return RateLimited(refusal.message, retry_after=refusal.wait)
