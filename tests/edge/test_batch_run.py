"""The calls of a batch side by side: bounded, in order, each closed once, and none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest

from runestone.core.call import ANONYMOUS, Call
from runestone.core.directives import NO_WISHES
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.edge.batch_lines import Batch, Line, read_batch
from runestone.edge.batch_run import Run
from runestone.edge.request import Head
from runestone.edge.running import Running
from runestone.errors import BadRequest, RunestoneError, StreamBroken
from runestone.tasks import spawn
from tests.conftest import until

HEAD = Head(
    "r", ANONYMOUS, {"idempotency-key": "k", "x-title": "t"}, "own", 0.0, 30.0, 30.0, NO_WISHES, 9.0, ("a",), None
)
EVENT = b'data: {"n": 1}\n\n'


class Stream:
    """Blocks that come, and then what is given: an end, an error, or nothing ever."""

    def __init__(self, last: BaseException | None = None, *, hangs: bool = False) -> None:
        self._blocks = [EVENT, EVENT]
        self._last = last
        self._hangs = hangs
        self.first_token = None

    async def next(self) -> bytes:
        if self._blocks:
            return self._blocks.pop()
        if self._hangs:
            await asyncio.Event().wait()
        if self._last is not None:
            raise self._last
        return b""

    def close(self) -> None:
        pass


class Ear:
    """Hears the lines, or cannot."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.said: list[dict[str, Any]] = []
        self.closed: list[BaseException | None] = []
        self.refused: list[RunestoneError] = []
        self._failure = failure

    async def tell(self, line: Line, said: Sequence[bytes], deadline: float) -> None:
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        self.said += [orjson.loads(told) for told in said]

    def reply(self, *, body: bytes | None = None, blocks: Stream | None = None) -> Reply:
        reply = Reply(200, [], Summary(), body=body, blocks=blocks)
        reply.when_closed(lambda reply, error: self.closed.append(error))
        return reply

    def run(self, gateway: Callable[[Call], Awaitable[Reply]], running: Running | None = None) -> Run:
        return Run(gateway, HEAD, self.tell, spawn=spawn, refused=self.refused.append, running=running or Running())


def batch(count: int, most: int = 5) -> Batch:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    return read_batch({"requests": [{"body": body}] * count, "stream": True, "max_concurrency": most}, 5)


def others() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("line ")}


async def test_each_call_has_a_name_of_its_own() -> None:
    """The batch's id with the place behind it, and so the idempotency key: different calls are no repeats. The rest of
    the batch's head is every call's.
    """
    ear = Ear()
    calls: list[Call] = []

    async def gateway(call: Call) -> Reply:
        calls.append(call)
        return ear.reply(body=b"{}")

    await ear.run(gateway).all(batch(3))
    assert [call.id for call in calls] == ["r-0", "r-1", "r-2"]
    assert [call.headers for call in calls] == [{"idempotency-key": f"k-{at}", "x-title": "t"} for at in range(3)]
    assert all(call.started > 0 for call in calls), "a call's time begins with its turn"
    assert {(call.caller, call.credential, call.timeout, call.ttl, call.tags) for call in calls} == {
        (ANONYMOUS, "own", 30.0, 9.0, ("a",))
    }
    assert HEAD.headers["idempotency-key"] == "k"


@pytest.mark.parametrize("most", [1, 3, 100])
async def test_never_more_than_so_many(most: int) -> None:
    """They begin in order, and the next one when one has ended."""
    ear = Ear()
    order: list[str] = []
    now = peak = 0

    async def gateway(call: Call) -> Reply:
        nonlocal now, peak
        order.append(call.id)
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.001 * (len(order) % 3))
        now -= 1
        return ear.reply(body=b"{}")

    await ear.run(gateway).all(batch(50, most))
    assert peak == min(most, 50)
    assert order == [f"r-{at}" for at in range(50)]
    assert sorted(said["index"] for said in ear.said) == list(range(50))
    assert not others()


@pytest.mark.parametrize("error", [ValueError("ours"), asyncio.CancelledError()], ids=["bug", "cancelled by nobody"])
async def test_a_fault_of_ours_costs_one_line(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The others are answered; the one is told a 500 with its id and nothing else."""
    ear = Ear()

    async def gateway(call: Call) -> Reply:
        if call.id == "r-1":
            raise error
        return ear.reply(body=b"{}")

    run = ear.run(gateway)
    await run.all(batch(4, most=1))
    assert run.failed == 1
    by_index = {said["index"]: said["response"] for said in ear.said}
    assert [by_index[at]["status_code"] for at in range(4)] == [200, 500, 200, 200]
    assert by_index[1]["body"]["error"]["message"] == "internal error; the request id is r-1"
    assert ("line r-1 failed" in caplog.text) is isinstance(error, ValueError)


async def test_the_gateways_refusals_are_told_and_wrong_lines_reported() -> None:
    """Whatever the gateway raises is that line's answer; a line that was no call is reported, as it has no record."""
    ear = Ear()

    async def gateway(call: Call) -> Reply:
        raise BadRequest("no", param="x")

    run = ear.run(gateway)
    await run.all(read_batch({"requests": [{"body": {}}, {"body": {"model": "m", "messages": [{"role": "u"}]}}]}, 5))
    assert [said["response"]["body"]["error"]["param"] for said in ear.said] == ["model", "x"]
    assert [error.param for error in ear.refused] == ["model"]
    assert run.failed == 2


@pytest.mark.parametrize("told", [False, True])
async def test_a_stream_that_breaks_ends_its_line_only(told: bool) -> None:
    """The error is told once as an event, by the provider or by us, and once at the end."""
    ear = Ear()
    failure = StreamBroken("cut")
    failure.told = told

    async def gateway(call: Call) -> Reply:
        return ear.reply(blocks=Stream(failure if call.id == "r-0" else None))

    run = ear.run(gateway)
    await run.all(batch(2, most=1))
    first = [said for said in ear.said if said["index"] == 0]
    assert [("chunk" in said, "error" in said.get("chunk", {})) for said in first] == (
        [(True, False)] * 2 + [(True, True)] * (not told) + [(False, False)]
    )
    assert first[-1]["response"] is None
    assert first[-1]["error"]["message"] == "cut"
    assert ear.said[-1]["response"] == {"status_code": 200, "request_id": "r-1", "body": None}
    assert run.failed == 1
    assert ear.closed == [failure, None]


@pytest.mark.parametrize("cut", [False, True], ids=["client left", "cut"])
async def test_what_runs_is_ended_and_nothing_more_begins(cut: bool) -> None:
    """Cancelled: each reply is closed once, with the reason; no task is left when it is over."""
    ear = Ear()
    running = Running()
    begun: list[str] = []

    async def gateway(call: Call) -> Reply:
        begun.append(call.id)
        if call.id == "r-1":
            await asyncio.Event().wait()
        return ear.reply(blocks=Stream(hangs=True))

    task = asyncio.ensure_future(ear.run(gateway, running).all(batch(50, most=4)))
    await until(lambda: len(ear.said) == 6)
    running.is_cut = cut
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not others()
    assert begun == ["r-0", "r-1", "r-2", "r-3"]
    kinds = {type(error).__name__ for error in ear.closed}
    assert (len(ear.closed), kinds) == (3, {"Unavailable" if cut else "CancelledError"})


async def test_a_client_that_cannot_be_told_ends_everything() -> None:
    """The first line that cannot be written is the last that was begun."""
    ear = Ear(ConnectionResetError("gone"))
    begun: list[str] = []

    async def gateway(call: Call) -> Reply:
        begun.append(call.id)
        if call.id == "r-1":
            await asyncio.Event().wait()
        return ear.reply(blocks=Stream())

    with pytest.raises(ConnectionResetError):
        await ear.run(gateway).all(batch(50, most=2))
    assert not others()
    assert begun == ["r-0", "r-1"]
    assert [type(error) for error in ear.closed] == [ConnectionResetError]
