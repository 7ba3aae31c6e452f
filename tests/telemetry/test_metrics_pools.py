"""What is told of pools: how long calls wait for a connection, how many there may be, who was refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from runestone.control import Control
from runestone.errors import Unavailable
from runestone.gateway.targets import Targets, Watched
from runestone.providers.catalog import Auth
from runestone.providers.http import HttpProvider
from runestone.providers.pool import PoolLimits
from runestone.telemetry.metrics import Metrics
from tests.telemetry.test_metrics import value

UP = {"provider": "up"}


class House:
    """A provider with three slots, and what metrics say of it."""

    def __init__(self, **limits: float) -> None:
        told = PoolLimits(**{"size": 1, "overflow": 2, "checkout_timeout": 5.0, "waiting": 10, **limits})  # type: ignore[arg-type]
        self.provider = HttpProvider(name="up", base_url="http://127.0.0.1:9/v1", auth=Auth.BEARER, limits=told)
        targets = Targets((), ("up",), lambda target: Watched(target, None, None))
        self.metrics = Metrics([], Control({"up": self.provider}, targets).samples)

    def says(self, name: str, **labels: str) -> float | None:
        return value(self.metrics, f"runestone_pool_{name}", {**UP, **labels})


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    built = House(**getattr(request, "param", {}))
    await built.provider.start()
    yield built
    await built.provider.close()


async def test_who_finds_a_slot_has_waited_nought(house: House) -> None:
    """It is counted, in the first bucket, without a step on the path of the call."""
    for _ in range(3):
        await house.provider.pool.check_out()
    assert house.says("wait_seconds_count") == 3.0
    assert house.says("wait_seconds_bucket", le="0.005") == 3.0
    assert house.says("wait_seconds_sum") == 0.0
    assert house.says("capacity") == 3.0
    assert house.says("connections", state="active") == 3.0


async def test_who_waits_is_told_for_how_long(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the slot came; the callers before it had none to wait."""
    now = 100.0
    monkeypatch.setattr("runestone.providers.pool.monotonic", lambda: now)
    pool = house.provider.pool
    for _ in range(3):
        await pool.check_out()
    waiting = asyncio.ensure_future(pool.check_out())
    await asyncio.sleep(0)
    now += 0.75
    pool.check_in()
    await waiting
    assert house.says("wait_seconds_count") == 4.0
    assert house.says("wait_seconds_bucket", le="0.5") == 3.0
    assert house.says("wait_seconds_bucket", le="1.0") == 4.0
    assert house.says("wait_seconds_sum") == pytest.approx(0.75)


@pytest.mark.parametrize("house", [{"checkout_timeout": 0.02, "waiting": 1}], indirect=True)
async def test_who_waits_in_vain_is_counted_too(house: House) -> None:
    """As a wait, and as refused; who is refused at once has not waited."""
    pool = house.provider.pool
    for _ in range(3):
        await pool.check_out()
    waiting = asyncio.ensure_future(pool.check_out())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await pool.check_out()
    assert house.says("refused_total") == 1.0
    with pytest.raises(Unavailable):
        await waiting
    assert house.says("refused_total") == 2.0
    assert house.says("wait_seconds_count") == 4.0
    assert house.says("wait_seconds_bucket", le="0.01") == 3.0


async def test_a_client_that_leaves_while_it_waits_has_waited(house: House) -> None:
    """It never had a slot; the pool knows all the same how long it was there."""
    pool = house.provider.pool
    for _ in range(3):
        await pool.check_out()
    leaving = asyncio.ensure_future(pool.check_out())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert house.says("wait_seconds_count") == 4.0
    assert (house.says("refused_total"), house.says("connections", state="waiting")) == (0.0, 0.0)
