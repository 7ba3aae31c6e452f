"""How long each stage of a call takes by itself, and the steps of its trace.

A second chain of the same stages, each wrapped, taken by calls that are traced and by one in SAMPLED of the others: so
it costs the rest nothing.
Rule: a stage's time is what it spends outside of what it calls; waiting of its own (a queue) is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, time_ns

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.core.trace import Span
from runestone.errors import RunestoneError
from runestone.gateway.pipeline import Next, Stage

SAMPLED = 32
"""One call in so many is timed stage by stage when it is not traced."""

LOOKUP, ASKED = "cache.lookup", "provider.request"
"""Spans with a meaning of their own: a look-up ends where the call goes on, a request where its answer ends."""


class _Inner:
    """What lies further in, timed."""

    __slots__ = ("_next", "spent", "went")

    def __init__(self, next: Next) -> None:  # noqa: A002
        self._next = next
        self.spent = 0.0
        self.went = 0
        """When it was first called (time_ns)."""

    async def __call__(self, call: Call) -> Reply:
        self.went = self.went or time_ns()
        before = perf_counter()
        try:
            return await self._next(call)
        finally:
            self.spent += perf_counter() - before


class Timed:
    """A stage, called `span` in traces; `seconds` is told the time it took by itself."""

    def __init__(self, stage: Stage, span: str, seconds: Callable[[float], None]) -> None:
        self._stage = stage
        self._span = span
        self._seconds = seconds

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        inner, outer = _Inner(next), call.span
        span = _begin(call, self._span)
        before = perf_counter()
        try:
            return await self._stage(call, inner)
        except RunestoneError as error:
            if span is not None:
                span.error = error.code or error.type
            raise
        finally:
            self._seconds(max(perf_counter() - before - inner.spent, 0.0))
            if span is not None:
                span.end = (self._span == LOOKUP and inner.went) or time_ns()
                if self._span == LOOKUP:
                    span.attributes["runestone.cache"] = call.cache
                call.span = outer


class TracedSend:
    """The end of the chain, traced: one request to a provider, from its begin to the end of its answer."""

    def __init__(self, send: Next) -> None:
        self._send = send

    async def __call__(self, call: Call) -> Reply:
        outer, span = call.span, _begin(call, ASKED)
        if span is None:
            return await self._send(call)
        span.is_client = True
        if call.target is not None:
            span.attributes["gen_ai.provider.name"] = call.target.provider
            span.attributes["gen_ai.request.model"] = call.target.model
        try:
            reply = await self._send(call)
        except BaseException as error:
            _end(span, error)
            raise
        finally:
            call.span = outer
        if reply.blocks is None:
            _end(span, None)
        else:
            reply.when_closed(lambda _, error: _end(span, error))
        return reply


def _begin(call: Call, name: str) -> Span | None:
    if call.trace is None:
        return None
    call.span = call.trace.begin(name, call.span, time_ns())
    return call.span


def _end(span: Span, error: BaseException | None) -> None:
    span.end = time_ns()
    if isinstance(error, RunestoneError):
        span.error = error.code or error.type
    elif error is not None:
        span.error = "client_closed"
