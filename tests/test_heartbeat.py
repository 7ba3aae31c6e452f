"""Whether the loop goes round: how late it is, and a word when it is stuck."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runestone import heartbeat, tasks
from runestone.heartbeat import Heartbeat
from runestone.tasks import Supervisor
from tests.conftest import until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.002)


@asynccontextmanager
async def beating(heart: Heartbeat) -> AsyncIterator[Heartbeat]:
    """It beats, and its thread is gone at the end."""
    owner = Supervisor()
    owner.keep("heartbeat", heart.run)
    try:
        await until(lambda: sum(heart.lags.counts) > 1)
        yield heart
    finally:
        await owner.close()
        await until(lambda: not [thread for thread in threading.enumerate() if thread.name == "heartbeat"])


def hold_the_loop_up(seconds: float) -> None:
    """In the loop's own thread."""
    time.sleep(seconds)


async def test_every_beat_says_how_late_it_was() -> None:
    """A loop that is held up is late by so much, once; one that is not is not."""
    async with beating(Heartbeat(limit=60.0)) as heart:
        beats, late = sum(heart.lags.counts), heart.lags.total
        hold_the_loop_up(0.06)
        await until(lambda: sum(heart.lags.counts) > beats)
        assert 0.055 <= heart.lags.total - late < 1.0
        assert heart.stalls == 0
        assert sum(heart.lags.counts[heart.lags.bounds.index(0.05) + 1 :]) >= 1
        samples = {name: value for name, _, value in heart.samples()}
        assert samples == {"loop_lag_seconds": heart.lags, "loop_stalls_total": 0}


async def test_a_stuck_loop_is_told_where_it_stands(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each time, with the place in the code and nothing of what it holds; while it is stuck it is known to
    be, and after that no more.
    """
    secret = "what-a-frame-holds"
    async with beating(Heartbeat(limit=0.02)) as heart:
        for times in (1, 2):
            hold_the_loop_up(0.12)
            assert heart.is_stuck  # until it has gone round
            assert heart.age >= 0.12
            assert heart.stalls == times
            await until(lambda: not heart.is_stuck)
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(logged) == 2
    assert "the loop is stuck since 0." in logged[0].getMessage()
    assert "in hold_the_loop_up" in logged[0].getMessage()
    assert secret not in caplog.text


async def test_whoever_wants_a_sign_of_life_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every beat; and one that fails is a task that is begun again, with its thread."""
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(tasks, "LONGEST_PAUSE", 0.001)
    signs = []

    def sign() -> None:
        signs.append(None)
        if len(signs) == 3:
            raise OSError("nobody there")

    async with beating(Heartbeat(limit=60.0, each=sign)) as heart:
        await until(lambda: len(signs) > 6)
        assert sum(heart.lags.counts) >= len(signs)
        assert sum(thread.name == "heartbeat" for thread in threading.enumerate()) == 1


async def test_a_limit_may_change_while_it_beats(caplog: pytest.LogCaptureFixture) -> None:
    """As a reload does it: from the next look on."""
    async with beating(Heartbeat(limit=60.0)) as heart:
        hold_the_loop_up(0.05)
        assert (heart.stalls, heart.is_stuck) == (0, False)
        heart.limit = 0.01
        assert heart.is_stuck
        await until(lambda: not heart.is_stuck)


async def test_before_it_has_begun_it_is_as_old_as_it_is() -> None:
    """A loop that has not come round to the first beat is late from the start."""
    heart = Heartbeat(limit=0.001)
    await asyncio.to_thread(time.sleep, 0.01)
    assert heart.is_stuck
