"""The slots of a pool: bounded, served in order, given back."""

from __future__ import annotations

import asyncio

import pytest

from runestone.errors import Unavailable
from runestone.providers.pool import Pool, PoolLimits


def pool(**limits: float) -> Pool:
    return Pool("up", "http://127.0.0.1:9", PoolLimits(**{"size": 1, "overflow": 1, "checkout_timeout": 5.0, **limits}))  # type: ignore[arg-type]


async def test_callers_are_served_in_order() -> None:
    """Who waits longest is next; the pool never lends more than it has."""
    lent = pool()
    order: list[int] = []

    async def call(number: int) -> None:
        await lent.check_out()
        order.append(number)
        assert lent.active <= lent.capacity
        await asyncio.sleep(0)
        lent.check_in()

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))
    assert (lent.active, lent.waiting, lent.tally.acquired, lent.tally.refused) == (0, 0, 20, 0)


async def test_a_full_pool_refuses_in_time() -> None:
    """A caller waits no longer than the checkout timeout, and is told when to come again."""
    lent = pool(checkout_timeout=0.01)
    await lent.check_out()
    await lent.check_out()
    with pytest.raises(Unavailable) as caught:
        await lent.check_out()
    assert caught.value.retry_after
    assert (lent.active, lent.waiting, lent.tally.refused) == (2, 0, 1)


async def test_too_many_waiting_are_refused_at_once() -> None:
    """The queue has a bound of its own."""
    lent = pool(waiting=1)
    await lent.check_out()
    await lent.check_out()
    waiting = asyncio.ensure_future(lent.check_out())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await lent.check_out()
    lent.check_in()
    await waiting
    assert lent.active == 2


@pytest.mark.parametrize("served", [False, True])
async def test_a_caller_that_leaves_takes_no_slot(served: bool) -> None:
    """Cancelled while waiting, or in the very moment it was served: the slot goes to the next."""
    lent = pool(overflow=0)
    await lent.check_out()
    leaving = asyncio.ensure_future(lent.check_out())
    staying = asyncio.ensure_future(lent.check_out())
    await asyncio.sleep(0)
    if served:
        lent.check_in()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    if not served:
        lent.check_in()
    await staying
    lent.check_in()
    assert (lent.active, lent.waiting) == (0, 0)
