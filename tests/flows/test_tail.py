"""GET /admin/tail: calls as they end, for who follows them; nobody waits for a follower."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from runestone.edge import state as edge_state
from runestone.telemetry import tail as telemetry_tail
from tests.conftest import StartGateway, StartProvider
from tests.flows.test_state import ask
from tests.flows.watching import ENVIRON, ROOT, SECRET, UP, Held, Watcher, asking, keys
from tests.gateway import Gateway
from tests.process import serve

SIMULATED = "[providers.simulated]\nsimulated.ttft = '0ms'\nsimulated.tokens_per_second = 0\n[cache]\nenabled = false\n"


class Follower:
    """One who follows; `next` is the next event: (event, data)."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def block(self) -> str:
        async with asyncio.timeout(5):
            return (await self._response.content.readuntil(b"\n\n")).decode()

    async def rest(self) -> None:
        """Reads to the end. Raises what ends it."""
        while True:
            await self.block()

    async def next(self) -> tuple[str, Any]:
        while True:
            block = await self.block()
            found = re.fullmatch(r"(?:event: (\w+)\n)?data: (.+)\n\n", block)
            if found is not None:
                return found[1] or "message", orjson.loads(found[2])
            assert block.startswith(":"), block


@asynccontextmanager
async def following(http: aiohttp.ClientSession, url: str) -> AsyncIterator[Follower]:
    """Somebody who follows already."""
    async with http.get(url + "/admin/tail", headers=ROOT) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        follower = Follower(response)
        assert (await follower.block()).startswith(":")
        yield follower


async def test_each_call_is_told_as_it_ends(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """To all who follow: what the log says of it, and nothing of what was said in it."""
    held = Held()
    held.release.set()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + "[cache]\n" + keys(), ENVIRON)
    async with following(http, gate.url) as one, following(http, gate.url) as two:
        assert [await ask(http, gate, asking(), **{"x-request-id": "call-1"}) for _ in range(2)] == [200, 200]
        told = [await one.next(), await one.next()]
        assert told == [await two.next(), await two.next()]
    (_, first), (_, second) = told
    for name in ("time", "ms", "gateway_ms", "upstream_ms"):
        assert first.pop(name)
    assert first == {
        "level": "info",
        "logger": "runestone.calls",
        "message": "chat/completions",
        "id": "call-1",
        "status": 200,
        "model": "m",
        "target": "up/m",
        "response_id": "chatcmpl-1",
        "cache": "miss",
        "key": "team",
        "attempts": 1,
        "input_tokens": 3,
        "output_tokens": 2,
        "finish": "stop",
    }
    assert (second["cache"], second["attempts"]) == ("hit", 0)
    text = orjson.dumps([first, second]).decode()
    assert SECRET not in text
    assert not any(key in text for key in ENVIRON.values())


async def test_a_call_that_failed_is_told_with_its_reason(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Status, code, who is to blame, at the level of the log."""
    gate = await gateway(
        "[providers.simulated]\nsimulated.error_rate = 1\n[cache]\nenabled = false\n" + keys(), ENVIRON
    )
    async with following(http, gate.url) as follower:
        await ask(http, gate, asking() | {"model": "simulated"})
        _, told = await follower.next()
        await ask(http, gate, asking() | {"model": "nobody-has-this"})
        _, unknown = await follower.next()
    assert (told["level"], told["error"], told["source"]) == ("warning", "provider_error", "provider")
    assert "simulated/simulated:provider_error" in told["failed"]
    assert (unknown["level"], unknown["status"], unknown["error"]) == ("info", 404, "model_not_found")


async def test_who_leaves_is_followed_by_nothing(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A follower that has gone costs nothing more."""
    gate = await gateway(SIMULATED + keys(), ENVIRON)
    watcher = Watcher(http, gate)
    async with following(http, gate.url):
        assert (await watcher.state())["log"]["followers"] == 1
    await watcher.until_state(lambda state: state["log"]["followers"] == 0)


async def test_there_are_not_too_many(
    gateway: StartGateway, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is told to come again later."""
    monkeypatch.setattr(telemetry_tail, "MOST_FOLLOWERS", 1)
    gate = await gateway(SIMULATED + keys(), ENVIRON)
    async with following(http, gate.url), http.get(gate.url + "/admin/tail", headers=ROOT) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")


async def test_a_follower_hears_that_nothing_has_come(
    gateway: StartGateway, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that neither side waits for one that has gone."""
    monkeypatch.setattr(edge_state, "HEARTBEAT", 0.01)
    gate = await gateway(SIMULATED + keys(), ENVIRON)
    async with following(http, gate.url) as follower:
        assert (await follower.block()).startswith(": nothing")


async def test_nobody_waits_for_a_follower_that_does_not_read(
    gateway: StartGateway, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls go on as before; when it reads again it hears how many it has missed."""
    monkeypatch.setattr(telemetry_tail, "MOST_KEPT", 3)
    monkeypatch.setattr(edge_state, "_write", stuck := Stuck(edge_state._write))
    gate = await gateway(SIMULATED + keys(), ENVIRON)
    async with following(http, gate.url) as follower:
        stuck.is_free.clear()
        for _ in range(10):
            assert await ask(http, gate, asking() | {"model": "simulated"}) == 200
        stuck.is_free.set()
        told = [await follower.next()]
        while told[-1][0] != "missed":
            told.append(await follower.next())
        assert len(told) - 1 + told[-1][1]["missed"] == 10
        assert told[-1][1]["missed"] >= 6  # three were kept, and what the first write had taken
        assert await ask(http, gate, asking() | {"model": "simulated"}) == 200
        assert (await follower.next())[0] == "message"


class Stuck:
    """A write that waits while it is not free: a socket that takes no more."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self.is_free = asyncio.Event()
        self.is_free.set()

    async def __call__(self, response: object, data: bytes) -> None:
        await self.is_free.wait()
        await self._write(response, data)


async def test_a_follower_does_not_hold_the_end_up(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """SIGTERM ends the process, follower or not, and the follower's connection."""
    key = tmp_path / "key"
    key.write_text(ENVIRON["ROOT"])
    toml = SIMULATED + '[[auth.keys]]\nname = "root"\nkey = "file:key"\nadmin = true\n'
    async with serve(toml, tmp_path) as served, following(http, served.url) as follower:
        served.signal(signal.SIGTERM)
        assert await served.ended(8) == 0
        with pytest.raises((aiohttp.ClientError, asyncio.IncompleteReadError)):
            await follower.rest()


async def test_a_look_at_the_head_ends(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """HEAD is answered like any other."""
    gate: Gateway = await gateway(SIMULATED + keys(), ENVIRON)
    async with http.head(gate.url + "/admin/tail", headers=ROOT) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
