"""The simulated model as an Upstream: the pure answer, given in its own time, failing when told to.

Rule: speaks the OpenAI dialect, like a server of its kind would; the gateway cannot tell it from one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from time import perf_counter, time

import orjson

from runestone.core.reply import Headers
from runestone.core.upstream import Prefill, UpstreamRequest
from runestone.errors import ProviderTimeout, StreamBroken
from runestone.providers.simulated.behaviour import Behaviour
from runestone.providers.simulated.wire import SimulatedAnswer, answer, error_answer
from runestone.providers.watch import total_timeout

OPERATIONS = frozenset({"chat/completions", "completions", "embeddings"})
PREFILL = Prefill.MESSAGE


class SimulatedProvider:
    """`chance` (0 to 1) decides which calls fail under an `error_rate`; who hangs is given up after `first_byte` s."""

    def __init__(self, *, behaviour: Behaviour, chance: Callable[[], float], first_byte: float = inf) -> None:
        self._behaviour = behaviour
        self._first_byte = first_byte
        self._chance = chance

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to end."""

    async def send(self, request: UpstreamRequest) -> SimulatedReply:
        """See Upstream."""
        told = self._behaviour
        if told.hang:
            await _wait(self._first_byte, request.deadline)
            raise ProviderTimeout(f"timeout (first_byte): the provider sent nothing within {self._first_byte:g} s")
        if told.error_rate and self._chance() < told.error_rate:
            simulated = error_answer(told.status)
        else:
            simulated = answer(request.path.lstrip("/"), orjson.loads(request.body), created=int(time()))
        if simulated.events is None and told.tokens_per_second:
            await _wait(told.ttft + simulated.tokens / told.tokens_per_second, request.deadline)
        else:
            await _wait(told.ttft, request.deadline)
        return SimulatedReply(simulated, told, request.deadline)


class SimulatedReply:
    """An UpstreamReply."""

    __slots__ = (
        "_begun",
        "_behaviour",
        "_body",
        "_deadline",
        "_events",
        "_next",
        "content_type",
        "headers",
        "retry_after",
        "status",
    )

    def __init__(self, simulated: SimulatedAnswer, behaviour: Behaviour, deadline: float) -> None:
        self.status = simulated.status
        self.headers: Headers = []
        self.content_type = "application/json" if simulated.events is None else "text/event-stream"
        self.retry_after: float | None = None
        self._body = simulated.body
        self._events: Sequence[bytes] = simulated.events or ()
        self._behaviour = behaviour
        self._deadline = deadline
        self._begun = perf_counter()
        self._next = 0

    async def read(self) -> bytes:
        return self._body if self._behaviour.cut_after is None else self._body[: self._behaviour.cut_after]

    def redact(self, text: str) -> str:
        """No credentials, nothing to hide."""
        return text

    async def read_some(self) -> bytes:
        """Every event whose time has come: one, unless the reader was slower than the model."""
        cut, pace = self._behaviour.cut_after, self._behaviour.tokens_per_second
        at = self._next
        if cut is not None and at >= cut:
            raise StreamBroken("the simulated provider cut its stream, as it was told to")
        if at >= len(self._events):
            return b""
        if not pace:
            self._next = len(self._events) if cut is None else min(cut, len(self._events))
            return b"".join(self._events[at : self._next])
        await _wait(self._begun + at / pace - perf_counter(), self._deadline)
        self._next = at + 1
        return self._events[at]

    def close(self) -> None:
        self._next = len(self._events)


async def _wait(seconds: float, deadline: float) -> None:
    """Raises ProviderTimeout at the deadline."""
    left = deadline - perf_counter()
    if seconds > left:
        await asyncio.sleep(max(left, 0.0))
        raise total_timeout()
    if seconds > 0:
        await asyncio.sleep(seconds)
