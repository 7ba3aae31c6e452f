"""Several processes on one port: what is exact by key, what one answer covers, what becomes of a worker that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import until
from tests.process import Served, serve

COUNT = 3
ADMIN, KEYS = "rs-admin-0123456789", [f"rs-limited-{number:010}" for number in range(6)]
TOML = f"""
[server]
workers = {COUNT}
drain = "5s"
[websocket]
port = 0
[providers.simulated.simulated]
ttft = "1ms"
tokens_per_second = 0
[[auth.keys]]
name = "ops"
key = "file:admin"
admin = true
""" + "".join(
    f'[[auth.keys]]\nname = "k{number}"\nkey = "file:key{number}"\nrequests_per_minute = 5\n'
    for number in range(len(KEYS))
)
ASK = {"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}

pytestmark = [pytest.mark.xdist_group("workers"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "admin").write_text(ADMIN)
    for number, key in enumerate(KEYS):
        (folder / f"key{number}").write_text(key)
    async with serve(TOML, folder) as there:
        yield there
        there.signal(signal.SIGTERM)
        assert await there.ended() == 0


async def admin(served: Served, method: str, path: str, **more: Any) -> dict[str, Any]:
    async with as_admin() as http, http.request(method, served.url + path, **more) as response:
        assert response.status == 200, await response.text()
        told: dict[str, Any] = await response.json()
        return told


def as_admin() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"x-api-key": ADMIN})


async def pids(served: Served) -> dict[int, int]:
    """Of the workers that answer."""
    told = await admin(served, "GET", "/admin/state")
    return {worker["index"]: worker["pid"] for worker in told["workers"] if worker["answers"]}


async def ask(served: Served, key: str, *, times: int) -> list[int]:
    """Statuses, each over a connection of its own."""
    statuses = []
    for _ in range(times):
        shown = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(headers=shown) as http,
            http.post(served.url + "/v1/chat/completions", json=ASK) as response,
        ):
            statuses.append(response.status)
    return statuses


@pytest.mark.parametrize("key", KEYS)
async def test_the_limit_of_a_key_holds_over_all_workers(served: Served, key: str) -> None:
    """Its connections go to one worker, so that five a minute are five."""
    assert await ask(served, key, times=7) == [200] * 5 + [429] * 2


async def test_one_scrape_covers_all(served: Served) -> None:
    """Whoever is asked: the series of every worker are there, told apart, and what they have answered adds up."""
    before = await finished(served)
    for key in (*KEYS, "unknown"):
        await ask(served, key, times=1)
    async with aiohttp.ClientSession() as http, http.get(served.url + "/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    there = {sample.labels["worker"] for sample in families["runestone_build_info"].samples}
    assert there == {str(index) for index in range(COUNT)}
    assert sum(sample.value for sample in families["runestone_requests"].samples) == before + len(KEYS) + 1


async def finished(served: Served) -> int:
    count: int = (await admin(served, "GET", "/admin/state"))["calls"]["finished"]
    return count


async def test_one_answer_covers_all(served: Served) -> None:
    """/admin/state adds up; what is changed is changed everywhere; a mistake is told once."""
    state = await admin(served, "GET", "/admin/state")
    assert [worker["answers"] for worker in state["workers"]] == [True] * COUNT
    assert state["memory_bytes"] == sum(worker["memory_bytes"] for worker in state["workers"])
    await admin(served, "POST", "/admin/cache/clear", json={})
    for number in range(20):  # nobody's keys, which lead to all workers: the same question, asked once by each
        await ask(served, f"nobodys-{number}", times=1)
    assert (await admin(served, "GET", "/admin/cache"))["entries"] == COUNT
    assert (await admin(served, "POST", "/admin/cache/clear", json={}))["cleared"] == COUNT
    assert (await admin(served, "GET", "/admin/cache"))["entries"] == 0
    async with as_admin() as http, http.post(served.url + "/admin/cache/clear", json={"keys": "k1"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_request")


async def test_the_calls_of_all_can_be_followed(served: Served) -> None:
    """One follower hears of calls that other workers answered."""
    heard: set[bytes] = set()
    async with as_admin() as http, http.get(served.url + "/admin/tail") as tail, asyncio.timeout(10):
        assert (await tail.content.readuntil(b"\n\n")).startswith(b":")
        while (await admin(served, "GET", "/admin/state"))["log"]["followers"] < COUNT:
            pass
        for key in KEYS:
            await ask(served, key, times=1)
        while len(heard) < len(KEYS):
            event = await tail.content.readuntil(b"\n\n")
            if event.startswith(b"data: "):
                heard.add(event.split(b'"key":"')[1].split(b'"')[0])
    assert heard == {f"k{number}".encode() for number in range(len(KEYS))}


async def test_a_reload_is_every_workers(served: Served) -> None:
    """POST /admin/reload at one of them, and SIGHUP at the parent."""
    told = await admin(served, "POST", "/admin/reload")
    generations = [worker["generation"] for worker in told["workers"]]
    assert min(generations) >= 2
    served.signal(signal.SIGHUP)
    await until_generations(served, [generation + 1 for generation in generations])


async def until_generations(served: Served, wanted: list[int]) -> None:
    async with asyncio.timeout(10), aiohttp.ClientSession() as http:
        while True:
            async with http.get(served.url + "/metrics") as response:
                families = {family.name: family for family in text_string_to_metric_families(await response.text())}
            if [sample.value for sample in families["runestone_config_generation"].samples] == wanted:
                return


async def test_a_worker_that_dies_comes_back(served: Served) -> None:
    """It is started again, and counted; meanwhile the others serve, and say who is missing."""
    before = await pids(served)
    os.kill(before[1], signal.SIGKILL)
    await until_changed(served, lambda now: 1 in now and now[1] != before[1])
    after = await pids(served)
    assert {index: after[index] for index in (0, 2)} == {index: before[index] for index in (0, 2)}
    async with aiohttp.ClientSession() as http, http.get(served.url + "/metrics") as response:
        assert 'runestone_worker_restarts_total{worker="1"} 1.0' in await response.text()


async def until_changed(served: Served, is_so: Callable[[dict[int, int]], bool]) -> None:
    async with asyncio.timeout(15):
        while True:
            now = await pids(served)
            if is_so(now):
                return
            if len(now) < COUNT:
                assert sorted(now) == [0, 2]


async def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    """One that gives no sign of life is killed and started again."""
    (tmp_path / "admin").write_text(ADMIN)
    toml = '[server]\nworkers = 2\nstuck_after = "500ms"\n[websocket]\nport = 0\n[providers.simulated]\n'
    toml += '[[auth.keys]]\nname = "ops"\nkey = "file:admin"\nadmin = true\n'
    async with serve(toml, tmp_path) as there:
        before = await pids(there)
        os.kill(before[0], signal.SIGSTOP)
        async with asyncio.timeout(20):
            while True:
                now = await pids(there)
                if now.get(0) not in (None, before[0]):
                    break
        there.signal(signal.SIGTERM)
        assert await there.ended() == 0
        assert there.process.stderr is not None
        said = (await there.process.stderr.read()).decode()
    assert "worker 0 has given no sign of life" in said


async def test_workers_whose_parent_is_gone_end(tmp_path: Path) -> None:
    """Nobody is left behind to hold the port."""
    (tmp_path / "admin").write_text(ADMIN)
    toml = "[server]\nworkers = 2\n[websocket]\nport = 0\n[providers.simulated]\n"
    toml += '[[auth.keys]]\nname = "ops"\nkey = "file:admin"\nadmin = true\n'
    async with serve(toml, tmp_path) as there:
        workers = (await pids(there)).values()
        there.signal(signal.SIGKILL)
        await there.ended()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


async def test_a_bad_file_changes_nothing_for_any_of_them(tmp_path: Path) -> None:
    """All refuse it, however they were told; a worker that dies meanwhile comes back with what is in force."""
    (tmp_path / "admin").write_text(ADMIN)
    toml = "[server]\nworkers = 2\n[websocket]\nport = 0\n[providers.simulated]\n"
    toml += '[[auth.keys]]\nname = "ops"\nkey = "file:admin"\nadmin = true\n'
    async with serve(toml, tmp_path) as there:
        before = await pids(there)
        (tmp_path / "served.toml").write_text(toml + "nonsense = 1\n")
        async with as_admin() as http, http.post(there.url + "/admin/reload") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "bad_configuration")
        assert await refusals(there) == [1.0, 1.0]
        os.kill(before[1], signal.SIGHUP)  # an operator may take a worker for the gateway: it passes that on
        async with asyncio.timeout(10):
            while await refusals(there) != [2.0, 2.0]:
                pass
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(20):
            while (await pids(there)).get(0) in (None, before[0]):
                pass
        async with aiohttp.ClientSession() as http, http.get(there.url + "/health") as response:
            assert (await response.json())["parent"] == there.process.pid
        (tmp_path / "served.toml").write_text(toml)
        told = await admin(there, "POST", "/admin/reload")
        assert [worker["answers"] for worker in told["workers"]] == [True, True]
        there.signal(signal.SIGTERM)
        assert await there.ended() == 0


async def refusals(served: Served) -> list[float]:
    """By worker."""
    async with aiohttp.ClientSession() as http, http.get(served.url + "/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    told = families["runestone_reloads"].samples
    return [sample.value for sample in told if sample.labels["result"] == "refused"]
