"""Writing to a client that makes no room: waited for, but not for ever."""

from __future__ import annotations

import asyncio
from math import inf
from time import perf_counter
from typing import Any

import pytest

import runestone.edge.batch
from runestone.edge.batch import Writer
from runestone.edge.batch_lines import Line

LINE = Line(0, "a", "/v1/chat/completions", "POST", {})


class Client:
    """Stands for aiohttp's response; takes nothing until it reads."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.writing = 0
        self.taken: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.writing += 1
        assert self.writing == 1, "one at a time"
        await self.reads.wait()
        await asyncio.sleep(0)
        self.taken.append(data)
        self.writing -= 1

    write_eof = write


@pytest.mark.parametrize(("rest", "least"), [(-1.0, 0.05), (0.15, 0.2)], ids=["past its deadline", "before it"])
async def test_a_client_that_makes_no_room_is_ended(rest: float, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """PATIENCE beyond the call's deadline; past it, PATIENCE alone."""
    monkeypatch.setattr(runestone.edge.batch, "PATIENCE", 0.05)
    client: Any = Client()
    before = perf_counter()
    with pytest.raises(ConnectionError):
        await Writer(client).tell(LINE, [b"{}"], before + rest)
    assert least <= perf_counter() - before < least + 2


async def test_large_lines_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for every SLOWEST bytes: a slow network is no client that does not read."""
    monkeypatch.setattr(runestone.edge.batch, "PATIENCE", 0.0)
    client: Any = Client()
    asyncio.get_running_loop().call_later(0.1, client.reads.set)
    await Writer(client).tell(LINE, [b'"' + b"x" * 10_000 + b'"'], 0.0)
    assert len(client.taken) == 1


async def test_lines_are_written_one_at_a_time_in_order() -> None:
    """Whole lines, as they were told; nothing to say is not written; the end comes last."""
    client: Any = Client()
    writer = Writer(client)
    telling = [asyncio.ensure_future(writer.tell(LINE, [b"%d" % at], inf)) for at in range(20)]
    await asyncio.sleep(0.01)
    await writer.tell(LINE, [], inf)
    client.reads.set()
    await asyncio.gather(*telling)
    await writer.end(b"end")
    assert client.taken == [*(b"data: %d\n\n" % at for at in range(20)), b"end"]
