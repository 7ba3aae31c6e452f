"""Which chain of stages a call takes: by its kind, and whether its steps are noted.

streaming   calls that are answered as events
cached      calls that the cache may answer
default     all others, and those above where they have no pipeline of their own
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.core.trace import Trace
from runestone.gateway.cache import CACHED
from runestone.gateway.pipeline import Next
from runestone.gateway.timed import SAMPLED


@dataclass(frozen=True, slots=True)
class Chain:
    """The same stages twice: as they are, and with their time and their steps noted."""

    plain: Next
    watched: Next


class Pipelines:
    """A call's way in. `trace` begins the trace of a call that is to be traced; None where there are no traces."""

    def __init__(
        self,
        default: Chain,
        *,
        streaming: Chain | None,
        cached: Chain | None,
        trace: Callable[[Call], Trace | None] | None,
    ) -> None:
        self._default = default
        self._streaming = streaming or default
        self._cached = cached
        self._trace = trace
        self._count = 0

    def __call__(self, call: Call) -> Awaitable[Reply]:
        chain = self._streaming if call.stream else self._default
        if self._cached is not None and call.operation in CACHED and not call.directives.no_store:
            chain = self._cached
        if self._trace is not None:
            call.trace = self._trace(call)
            if call.trace is not None:
                call.span = call.trace.root
                return chain.watched(call)
        self._count += 1
        return chain.plain(call) if self._count % SAMPLED else chain.watched(call)
