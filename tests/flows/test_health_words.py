"""GET /health, /health/ready, /health/live: what is wrong, in words; where calls should go; what a restart mends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runestone import tasks
from runestone.core.call import Target
from tests.conftest import until
from tests.flows.drill import ANSWER
from tests.flows.reloading import ENVIRON, ROOT, TOP, UNSAVED, Reloadable, chat, keys, provider, reloadable
from tests.flows.talk import talking
from tests.provider import FakeProvider, Seen, Wire

BREAKER = '[breaker]\nfailure_threshold = 1\nreset_timeout = "{}"\n'
TWO_KEYS = 'api_keys = ["env:UP_KEY", "env:OTHER_KEY"]\n'


class Up:
    """A provider that answers with `status`, or not before `go`."""

    def __init__(self) -> None:
        self.status = 200
        self.go = asyncio.Event()
        self.go.set()

    async def script(self, seen: Seen, wire: Wire) -> None:
        await self.go.wait()
        await wire.answer(ANSWER if self.status == 200 else {"error": {"message": "no"}}, status=self.status)


@asynccontextmanager
async def serving(
    folder: Path, more: str = "", *, top: str = "", change: Callable[[str], str] = str
) -> AsyncIterator[tuple[Reloadable, Up]]:
    """A gateway whose one model is `up/x`; `change` is made to the provider."""
    up = Up()
    async with FakeProvider(up.script) as fake:
        targets = "[models.m]\ntargets = ['up/x']\n"
        toml = top + TOP + change(provider("up", fake.url)) + targets + keys() + UNSAVED + more
        async with reloadable(toml, folder) as gate:
            yield gate, up


class Looking:
    """Asks over HTTP, without a key."""

    def __init__(self, http: aiohttp.ClientSession, gate: Reloadable) -> None:
        self._http = http
        self._gate = gate

    async def get(self, path: str = "") -> tuple[int, Any]:
        async with self._http.get(f"{self._gate.url}/health{path}") as response:
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json()

    async def statuses(self) -> tuple[int, int, int]:
        """Of /health, ready and live."""
        (summary, _), (ready, _), (live, _) = [await self.get(path) for path in ("", "/ready", "/live")]
        return summary, ready, live

    async def check(self, name: str) -> tuple[str, list[str]]:
        """(status, problems) of one check; the summary is no better than it."""
        _, told = await self.get()
        check = told["checks"][name]
        order = ["ok", "degraded", "down"]
        assert order.index(told["status"]) >= order.index(check["status"])
        return check["status"], check.get("problems", [])


async def test_all_is_well(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """What is looked at is listed, and nothing is wrong with it; HEAD is answered too; all of it without a key."""
    async with serving(tmp_path, top="auth.required = true\n") as (gate, _):
        look = Looking(http, gate)
        assert await look.statuses() == (200, 200, 200)
        _, told = await look.get()
        assert set(told) == {"status", "version", "pid", "uptime_seconds", "checks"}
        assert told["checks"] == {
            "providers": {"status": "ok", "configured": 1},
            **{name: {"status": "ok"} for name in ("drain", "loop", "tasks", "configuration", "connections")},
        }
        for path in ("", "/ready", "/live"):
            async with http.head(f"{gate.url}/health{path}") as response:
                assert (response.status, await response.read()) == (200, b"")


async def test_a_target_that_rests_and_nothing_else(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """No target can serve: ready is 503 and says until when; live stays 200. When the rest is over calls may come
    again, and when one has gone well all is well.
    """
    async with serving(tmp_path, BREAKER.format("150ms")) as (gate, up):
        look = Looking(http, gate)
        up.status = 500
        assert (await chat(http, gate))[0] == 502
        assert await look.statuses() == (503, 503, 200)
        status, problems = await look.check("providers")
        assert (status, problems[0]) == ("down", "no target can serve")
        assert problems[1].startswith("every target of up has failed too often; the next try is in ")
        assert problems[2].startswith("up/x has failed too often and rests for ")
        assert (await chat(http, gate))[0] == 503
        up.status = 200
        async with asyncio.timeout(5):
            while await look.statuses() != (200, 200, 200):
                pass
        for _ in range(2):
            assert (await chat(http, gate))[0] == 200
        assert await look.check("providers") == ("ok", [])


async def test_one_of_two_providers_is_enough(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """While one can serve, it is degraded, and ready."""
    async with serving(tmp_path, BREAKER.format("60s") + "[providers.simulated]\n") as (gate, up):
        look = Looking(http, gate)
        up.status = 500
        await chat(http, gate)
        assert await look.statuses() == (200, 200, 200)
        status, problems = await look.check("providers")
        assert status == "degraded"
        assert "no target can serve" not in problems


async def test_a_provider_that_is_drained(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """By an operator, and brought back by one."""
    async with serving(tmp_path) as (gate, _):
        look = Looking(http, gate)
        for verb, expected in (("drain", (503, 503, 200)), ("resume", (200, 200, 200))):
            async with http.post(f"{gate.url}/admin/providers/up/{verb}", headers=ROOT) as response:
                assert response.status == 200
            assert await look.statuses() == expected
            if verb == "drain":
                assert await look.check("providers") == (
                    "down",
                    ["no target can serve", "up is drained by an operator"],
                )


async def test_credentials_that_were_refused(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """All of them: nothing can be served until one may be tried again. They are told by place, not by value."""
    swap = ('api_keys = ["env:UP_KEY"]\n', TWO_KEYS)
    async with serving(tmp_path, change=lambda told: told.replace(*swap)) as (gate, up):
        look = Looking(http, gate)
        up.status = 401
        await chat(http, gate)
        assert await look.statuses() == (503, 503, 200)
        status, problems = await look.check("providers")
        assert (status, problems[:2]) == ("down", ["no target can serve", "every credential of up rests"])
        assert [problem.partition(":")[0] for problem in problems[2:]] == [
            "credential 0 of up was refused",
            "credential 1 of up was refused",
        ]
        up.status = 200
        gate.upstream("up").credentials.all[1].rests_until = 0.0  # its minute is over
        assert await look.statuses() == (200, 200, 200)
        assert (await look.check("providers"))[0] == "degraded"
        _, told = await look.get()
        assert not [value for value in ENVIRON.values() if value in str(told)]


async def test_calls_that_wait_for_a_connection(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A pool that is too small is told while calls wait."""
    pool = "pool = { default_size = 1, max_overflow = 0 }\n"
    async with serving(tmp_path, change=lambda told: told + pool) as (gate, up):
        up.go.clear()
        asking = [asyncio.ensure_future(chat(http, gate)) for _ in range(3)]
        await until(lambda: gate.upstream("up").pool.waiting == 2)
        look = Looking(http, gate)
        assert await look.check("providers") == ("degraded", ["2 calls wait for a connection to up"])
        up.go.set()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 3
        assert await look.check("providers") == ("ok", [])


async def test_a_health_check_without_an_answer(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Is told, and is no reason to send calls elsewhere; a call that goes well is a better answer."""
    async with serving(tmp_path) as (gate, _):
        look = Looking(http, gate)
        gate.app.control.checked("up", is_well=False)
        assert await look.check("providers") == ("degraded", ["up does not answer its health check"])
        assert await look.statuses() == (200, 200, 200)
        gate.app.control.checked("up", is_well=True)
        assert await look.check("providers") == ("ok", [])


async def test_a_task_that_fails(http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named while it waits to be begun again, and its restarts are counted in /metrics."""
    async with serving(tmp_path) as (gate, _):
        look, is_well = Looking(http, gate), asyncio.Event()
        monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.05)
        monkeypatch.setattr(tasks, "LONGEST_PAUSE", 0.05)

        async def work() -> None:
            if not is_well.is_set():
                raise OSError("no")
            await asyncio.Event().wait()

        gate.app.tasks.keep("look after it", work)
        await until(lambda: gate.app.tasks.failing() == ["look after it"])
        problem = "the background task 'look after it' has failed, and is begun again shortly"
        assert await look.check("tasks") == ("degraded", [problem])
        assert await look.statuses() == (200, 200, 200)
        is_well.set()
        await until(lambda: not gate.app.tasks.failing())
        assert await look.check("tasks") == ("ok", [])
        async with http.get(gate.url + "/metrics") as response:
            counted = [line for line in (await response.text()).splitlines() if 'task="look after it"' in line]
        assert float(counted[0].rpartition(" ")[2]) >= 1


async def test_nearly_all_connections_are_taken(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """From nine of ten on somebody should look; of clients, and of WebSockets among them."""
    top = "server.max_connections = 10\nwebsocket.max_connections = 4\n"
    async with serving(tmp_path, top=top) as (gate, _), AsyncExitStack() as stack:
        look = Looking(http, gate)
        for _ in range(4):
            await stack.enter_async_context(talking(gate))
        assert await look.check("connections") == ("degraded", ["4 of at most 4 WebSockets are open"])
        port = int(gate.url.rpartition(":")[2])
        for _ in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        await until(lambda: gate.front.connections()[0] == 9)
        assert (await look.check("connections"))[1][0] == "9 of at most 10 connections are open"
        await stack.aclose()
        await until(lambda: gate.front.connections()[0] == 1)
        assert await look.check("connections") == ("ok", [])


async def test_a_loop_that_is_stuck(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The one thing that makes live say no; late is degraded."""
    async with serving(tmp_path) as (gate, _):
        look, heart = Looking(http, gate), gate.app.lasting.heartbeat
        heart.limit = 0.0  # any moment since the last beat is too long
        assert await look.statuses() == (503, 200, 503)
        assert (await look.get("/live"))[1] == {"status": "down"}
        status, problems = await look.check("loop")
        assert (status, len(problems)) == ("down", 1)
        assert problems[0].startswith("the loop has been stuck for ")
        heart.limit = 60.0
        assert await look.statuses() == (200, 200, 200)


async def test_a_gateway_that_drains(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """503 from both that say where calls should go, and 200 from the one that says whether to restart it."""
    async with serving(tmp_path) as (gate, _):
        gate.app.live.sessions.drain()
        look = Looking(http, gate)
        assert await look.statuses() == (503, 503, 200)
        assert (await look.check("drain"))[0] == "down"


async def test_what_is_told_has_an_end(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Of very many problems twenty are told, and how many more there are."""
    many = "".join(f"[models.m{number}]\ntargets = ['up/x{number}']\n" for number in range(60))
    async with serving(tmp_path, BREAKER.format("60s") + many) as (gate, up):
        up.status = 500
        for number in range(60):
            await chat(http, gate, model=f"m{number}")
        _, problems = await Looking(http, gate).check("providers")
        assert (len(problems), problems[-1]) == (21, "and 40 more")
        assert gate.app.targets.of(Target("up", "x59")).breaker is not None
