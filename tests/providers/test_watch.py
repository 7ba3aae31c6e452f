"""One timer for all the waits of a call: which deadline was passed, and whose cancellation it was."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest

from runestone.errors import ProviderTimeout
from runestone.providers.watch import Watch

SOON = 0.02
LONG = 30.0
NEVER = float("inf")


def watch(deadline: float = NEVER) -> Watch:
    return Watch(asyncio.get_running_loop(), deadline)


async def forever() -> None:
    await asyncio.Event().wait()


async def result(value: str) -> str:
    await asyncio.sleep(0)
    return value


async def test_what_comes_in_time_is_the_result() -> None:
    """And the task goes on as if nobody had watched."""
    watched = watch()
    assert await watched.wait(result("a"), "first_byte", LONG) == "a"
    watched.stop()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("what", ["first_byte", "between_bytes"])
async def test_a_wait_that_is_due_is_a_timeout_that_says_which(what: str) -> None:
    """A 504 that names the wait and its seconds."""
    with pytest.raises(ProviderTimeout, match=rf"timeout \({what}\).*within 0.02 s"):
        await watch().wait(forever(), what, SOON)


@pytest.mark.parametrize("seconds", [LONG, SOON])
async def test_the_deadline_of_the_call_bounds_every_wait(seconds: float) -> None:
    """What comes first counts; at the deadline it is called `total`."""
    with pytest.raises(ProviderTimeout, match=r"timeout \(total\)"):
        await watch(perf_counter() + SOON / 2).wait(forever(), "first_byte", seconds)


async def test_a_deadline_that_has_passed_ends_the_wait_at_once() -> None:
    """Nothing is waited for that could only come too late."""
    with pytest.raises(ProviderTimeout, match="total"):
        await watch(perf_counter() - 1.0).wait(forever(), "first_byte", LONG)


async def test_a_timeout_leaves_the_task_as_it_was() -> None:
    """The cancellation that ended the wait is used up: what the task does next is not cancelled."""
    with pytest.raises(ProviderTimeout):
        await watch().wait(forever(), "first_byte", SOON)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert await result("after") == "after"


async def test_each_wait_has_its_own_time() -> None:
    """A stream that goes on for longer than one wait may last is not too slow."""
    watched = watch()
    for _ in range(4):
        await watched.wait(asyncio.sleep(SOON), "between_bytes", 2 * SOON)
    with pytest.raises(ProviderTimeout, match="between_bytes"):
        await watched.wait(forever(), "between_bytes", SOON)


async def test_a_shorter_wait_after_a_longer_one_is_in_time() -> None:
    """The timer that was set for the long wait does not delay the short one."""
    watched = watch()
    await watched.wait(result("a"), "first_byte", LONG)
    before = perf_counter()
    with pytest.raises(ProviderTimeout, match="between_bytes"):
        await watched.wait(forever(), "between_bytes", SOON)
    assert perf_counter() - before < 1.0


async def test_between_waits_nothing_is_due() -> None:
    """A client that reads slowly is not a provider that sends slowly."""
    watched = watch()
    await watched.wait(result("a"), "between_bytes", SOON)
    await asyncio.sleep(2 * SOON)
    assert await watched.wait(result("b"), "between_bytes", SOON) == "b"


async def test_a_stopped_watch_cancels_nobody() -> None:
    """After the call the task goes on, past what was due."""
    watched = watch()
    await watched.wait(result("a"), "between_bytes", SOON)
    watched.stop()
    watched.stop()
    await asyncio.sleep(2 * SOON)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_stays_one() -> None:
    """A client that leaves is not a provider that is slow."""
    started = asyncio.Event()

    async def call() -> None:
        started.set()
        await watch().wait(forever(), "first_byte", LONG)

    task = asyncio.ensure_future(call())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_cancellation_at_the_same_moment_wins() -> None:
    """Who was cancelled by somebody else, and timed out too, is cancelled."""
    watched = watch(perf_counter() - 1.0)

    async def call() -> None:
        await watched.wait(forever(), "first_byte", LONG)

    task = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_after_a_timeout_stays_one() -> None:
    """The timeout of an earlier wait does not explain a later cancellation."""
    watched = watch()
    started = asyncio.Event()

    async def call() -> None:
        with pytest.raises(ProviderTimeout):
            await watched.wait(forever(), "first_byte", SOON)
        started.set()
        await watched.wait(forever(), "between_bytes", LONG)

    task = asyncio.ensure_future(call())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_what_is_awaited_is_passed_on() -> None:
    """The watch knows about time only."""

    async def fail() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await watch().wait(fail(), "first_byte", LONG)


async def test_it_can_stand_inside_another_timeout() -> None:
    """asyncio.timeout around it still works, and is told apart."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await watch().wait(forever(), "first_byte", LONG)
