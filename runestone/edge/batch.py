"""The endpoint that asks many things at once: the calls of one request, answered together.

    as JSON      one answer, in the order of the request
    as events    each line as it finishes; what a streamed line says, as it says it

Rule: nothing piles up. Lines wait for their turn to be written, so what runs waits for a client that reads slowly; one
that does not read is ended, and so is all that runs for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from time import perf_counter

from aiohttp import web
from multidict import CIMultiDict

from runestone.dialects.body import parse_object
from runestone.dialects.passage import OPENAI
from runestone.edge.batch_lines import MAX_CONCURRENCY, Batch, Line, events, last_event, read_batch, whole
from runestone.edge.batch_run import Gateway, Run, Spawn, Tell
from runestone.edge.event_stream import EVENTS
from runestone.edge.request import Head, head_of, read_body
from runestone.edge.running import Running, shutting_down
from runestone.errors import RunestoneError

PATIENCE = 60.0
"""Seconds beyond a call's deadline in which its client may make room for what the call has said, and one more for
every SLOWEST bytes of it: a client that never reads does not hold what runs for it for ever.
"""
SLOWEST = 1024

Refused = Callable[[web.Request, RunestoneError], None]


class Batches:
    """The handler. `gateway` is the chain of stages; `max_body` in bytes; `total` seconds a call may take;
    `concurrency` of a batch that does not say; `running` knows what runs; `spawn` runs a line in a task; `refused` is
    told of lines that failed before they became a call.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        max_body: int,
        total: float,
        concurrency: int,
        running: Running,
        spawn: Spawn,
        refused: Refused,
    ) -> None:
        self._gateway = gateway
        self._total = total
        self._max_body = max_body
        self._concurrency = max(1, min(concurrency, MAX_CONCURRENCY))
        self._running = running
        self._spawn = spawn
        self._refused = refused

    async def handle(self, request: web.Request) -> web.StreamResponse:
        task = self._running.enter()
        try:
            body = await read_body(request, self._max_body)
            batch = read_batch(parse_object(body), self._concurrency)
            head = head_of(request, self._total)
            return await (self._events(request, head, batch) if batch.stream else self._whole(request, head, batch))
        except asyncio.CancelledError:
            if self._running.is_cut:
                raise shutting_down() from None
            raise
        finally:
            self._running.leave(task)

    async def _whole(self, request: web.Request, head: Head, batch: Batch) -> web.Response:
        """All answers in order. What the end of the gateway cuts is told so, line by line: the rest has been paid."""
        kept: dict[int, bytes] = {}

        async def keep(line: Line, said: Sequence[bytes], deadline: float) -> None:
            kept[line.index] = said[-1]

        run = self._run(request, head, keep)
        try:
            await run.all(batch)
        except asyncio.CancelledError:
            if not self._running.is_cut:
                raise
            for line in batch.lines:
                if line.index not in kept:
                    await run.refuse(line, shutting_down())
        body = whole(head.id, [kept[line.index] for line in batch.lines], run.failed)
        return web.Response(body=body, content_type="application/json")

    async def _events(self, request: web.Request, head: Head, batch: Batch) -> web.StreamResponse:
        """Everything as it comes. What is cut reads an error event, and no end marker."""
        response = web.StreamResponse(headers=CIMultiDict(EVENTS))
        await response.prepare(request)
        out = Writer(response)
        last = last_event()
        try:
            await self._run(request, head, out.tell).all(batch)
        except asyncio.CancelledError:
            if not self._running.is_cut:
                raise
            response.force_close()
            last = OPENAI.error_event(shutting_down(), head.id)
        await out.end(last)
        return response

    def _run(self, request: web.Request, head: Head, tell: Tell) -> Run:
        refused = partial(self._refused, request)
        return Run(self._gateway, head, tell, spawn=self._spawn, refused=refused, running=self._running)


class Writer:
    """Writes the lines of all calls to one client, one at a time, and waits until there is room for more."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._turn = asyncio.Lock()

    async def tell(self, line: Line, said: Iterable[bytes], deadline: float) -> None:
        """See Tell. Raises ConnectionError when the client has left, or does not read."""
        data = events(said)
        if data:
            async with self._turn:
                await self._in_time(self._response.write(data), len(data), deadline)

    async def end(self, data: bytes) -> None:
        """`data`, and the end of the answer. Raises ConnectionError."""
        async with self._turn:
            await self._in_time(self._response.write_eof(data), len(data), perf_counter())

    async def _in_time(self, writing: Awaitable[None], size: int, deadline: float) -> None:
        rest = max(deadline - perf_counter(), 0.0)
        try:
            async with asyncio.timeout(rest + PATIENCE + size / SLOWEST):
                await writing
        except TimeoutError:
            raise ConnectionError("the client did not read its stream") from None
