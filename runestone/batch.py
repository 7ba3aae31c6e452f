"""Batching for programs without a server: `results = await adaptive_batch(items, process, max_concurrency=5)`.

The gateway's own window (core/window.py) waits for what arrives; here everything is there already, so only the size is
to be found: it doubles as long as that makes an item cheaper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import TypeVar

from runestone.tasks import spawn

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Size:
    """How many items go together: twice as many, up to `most`, while each takes a tenth less time than before."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._an_item = float("inf")
        self.now = 1

    def learn(self, count: int, seconds: float) -> None:
        """A batch of `count` has taken `seconds`."""
        an_item = seconds / count
        if count == self.now and an_item < self._an_item * 0.9:
            self._an_item = an_item
            self.now = min(self._most, 2 * self.now)


async def adaptive_batch(
    items: Sequence[Item],
    process: Callable[[list[Item]], Awaitable[Sequence[Result]]],
    *,
    max_concurrency: int = 5,
    max_size: int = 100,
) -> list[Result]:
    """The results of all `items`, in order. `process` is given a list of at most `max_size` of them and returns as many
    results; at most `max_concurrency` of its calls run at a time. The first batches are small; what they take decides
    how large the next ones are.

    Raises what `process` raises, after the batches that were running have been cancelled; ValueError when it returns
    another number of results, or for a bound below 1.
    """
    if max_concurrency < 1 or max_size < 1:
        raise ValueError(f"max_concurrency and max_size are at least 1: {max_concurrency}, {max_size}")
    size = _Size(max_size)
    results: dict[int, Sequence[Result]] = {}

    async def one(at: int, part: list[Item]) -> None:
        began = perf_counter()
        found = await process(part)
        size.learn(len(part), perf_counter() - began)
        if len(found) != len(part):
            raise ValueError(f"{len(part)} items were given and {len(found)} results came back")
        results[at] = found

    at = 0
    running: set[asyncio.Task[None]] = set()
    try:
        while at < len(items) or running:
            while at < len(items) and len(running) < max_concurrency:
                part = list(items[at : at + size.now])
                running.add(spawn(f"batch from item {at}", one(at, part)))
                at += len(part)
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            failures = [error for task in done if (error := task.exception()) is not None]
            if failures:
                raise failures[0]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return [result for start in sorted(results) for result in results[start]]
