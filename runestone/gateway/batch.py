"""Single embeddings that arrive together go up as one call, and each caller hears its own part of the answer.

When they go is core/window.py's to say; alone, a call passes as if this were not here. Together go calls for the same
model with the same other fields, headers and (where a provider sees it) credential, in order of arrival.

    the provider answers           the answer is taken apart; its count of tokens is shared out
    it refuses the batch           halved, and halved again, until only the item that is refused fails
    it fails                       everybody hears it: what could be tried was tried further in
    a caller leaves                its item is left out, or its answer dropped; the last one ends the batch
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from time import perf_counter

import orjson

from runestone.core.call import Call, Operation
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.core.window import Bounds, Window
from runestone.dialects import embeddings
from runestone.errors import InternalError, ProviderFailed, ProviderRefused, RunestoneError
from runestone.gateway.pipeline import Next
from runestone.tasks import spawn

MAX_GROUPS = 256
"""Kinds of questions that are remembered while nothing of them is under way."""
MAX_WAITING = 10_000
"""Calls of one kind that may wait; more pass by themselves."""
_FOR_AN_ITEM = frozenset({400, 413, 422})
"""Refusals that a single item can be the reason of."""

Observe = Callable[[int, Sequence[float]], None]


@dataclass(slots=True, eq=False)
class Item:
    """One caller's question, where its answer will be, and the batch it has gone with."""

    call: Call
    came: float
    answer: asyncio.Future[Reply]
    batch: Shipment | None = None


@dataclass(slots=True, eq=False)
class Shipment:
    """A batch under way, and those it is for."""

    items: list[Item]
    task: asyncio.Task[None] | None = None


class Batch:
    """The stage. `bounds_of` a call's model; `observe(size, waits)` hears of each batch that goes."""

    def __init__(
        self, bounds_of: Callable[[Call], Bounds], *, sees_credential: Callable[[Call], bool], observe: Observe
    ):
        self._bounds_of = bounds_of
        self._sees_credential = sees_credential
        self._observe = observe
        self._groups: OrderedDict[bytes, Group] = OrderedDict()

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        if call.operation is not Operation.EMBEDDINGS or call.timeout is not None:
            return await next(call)
        asked = embeddings.items(call.fields)
        if asked is None or len(asked) != 1:
            return await next(call)
        key = self._key(call)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(self._bounds_of(call), next, self._observe)
            self._forget()
        else:
            self._groups.move_to_end(key)
        return await group.ask(call)

    def _key(self, call: Call) -> bytes:
        rest = {name: value for name, value in call.fields.items() if name != "input"}
        credential = call.credential if self._sees_credential(call) else None
        told = repr((call.model, credential, sorted(call.headers.items()))).encode()
        return sha256(told + orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).digest()

    def _forget(self) -> None:
        for key, group in list(self._groups.items())[: max(0, len(self._groups) - MAX_GROUPS)]:
            if group.is_idle:
                del self._groups[key]


class Group:
    """The calls of one kind."""

    def __init__(self, bounds: Bounds, next: Next, observe: Observe) -> None:  # noqa: A002
        self._window = Window(bounds)
        self._most = bounds.most
        self._next = next
        self._observe = observe
        self._queue: deque[Item] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return not self._queue and not self._window.under_way

    async def ask(self, call: Call) -> Reply:
        """The answer to `call`, alone or with others."""
        now = perf_counter()
        self._window.arrive(now)
        if len(self._queue) >= MAX_WAITING or (not self._queue and self._window.due(1, now, now)):
            return await self._alone(call)
        item = Item(call, now, asyncio.get_running_loop().create_future())
        self._queue.append(item)
        call.watched().stage = "batch"
        self._look()
        try:
            return await item.answer
        except asyncio.CancelledError:
            self._leave(item)
            raise

    async def _alone(self, call: Call) -> Reply:
        self._observe(1, (0.0,))
        self._window.begin()
        began = perf_counter()
        latency: float | None = None
        try:
            reply = await self._next(call)
            latency = perf_counter() - began
            return reply
        finally:
            self._window.end(latency)
            self._look()

    def _look(self) -> None:
        """Sends what is due, and sets the timer for what is not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        queue, window = self._queue, self._window
        now = perf_counter()
        while queue and window.due(len(queue), queue[0].came, now):
            items = [queue.popleft() for _ in range(min(self._most, len(queue)))]
            self._observe(len(items), [now - item.came for item in items])
            batch = Shipment(items)
            for item in items:
                item.batch = batch
            window.begin()
            batch.task = spawn(f"batch of {items[0].call.id}", self._ship(items))
        if queue:
            wait = max(window.deadline(queue[0].came) - now, 0.001)
            self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    async def _ship(self, items: list[Item]) -> None:
        began = perf_counter()
        latency: float | None = None
        try:
            await self._ask_for(items)
            latency = perf_counter() - began
        finally:
            self._window.end(latency)
            self._look()
            for item in items:
                if not item.answer.done():  # neither answered nor left: a fault of ours, which the log has
                    item.answer.set_exception(InternalError("a batch ended without an answer to one of its items"))

    async def _ask_for(self, items: list[Item]) -> None:
        """Answers every item, or tells it why not."""
        items = [item for item in items if not item.answer.done()]
        if not items:
            return
        call = copy(items[0].call)
        asked = [(embeddings.items(item.call.fields) or [None])[0] for item in items]
        call.fields = embeddings.asking(call.fields, asked)
        call.body = orjson.dumps(call.fields)
        call.failures, call.waited = (), 0.0
        for item in items:
            item.call.progress = call.progress
        try:
            reply = await self._next(call)
            parts = [reply.body or b""] if len(items) == 1 else embeddings.split(reply.body or b"", asked)
            reply.close()
            if parts is None:
                raise ProviderFailed("the provider's answer does not hold one embedding for each input")
        except RunestoneError as error:
            if len(items) > 1 and isinstance(error, ProviderRefused) and error.status in _FOR_AN_ITEM:
                for item in items:
                    item.call.waited += call.waited
                half, began = len(items) // 2, perf_counter()
                await self._ask_for(items[:half])
                for item in items[half:]:
                    item.call.waited += perf_counter() - began
                await self._ask_for(items[half:])
                return
            for item in items:
                _tell(item.call, call)
                if not item.answer.done():
                    item.answer.set_exception(error.with_traceback(None))
            return
        shares = embeddings.shared(reply.summary.input_tokens or 0, [embeddings.weight(item) for item in asked])
        for item, part, share in zip(items, parts, shares, strict=True):
            _tell(item.call, call)
            if not item.answer.done():
                summary = Summary(input_tokens=share or None, model=reply.summary.model)
                item.answer.set_result(Reply(reply.status, list(reply.headers), summary, body=part))

    def _leave(self, item: Item) -> None:
        batch = item.batch
        if batch is None:
            if item in self._queue:
                self._queue.remove(item)
            return
        if batch.task is not None and all(other.answer.done() for other in batch.items):
            batch.task.cancel()


def _tell(call: Call, batch: Call) -> None:
    """What became of the batch, into one caller's own call."""
    call.target, call.attempts = batch.target, batch.attempts
    call.failures = batch.failures
    call.waited += batch.waited
