"""Who watches while the configuration is replaced: traces arrive, and followers of the call log go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.conftest import until
from tests.flows.drill import ANSWER
from tests.flows.reloading import ROOT, TOP, UNSAVED, chat, keys, provider, reloadable
from tests.flows.test_reload_calls import Desk
from tests.flows.test_tracing import Tap, tap
from tests.provider import FakeProvider, Seen, Wire

__all__ = ["tap"]  # a fixture is found by its name in the module
OTLP = "[telemetry]\nexporters = ['otlp']\n"
TRACE = "00-{}-b7ad6b7169203331-01"


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


async def test_the_trace_of_a_call_arrives_whatever_comes_after_it(
    tap: Tap, http: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that outlives its configuration is exported, though that had an export of its own; and so is the next."""
    desk = Desk("old")
    async with FakeProvider(desk.script) as up, FakeProvider(answer) as other:
        base = TOP + UNSAVED + OTLP
        async with reloadable(base + provider("up", up.url), tmp_path) as gate:
            first, second = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"
            asking = asyncio.ensure_future(chat(http, gate, headers={"traceparent": TRACE.format(first)}))
            await until(lambda: desk.asked == ["hi"])
            before = gate.app.following
            await gate.reload(base + provider("other", other.url, models='["m", "more"]'))
            assert gate.app.following is not before
            assert (await chat(http, gate, headers={"traceparent": TRACE.format(second)}))[0] == 200
            desk.go.set()
            assert (await asking)[0] == 200
            await gate.retired()
            await until(lambda: bool(tap.trace(first) and tap.trace(second)), 10)
            await gate.reload(base + provider("other", other.url, models='["m", "more"]') + keys())
            await gate.retired()
            assert gate.app.following is not before
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_follower_of_the_log_goes_on(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """It hears of calls under the old configuration and under the new one, on the same connection."""
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys() + UNSAVED
        async with (
            reloadable(base, tmp_path) as gate,
            http.get(gate.url + "/admin/tail", headers=ROOT) as followed,
        ):
            await followed.content.readuntil(b"\n\n")
            for model in ("m", "new"):
                assert (await chat(http, gate, model=model))[0] == 200
                event = await asyncio.wait_for(followed.content.readuntil(b"\n\n"), 5)
                assert orjson.loads(event.partition(b"data: ")[2])["model"] == model
                await gate.reload(base + "[models.new]\ntargets = ['up/x']\n")
            await gate.retired()
