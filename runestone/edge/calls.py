"""The endpoints that ask a model: JSON in, JSON or server-sent events out.

Rule: one handler for every operation; what differs between them is in the dialects.
A client that leaves cancels its handler (aiohttp's handler_cancellation), and closing the reply ends the provider's
call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

from aiohttp import web
from multidict import CIMultiDict

from runestone.core.call import Call, Operation
from runestone.core.reply import Blocks, Reply
from runestone.dialects.passage import client_dialect
from runestone.edge.request import CALL, REQUEST_ID, read_call
from runestone.errors import RunestoneError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"


class Calls:
    """`gateway` is the chain of stages; `max_body` in bytes."""

    def __init__(self, gateway: Callable[[Call], Awaitable[Reply]], *, max_body: int) -> None:
        self._gateway = gateway
        self._max_body = max_body

    def handler(self, operation: Operation) -> Handler:
        """The aiohttp handler of `operation`."""
        return partial(self._handle, operation=operation)

    async def _handle(self, request: web.Request, operation: Operation) -> web.StreamResponse:
        call = await read_call(request, operation, self._max_body)
        request[CALL] = call
        reply = await self._gateway(call)
        headers = CIMultiDict(reply.headers)
        headers.update(call_headers(call))
        if reply.blocks is not None:
            return await _stream(request, call, reply, reply.blocks, headers)
        headers["Content-Type"] = _JSON
        response = web.Response(status=reply.status, body=reply.body, headers=headers)
        reply.close()
        return response


class EventStream(web.StreamResponse):
    """A stream whose head leaves with its first block, which is there already."""

    _send_headers_immediately = False


def call_headers(call: Call) -> list[tuple[str, str]]:
    """What an answer says about where it came from, and how long who took (Server-Timing, milliseconds)."""
    gateway = perf_counter() - call.started - call.waited if call.head is None else call.head
    headers = [("Server-Timing", f"gateway;dur={gateway * 1000:.2f}, upstream;dur={call.waited * 1000:.1f}")]
    if call.target is not None:
        headers += [
            ("x-runestone-provider", call.target.provider),
            ("x-runestone-model", _header_safe(call.target.model)),
            ("x-runestone-attempts", str(call.attempts)),
        ]
    return headers


def _header_safe(text: str) -> str:
    """A model's name as a header can carry it; names come from clients too (`provider/anything`)."""
    return text if text.isascii() and text.isprintable() else text.encode("ascii", "backslashreplace").decode()


async def _stream(
    request: web.Request, call: Call, reply: Reply, blocks: Blocks, headers: CIMultiDict[str]
) -> web.StreamResponse:
    headers["Content-Type"] = _EVENTS
    headers["Cache-Control"] = "no-cache"
    headers["X-Accel-Buffering"] = "no"  # nginx would collect the events otherwise
    response = EventStream(status=reply.status, headers=headers)
    failure: BaseException | None = None
    try:
        await response.prepare(request)
        try:
            while block := await blocks.next():
                await response.write(block)
        except RunestoneError as error:
            failure = error
            response.force_close()
            if not getattr(error, "told", False):
                await response.write(client_dialect(call.operation).error_event(error, request[REQUEST_ID]))
        await response.write_eof()
    except BaseException as error:
        failure = error
        raise
    finally:
        reply.close(failure)
    return response
