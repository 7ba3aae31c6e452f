"""What Python programs use without a server: runestone.cache and runestone.batch."""

from __future__ import annotations

import asyncio
import gc

import pytest

from runestone.batch import adaptive_batch
from runestone.cache import ResponseCache, get_or_compute, shared
from tests.conftest import until

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Computed:
    """Counts, and answers when it is let."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.times = 0
        self.release = asyncio.Event()
        self.release.set()

    async def __call__(self) -> object:
        self.times += 1
        await self.release.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_what_was_computed_is_kept() -> None:
    """Whatever the order of the fields; another question is another answer."""
    cache, compute = ResponseCache(), Computed({"text": "hello", "tool_calls": [{"id": "t"}]})
    first = await cache.get_or_compute(ASK, compute)
    again = await cache.get_or_compute(dict(reversed(ASK.items())), compute)
    assert first == again == compute.answer
    assert compute.times == 1
    await cache.get_or_compute({**ASK, "seed": 1}, compute)
    assert compute.times == 2
    assert (cache.stats()["hits"], cache.stats()["entries"]) == (1, 2)
    assert cache.clear() == 2
    await cache.get_or_compute(ASK, compute)
    assert compute.times == 3


async def test_a_ttl_of_nothing_keeps_nothing() -> None:
    """`ttl` is this answer's own."""
    cache, compute = ResponseCache(), Computed(1)
    for _ in range(2):
        assert await cache.get_or_compute(ASK, compute, ttl=0) == 1
    assert compute.times == 2


async def test_asked_at_once_it_is_computed_once() -> None:
    """A hundred callers, one computation; one that gives up takes nothing from the others."""
    cache, compute = ResponseCache(), Computed("x")
    compute.release.clear()
    callers = [asyncio.ensure_future(cache.get_or_compute(ASK, compute)) for _ in range(100)]
    await until(lambda: cache.stats()["collapsed"] == 99)
    callers[0].cancel()
    compute.release.set()
    assert set(await asyncio.gather(*callers[1:])) == {"x"}
    assert compute.times == 1


async def test_a_failure_is_everybodys_and_is_not_kept() -> None:
    """What compute raises reaches each caller, and the next one computes anew."""
    cache, compute = ResponseCache(), Computed(RuntimeError("boom"))
    heard = await asyncio.gather(*(cache.get_or_compute(ASK, compute) for _ in range(5)), return_exceptions=True)
    assert [str(error) for error in heard] == ["boom"] * 5
    assert compute.times == 1
    compute.answer = "well"
    assert await cache.get_or_compute(ASK, compute) == "well"


async def test_the_process_has_one_cache_of_its_own() -> None:
    """The function of the module uses it."""
    compute = Computed([1, 2])
    for _ in range(2):
        assert await get_or_compute({"question": "of the library's test"}, compute, ttl=60) == [1, 2]
    assert compute.times == 1
    assert shared() is shared()


async def test_batches_keep_order_and_bounds() -> None:
    """Every item has its result at its place; no more calls at a time, and no larger ones, than allowed."""
    sizes: list[int] = []
    running = most = 0

    async def process(part: list[int]) -> list[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        sizes.append(len(part))
        await asyncio.sleep(0.002)
        running -= 1
        return [item * 2 for item in part]

    assert await adaptive_batch(range(500), process, max_concurrency=3, max_size=40) == [
        item * 2 for item in range(500)
    ]
    assert most == 3
    assert max(sizes) <= 40
    assert sizes[0] == 1
    assert max(sizes) > 1, "what the first batches took makes larger ones worth it"
    assert await adaptive_batch([], process) == []


async def test_a_batch_that_fails_ends_the_others() -> None:
    """The error comes out when nothing runs any more; a wrong number of results is an error too."""
    cancelled = 0

    async def process(part: list[int]) -> list[int]:
        nonlocal cancelled
        if 0 in part:
            raise RuntimeError("boom")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return part

    with pytest.raises(RuntimeError, match="boom"):
        await adaptive_batch([1, 2, 0], process, max_concurrency=3)
    assert cancelled == 2

    async def all_fail(part: list[int]) -> list[int]:
        raise RuntimeError("boom")

    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    with pytest.raises(RuntimeError, match="boom"):
        await adaptive_batch([1, 2, 0], all_fail, max_concurrency=3)
    gc.collect()
    assert unheard == []

    async def forgets(part: list[int]) -> list[int]:
        return []

    with pytest.raises(ValueError, match="1 items were given and 0 results"):
        await adaptive_batch([1], forgets)
    with pytest.raises(ValueError, match="at least 1"):
        await adaptive_batch([1], process, max_concurrency=0)
