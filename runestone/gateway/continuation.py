"""Goes on with a stream that broke off: another target is given what was said so far, and the client reads on.

Rules: only for models that ask for it (`stream_failure = "continue"`), only plain text (dialects/continuation.py says
when it can be done), each time paid from the retry budget, at most MOST times a call. What cannot be continued ends as
it would have ended: with an error event, or with the provider's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from time import perf_counter

import orjson

from runestone.core.budget import Budget
from runestone.core.call import Call
from runestone.core.reply import Blocks, Reply
from runestone.dialects.beginning import find_error
from runestone.dialects.continuation import Joiner, continuation
from runestone.dialects.sse import Decoder, Event
from runestone.errors import ProviderError, ProviderTimeout, RunestoneError, StreamBroken
from runestone.gateway.pipeline import Next

MOST = 3
MAX_TOLD = 4 * 1024 * 1024
"""Bytes of a stream that are kept to go on from; a longer one is not continued."""


class Continue:
    """The stage, between route and the walks: a continuation is a walk of its own, over the targets that are left."""

    def __init__(self, *, budget: Budget, count: Callable[[str], None]) -> None:
        self._budget = budget
        self._count = count

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        reply = await next(call)
        if reply.blocks is None or not call.resilience.continues:
            return reply
        blocks = Continued(call, reply, reply.blocks, next, self._may_go_on)
        whole = Reply(reply.status, reply.headers, reply.summary, blocks=blocks)
        blocks.whole = whole
        whole.when_closed(lambda _, error: blocks.end(error))
        return whole

    def _may_go_on(self) -> bool:
        if not self._budget.spend(perf_counter()):
            return False
        self._count("continuation")
        return True


class Continued:
    """A stream of several targets, one after the other (see Blocks)."""

    def __init__(
        self,
        call: Call,
        reply: Reply,
        blocks: Blocks,
        next: Next,  # noqa: A002
        may_go_on: Callable[[], bool],
    ) -> None:
        self.whole = reply
        self.first_token: float | None = None
        self._call = call
        self._reply = reply
        self._blocks = blocks
        self._walk = next
        self._may_go_on = may_go_on
        self._told: list[bytes] = []
        self._size = 0
        self._left = MOST
        self._joiner: Joiner | None = None
        self._decoder = Decoder()
        self._broken: tuple[ProviderError, bytes] | None = None
        """Why the stream ended early, and what its provider said of it; until another target has taken it up."""

    async def next(self) -> bytes:
        while True:
            # What broke stands on the object before anything is waited for: a reader that is cancelled while another
            # target is asked has taken nothing with it, and the next one asks again (gateway/coalesce.py).
            if self._broken is None and (out := await self._read()) is not None:
                return out
            if self._broken is None:
                continue
            failure, told = self._broken
            if await self._goes_on(failure):
                self._broken = None
            elif told:  # the provider's own words about it are the end
                self._left = 0
                self._broken = failure, b""
                return told
            else:
                raise failure

    async def _read(self) -> bytes | None:
        """The next block for the client, b"" at the end; None when there is nothing to say yet, or it broke off."""
        try:
            block = await self._blocks.next()
        except ProviderError as error:
            self._broken = error, b""
            return None
        if not block:
            return self._joined(self._decoder.finish())
        found = find_error(block) if self._left else None
        if found is None:
            return self._note(block) or None
        self._broken = StreamBroken("the provider's stream ended in an error event"), found.rest
        return self._note(found.before) or None

    def close(self) -> None:
        self._blocks.close()

    def end(self, error: BaseException | None) -> None:
        """The client has had its last byte, or has left."""
        self._reply.close(error)

    def _note(self, block: bytes) -> bytes:
        """The block as the client reads it; kept, to go on from."""
        if self.first_token is None:
            self.first_token = self._blocks.first_token
        if self._joiner is not None:
            block = self._joined(self._decoder.feed(block))
        self._size += len(block)
        if self._size > MAX_TOLD:
            self._left = 0
            self._told.clear()
        if self._left:
            self._told.append(block)
        return block

    def _joined(self, events: list[Event]) -> bytes:
        joiner = self._joiner
        return b"".join(part for event in events for part in joiner.feed(event)) if joiner is not None else b""

    async def _goes_on(self, failure: ProviderError) -> bool:
        """Whether another target has taken the answer up."""
        call = self._call
        is_late = isinstance(failure, ProviderTimeout) and failure.is_total
        if not self._left or is_late or call.target is None:
            return False
        how = continuation(call.operation, call.fields, self._told)
        if how is None or not self._may_go_on():
            return False
        self._left -= 1
        broken = call.target
        own = copy(call)
        own.fields, own.body, own.goes_on = how.fields, orjson.dumps(how.fields), how.is_prefilled
        own.targets = (*(target for target in call.targets if target != broken), broken)
        own.attempts, own.failures = 0, ((broken, failure.code or failure.type),)
        self._reply.close(failure)
        try:
            reply = await self._walk(own)
        except RunestoneError:
            return False
        except asyncio.CancelledError:
            self._left += 1  # nobody has answered, so the next reader may try as often
            raise
        finally:
            call.attempts += own.attempts
            call.failures += own.failures
        call.target = own.target
        self._reply, self.whole.summary = reply, reply.summary
        if reply.blocks is None:  # an answer that is no stream, to a call that asked for one
            return False
        self._blocks, self._joiner, self._decoder = reply.blocks, how.joiner, Decoder()
        return True
