"""Background tasks: what fails is begun again and counted, and takes nothing along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine

import pytest

from runestone import tasks
from runestone.core import backoff
from runestone.tasks import FIRST_PAUSE, LONGEST_PAUSE, Supervisor, spawn
from tests.conftest import until


@pytest.fixture
async def owner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """A supervisor that hardly pauses."""
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(tasks, "LONGEST_PAUSE", 0.002)
    owner = Supervisor()
    yield owner
    await owner.close()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


class Failing:
    """Work that fails `times`, then runs until it is cancelled."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.begun = 0
        self.is_over = False
        self._times = times
        self._error = error or RuntimeError("something of a task")

    async def __call__(self) -> None:
        self.begun += 1
        if self.begun <= self._times:
            raise self._error
        try:
            await asyncio.Event().wait()
        finally:
            self.is_over = True


async def test_what_is_kept_is_begun_again_and_counted(owner: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    """As often as it fails, with a line of the log that names it; others do not notice."""
    work, other = Failing(3), Failing(0)
    kept = owner.keep("look after it", work)
    owner.keep("something else", other)
    await until(lambda: work.begun == 4)
    assert dict(owner.restarts()) == {"look after it": 3, "something else": 0}
    assert [record.getMessage() for record in caplog.records] == ["the task look after it failed"] * 3
    assert caplog.text.count("something of a task") == 3
    assert (kept.get_name(), kept.done(), other.begun, owner.failing()) == ("look after it", False, 1, [])


async def test_who_waits_to_be_begun_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """`failing` names it until it runs again, or is ended."""
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 60.0)
    owner, work = Supervisor(), Failing(9)
    owner.keep("b", work)
    owner.keep("a", work)
    await until(lambda: owner.failing() == ["a", "b"])
    assert work.begun == 2
    await owner.close()
    assert owner.failing() == []


async def test_pauses_grow_while_it_goes_on_failing(owner: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one failure to the next, up to a longest one; what ran well for long has failed for the first time again."""
    asked: list[tuple[int, float, float]] = []

    def delay(failures: int, chance: float, *, base: float, most: float) -> float:
        asked.append((failures, base, most))
        return 0.0

    monkeypatch.setattr(backoff, "delay", delay)
    work = Failing(4)
    owner.keep("x", work)
    await until(lambda: work.begun == 5)
    assert asked == [(number, 0.001, 0.002) for number in (1, 2, 3, 4)]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (0.5, 30.0)
    asked.clear()
    monkeypatch.setattr(tasks, "WELL", 0.0)
    work = Failing(3)
    owner.keep("x", work)
    await until(lambda: work.begun == 4)
    assert [failures for failures, _, _ in asked] == [1, 1, 1]


async def test_what_comes_to_its_end_is_not_begun_again(owner: Supervisor) -> None:
    """Work that returns is done."""
    begun = []

    async def work() -> None:
        begun.append(None)

    await owner.keep("x", work)
    assert (len(begun), dict(owner.restarts()), owner.failing()) == (1, {"x": 0}, [])


async def test_a_cancelled_wait_inside_is_a_failure_like_others(owner: Supervisor) -> None:
    """Somebody cancels what the work waits for, and not the work: it is begun again, and does not end unseen."""
    waited: list[asyncio.Future[None]] = []

    async def work() -> None:
        waited.append(asyncio.get_running_loop().create_future())
        await waited[-1]

    kept = owner.keep("x", work)
    for number in (1, 2):
        await until(lambda number=number: len(waited) == number)  # type: ignore[misc]
        waited[-1].cancel()
    await until(lambda: len(waited) == 3)
    assert (dict(owner.restarts()), kept.done()) == ({"x": 2}, False)


async def test_work_that_cannot_even_begin_is_tried_again(owner: Supervisor) -> None:
    """A function that gives the work, and fails, has failed as the work would."""
    work, asked = Failing(0), []

    def begin() -> Coroutine[object, object, None]:
        asked.append(None)
        if len(asked) < 3:
            raise RuntimeError("not yet")
        return work()

    owner.keep("x", begin)
    await until(lambda: work.begun == 1)
    assert dict(owner.restarts()) == {"x": 2}


async def test_a_failure_of_what_runs_once_is_a_line_of_the_log(
    owner: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else hears of it, and whoever waits for the task sees it end."""
    await owner.start("once", Failing(1)())
    assert [record.getMessage() for record in caplog.records] == ["the task once failed"]
    assert dict(owner.restarts()) == {}


async def test_the_end_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """`close` ends what runs, what pauses and what has not begun; each has its own clean-up, and one that fails there
    holds nobody up.
    """
    owner, work = Supervisor(), Failing(0)

    async def fails_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("at the end")

    kept = owner.keep("kept", work)
    owner.keep("pausing", Failing(9))
    owner.start("worse", fails_at_the_end())
    await until(lambda: work.begun == 1 and owner.failing() == ["pausing"])
    late = owner.start("not begun", work())
    await owner.close()
    assert work.is_over
    assert kept.cancelled()
    assert late.cancelled()
    assert work.begun == 1
    assert "the task worse failed" in caplog.text
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_what_is_spawned_belongs_to_its_caller() -> None:
    """It has its name, gives its result, and its failure is raised where it is waited for."""

    async def work(value: int) -> int:
        if value < 0:
            raise ValueError(value)
        return value

    task = spawn("mine", work(7))
    assert (task.get_name(), await task) == ("mine", 7)
    with pytest.raises(ValueError, match="-1"):
        await spawn("mine", work(-1))
