"""Reloads that come at once, one after the other, at the end, or for somebody who has left."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import aiohttp
import pytest

from runestone.config.schema import Configuration
from runestone.errors import ConfigurationError
from runestone.wiring.cache_control import CacheControl
from tests.conftest import settled, until
from tests.flows.reloading import ROOT, TOP, apps, chat, keys, provider, reloadable
from tests.flows.test_reload import answer, two, who
from tests.provider import FakeProvider


async def test_many_at_once_are_done_one_after_the_other(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Twenty reloads that are asked for at once never overlap, all are answered, and what is in force at the end is
    what the file says at the end.
    """
    async with two(tmp_path) as (gate, _, _):
        base = gate.file.read_text()
        at_work = most = 0
        read = gate.read

        def reading() -> Configuration:
            nonlocal at_work, most
            at_work += 1
            most = max(most, at_work)
            try:
                return read()
            finally:
                at_work -= 1

        gate.read = reading  # type: ignore[method-assign]
        gate.reading.clear()
        asked = [asyncio.ensure_future(gate.reload(f"{base}[models.m{n}]\ntargets = ['up/x']\n")) for n in range(20)]
        await until(lambda: gate.reads == 1)
        gate.reading.set()
        told = await asyncio.gather(*asked)
        assert most == 1
        assert all(answer["reloaded"] for answer in told)
        assert await who(http, gate, "m19") == "up"
        generations = [answer["generation"] for answer in told]
        assert generations == sorted(generations)
        await gate.retired()


async def test_a_drained_gateway_may_reload(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A reload while a gateway drains brings it back into nothing: new calls are refused, the end comes as it would."""
    async with two(tmp_path) as (gate, _, other):
        assert (await chat(http, gate))[0] == 200
        gate.app.live.sessions.drain()
        await gate.app.running.drain(1)
        async with http.post(gate.url + "/admin/reload", headers=ROOT) as response:
            assert response.status == 200
        await gate.reload(TOP + provider("up", other.url))
        assert (await chat(http, gate))[0] == 503
        async with http.get(gate.url + "/health/ready") as response:
            assert response.status == 503


async def test_who_asked_and_left_has_changed_all_or_nothing(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """A client that leaves while its reload is under way leaves a gateway that serves, and can be told to reload."""
    async with two(tmp_path) as (gate, _, other):
        gate.reading.clear()
        gate.file.write_text(gate.file.read_text() + "[models.new]\ntargets = ['up/x']\n")
        asking = asyncio.ensure_future(http.post(gate.url + "/admin/reload", headers=ROOT))
        await until(lambda: gate.reads == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gate.reading.set()
        await gate.retired()
        assert await who(http, gate, "new") == ("up" if gate.app.lasting.reloads.generation == 2 else "404")
        told = await gate.reload(TOP + provider("other", other.url))
        assert told["reloaded"] is True
        assert await who(http, gate, "m") == "other"


async def test_who_leaves_behind_the_swap_has_changed_all(
    tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new configuration is in force before the cache is warmed: a client that leaves meanwhile does not make it a
    failure, nor one that is not counted.
    """
    is_warming = asyncio.Event()

    async def warm(control: CacheControl, path: Path) -> None:
        is_warming.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(CacheControl, "_warm_from", warm)
    (tmp_path / "answers.jsonl").touch()
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys()
        async with reloadable(base, tmp_path) as gate:
            with pytest.raises(ConfigurationError):
                await gate.reload("nothing = 1")
            gate.file.write_text("cache.warm = 'answers.jsonl'\n" + base + "[models.new]\ntargets = ['up/x']\n")
            asking = asyncio.ensure_future(http.post(gate.url + "/admin/reload", headers=ROOT))
            await is_warming.wait()
            assert await who(http, gate, "new") == "up"
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await gate.retired()
            reloads = gate.app.lasting.reloads
            assert (reloads.generation, reloads.done, reloads.refused, reloads.refusal) == (2, 1, 1, "")
            monkeypatch.undo()
            assert (await gate.reload(base))["generation"] == 3


async def test_two_hundred_leave_nothing(
    http: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was replaced is garbage: no task, file, connection or object is left of it, wherever a provider was changed,
    was kept, came or went, and calls were made in between.
    """
    caplog.set_level(logging.WARNING)
    others = apps()
    async with two(tmp_path) as (gate, one, other):
        base = gate.file.read_text()
        ways = [
            base.replace(one.url, other.url),
            base + provider("more", other.url, models='["x"]'),
            base + "[models.new]\ntargets = ['up/x']\n",
            base,
        ]

        async def round_(times: int) -> tuple[int, int, list[str]]:
            for number in range(times):
                await gate.reload(ways[number % 4])
                if number % 10 == 0:
                    assert await who(http, gate, "m") == "up"
            assert await who(http, gate, "m") == "up"
            await gate.retired()
            await until(lambda: one.open + other.open == 1)
            names = sorted(task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-"))
            return await settled(lambda: len(os.listdir("/proc/self/fd")), 5), apps() - others, names

        before = await round_(8)
        assert await round_(200) == before
        assert before[1:] == (1, ["heartbeat", "tend up"])
    assert [record.getMessage() for record in caplog.records] == []
