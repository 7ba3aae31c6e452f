"""The endpoints that ask a model: JSON in, JSON or server-sent events out.

Rule: one handler for every operation; what differs between them is in the dialects. A client that leaves cancels its
handler (aiohttp's handler_cancellation), and closing the reply ends the provider's call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

from aiohttp import web
from multidict import CIMultiDict

from runestone.core.call import Call, Operation
from runestone.core.reply import Blocks, Reply
from runestone.dialects.passage import client_dialect
from runestone.edge.event_stream import EVENTS, GRACE, EventStream
from runestone.edge.ready import Ready
from runestone.edge.request import VISIT, Reader
from runestone.edge.running import Running, shutting_down
from runestone.edge.stamp import Stamp
from runestone.edge.streams import Streams
from runestone.errors import ProviderError, RunestoneError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Calls:
    """`gateway` is the chain of stages; `max_body` in bytes; `total` seconds a call may take; `running` knows the calls
    that run; `streams` takes over those that shall survive their client; `stamp` is on every answer.
    """

    def __init__(
        self,
        gateway: Callable[[Call], Awaitable[Reply]],
        *,
        max_body: int,
        total: float,
        running: Running,
        streams: Streams,
        stamp: Stamp,
    ) -> None:
        self._gateway = gateway
        self._reader = Reader(limit=max_body, total=total)
        self._running = running
        self._streams = streams
        self._stamp = stamp

    def handler(self, operation: Operation) -> Handler:
        """The aiohttp handler of `operation`."""
        return partial(self._handle, operation=operation)

    async def _handle(self, request: web.Request, operation: Operation) -> web.StreamResponse:
        task = self._running.enter()
        try:
            call, is_known = await self._reader.read(request, operation)
            request[VISIT].call = call
            reply = await self._gateway(call)
            if call.cache == "hit" and not is_known:
                self._reader.remember(call)
            held = self._streams.hold(request, call, reply)
            if held is not None:
                return await self._streams.answer(request, held, [*reply.headers, *call_headers(call)])
            return await self._answer(request, call, reply)
        except asyncio.CancelledError:
            if self._running.is_cut:
                raise shutting_down() from None
            raise
        finally:
            self._running.leave(task)
            del task  # it keeps what failed, whose traceback holds this frame

    async def _answer(self, request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
        """The answer as aiohttp sends it; the reply is closed here, whatever happens."""
        failure: BaseException | None = None
        try:
            headers = [*reply.headers, *call_headers(call)]
            if reply.blocks is None:
                return Ready(reply.body or b"", headers, self._stamp)
            response = EventStream(status=reply.status, headers=CIMultiDict([*headers, *EVENTS]))
            # The provider's waits have deadlines of their own; this one is for a client that does not read.
            async with asyncio.timeout(max(call.deadline - perf_counter(), 0.0) + GRACE):
                failure = await self._stream(request, call, reply.blocks, response)
        except TimeoutError:
            failure = ConnectionError("the client did not read its stream")
            raise failure from None
        except BaseException as error:
            failure = error
            raise
        else:
            return response
        finally:
            reply.close(failure)
            del failure  # its traceback holds this frame

    async def _stream(
        self, request: web.Request, call: Call, blocks: Blocks, response: EventStream
    ) -> RunestoneError | None:
        """Pulls and writes; why the stream is not whole, or None. Raises ConnectionError when the client has left."""
        failure: RunestoneError | None = None
        await response.prepare(request)
        self._running.streams += 1
        try:
            while block := await blocks.next():
                await response.write(block)
        except RunestoneError as error:
            failure = error.with_traceback(None)
        except asyncio.CancelledError:
            if not self._running.is_cut:
                raise
            failure = shutting_down()
        finally:
            self._running.streams -= 1
        if failure is not None:
            response.force_close()
            if not (isinstance(failure, ProviderError) and failure.told):
                await response.write(client_dialect(call.operation).error_event(failure, call.id))
        await response.write_eof()
        return failure


def call_headers(call: Call) -> list[tuple[str, str]]:
    """What an answer says about where it came from, and how long who took (Server-Timing, milliseconds)."""
    gateway = perf_counter() - call.started - call.waited if call.head is None else call.head
    headers = [("Server-Timing", f"gateway;dur={gateway * 1000:.2f}, upstream;dur={call.waited * 1000:.1f}")]
    headers += call.cache_headers
    if call.target is not None:
        headers += [
            ("x-runestone-provider", call.target.provider),
            ("x-runestone-model", _header_safe(call.target.model)),
            ("x-runestone-attempts", str(call.attempts)),
        ]
    return headers


def _header_safe(text: str) -> str:
    """A model's name as a header can carry it; names come from clients too (`provider/anything`)."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
