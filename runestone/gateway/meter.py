"""Makes one record of every call and hands it to the observers, when the call is over for the client; until then it is
listed as in flight.

Rule: an observer is never waited for, and one that fails costs a log line, not a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter

from runestone.core.call import Call
from runestone.core.record import CLIENT_CLOSED, Observer, Record
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.errors import InternalError, RunestoneError
from runestone.gateway.inflight import InFlight
from runestone.gateway.pipeline import Next
from runestone.gateway.tolerated import Tolerated

_NOTHING = Summary()


class Meter:
    """The stage. `observers` are called in order with each Record; `inflight` lists what runs."""

    def __init__(self, observers: Iterable[Observer], inflight: InFlight | None = None) -> None:
        self._observers = tuple(observers)
        self._tolerated = Tolerated("an observer")
        self.inflight = inflight if inflight is not None else InFlight()
        self._calls = self.inflight.calls
        self.open = 0
        """Calls that came in here and are not over."""

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002 - the shape's own word
        self._calls[call] = None
        self.open += 1
        try:
            reply = await next(call)
        except BaseException as error:
            self._observe(call, None, error)
            raise
        call.head = perf_counter() - call.started - call.waited
        if reply.blocks is not None:
            call.watched().stage = "streaming"
        reply.when_closed(lambda reply, error: self._observe(call, reply, error))
        return reply

    def _observe(self, call: Call, reply: Reply | None, error: BaseException | None) -> None:
        self._calls.pop(call, None)
        self.open -= 1
        self.inflight.finished += 1
        status, code, source = _outcome(reply, error)
        first = reply.blocks.first_token if reply is not None and reply.blocks is not None else None
        target = call.target
        record = Record(
            call.id,
            call.operation,
            call.stream,
            call.model,
            target.provider if target is not None else None,
            target.model if target is not None else None,
            call.caller.name,
            status,
            code,
            source,
            call.attempts,
            call.failures,
            perf_counter() - call.started,
            call.waited,
            call.head,
            first - call.started if first is not None else None,
            reply.summary if reply is not None else _NOTHING,
            call.cache,
            call.trace,
        )
        observers = iter(self._observers)
        is_told = False
        while not is_told:
            with self._tolerated:  # once for all of them, and again behind each that fails
                for observer in observers:
                    observer(record)
                is_told = True


def _outcome(reply: Reply | None, error: BaseException | None) -> tuple[int, str | None, str | None]:
    """(status the client saw, error code, who is to blame)."""
    if error is None:
        return (reply.status if reply is not None else 500), None, None
    if isinstance(error, (asyncio.CancelledError, ConnectionError)):
        return CLIENT_CLOSED, "client_closed", "client"
    known = error if isinstance(error, RunestoneError) else InternalError("")
    # Behind a head that has gone out the status stays what it was.
    return (reply.status if reply is not None else known.status), known.code or known.type, known.source
