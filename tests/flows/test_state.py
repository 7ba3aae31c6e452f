"""GET /admin/state: what runs right now, and where it waits, over real sockets."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp
import pytest

from runestone import __version__
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.watching import ENVIRON, ROOT, SECRET, TEAM, UP, Held, Watcher, asking, keys
from tests.gateway import Gateway
from tests.provider import Seen, Wire

OFF = "[cache]\nenabled = false\n[batch]\nenabled = false\n"
LEAST_MEMORY = 20_000_000


async def ask(
    http: aiohttp.ClientSession, gate: Gateway, body: object, path: str = "chat/completions", **headers: str
) -> int:
    async with http.post(f"{gate.url}/v1/{path}", json=body, headers={**TEAM, **headers}) as response:
        await response.read()
        return response.status


class Asked:
    """Calls under way in tasks; all are waited for at the end."""

    def __init__(self, http: aiohttp.ClientSession, gate: Gateway) -> None:
        self._http = http
        self._gate = gate
        self.tasks: list[asyncio.Task[int]] = []

    def ask(self, body: object, path: str = "chat/completions", **headers: str) -> asyncio.Task[int]:
        task = asyncio.create_task(ask(self._http, self._gate, body, path, **headers))
        self.tasks.append(task)
        return task

    async def statuses(self) -> list[int]:
        return await asyncio.gather(*self.tasks)


async def test_a_call_is_there_until_it_is_over(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Who asks what of whom, for how long already; nothing of what was said, and no key."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking(), **{"x-request-id": "call-1"})
    (call,) = await watcher.stages("provider")
    first = call.pop("age_seconds")
    assert call == {
        "id": "call-1",
        "operation": "chat/completions",
        "model": "m",
        "stream": False,
        "key": "team",
        "stage": "provider",
        "target": "up/m",
        "attempts": 1,
        "cache": "none",
    }
    assert first >= 0
    assert (await watcher.calls())[0]["age_seconds"] > first
    async with http.get(gate.url + "/admin/state", headers=ROOT) as response:
        text = await response.text()
    assert SECRET not in text
    assert not any(key in text for key in ENVIRON.values())
    before = (await watcher.state())["calls"]["finished"]
    held.release.set()
    assert await asked.statuses() == [200]
    after = (await watcher.state())["calls"]
    assert (after["total"], after["oldest"], after["stages"]) == (0, [], {})
    assert after["finished"] == before + 1


async def test_a_stream_that_runs_says_so(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """From its first event on."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking(stream=True))
    (call,) = await watcher.stages("streaming")
    assert (call["stream"], call["target"]) == (True, "up/m")
    state = await watcher.state()
    assert state["streams"] == {"active": 1, "resumable": 0}
    assert state["calls"]["stages"] == {"streaming": 1}
    held.release.set()
    assert await asked.statuses() == [200]


async def test_a_client_that_leaves_is_gone(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What nobody waits for is not in flight."""
    up = await provider(Held().script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    leaver = asked.ask(asking())
    await watcher.stages("provider")
    leaver.cancel()
    await watcher.stages()


async def test_a_call_that_waits_for_a_connection(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Beyond the pool: the second waits there, and is asked when the first is over."""
    held = Held()
    up = await provider(held.script)
    pool = "[providers.up.pool]\ndefault_size = 1\nmax_overflow = 0\ncheckout_timeout = '10s'\n"
    gate = await gateway(UP.format(up.url) + pool + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking("one"))
    await watcher.stages("provider")
    asked.ask(asking("two"))
    calls = await watcher.stages("provider", "pool")
    assert [call["target"] for call in calls] == ["up/m", "up/m"]
    state = await watcher.state()
    assert state["calls"]["stages"] == {"provider": 1, "pool": 1}
    assert (state["providers"]["up"]["pool"]["active"], state["providers"]["up"]["pool"]["waiting"]) == (1, 1)
    held.release.set()
    assert await asked.statuses() == [200, 200]


async def test_a_call_that_waits_for_its_keys_turn(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """In the queue of its key: nobody has been asked for it yet."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + OFF + keys('concurrent_requests = 1\nqueue = "10s"'), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking("one"))
    await watcher.stages("provider")
    asked.ask(asking("two"))
    _, waiting = await watcher.stages("provider", "limits")
    assert (waiting["target"], waiting["attempts"]) == (None, 0)
    held.release.set()
    assert await asked.statuses() == [200, 200]


async def test_who_joined_a_call_is_where_that_is(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The same question in flight: both wait for one answer, and one of them is marked as collapsed."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + "[cache]\n" + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking())
    await watcher.stages("provider")
    asked.ask(asking())
    calls = await watcher.stages("provider", "provider")
    assert [call["cache"] for call in calls] == ["miss", "collapsed"]
    assert [call["target"] for call in calls] == ["up/m", "up/m"]
    assert len(up.requests) == 1
    held.release.set()
    assert await asked.statuses() == [200, 200]


async def test_what_waits_for_company_and_what_went_together(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Embeddings behind a batch under way wait for others; those that go together are all at the provider."""
    held = Held()
    up = await provider(held.script)
    batch = "[cache]\nenabled = false\n[batch]\nadaptive_sizing = false\ndefault_size = 2\ntimeout = '30s'\n"
    gate = await gateway(UP.format(up.url) + batch + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    for number, stages in enumerate([["provider"], ["provider", "batch"], ["provider"] * 3]):
        asked.ask({"model": "m", "input": f"text {number}"}, "embeddings")
        calls = await watcher.stages(*stages)
    assert [call["target"] for call in calls] == ["up/m"] * 3
    held.release.set()
    assert await asked.statuses() == [200] * 3
    assert [seen.json["input"] for seen in up.requests] == ["text 0", ["text 1", "text 2"]]


async def test_a_call_that_waits_for_another_attempt(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Between two attempts: the last target, and how many there were; then the next one."""
    held = Held()

    async def script(seen: Seen, wire: Wire) -> None:
        if len(up.requests) == 1:
            await wire.answer({"error": {"message": "busy"}}, status=503, headers={"retry-after": "1"})
        else:
            await held.script(seen, wire)

    up = await provider(script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking())
    (call,) = await watcher.stages("retry")
    assert (call["target"], call["attempts"]) == ("up/m", 1)
    (call,) = await watcher.stages("provider")
    assert call["attempts"] == 2
    held.release.set()
    assert await asked.statuses() == [200]


async def test_a_call_that_moved_on(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The target that is asked now, with the attempts before it; behind a shared flight too."""

    async def broken(seen: Seen, wire: Wire) -> None:
        await wire.answer({"error": {"message": "broken"}}, status=500)

    held = Held()
    bad, good = await provider(broken), await provider(held.script)
    toml = (
        f'pool.warmup = 0\n[providers.bad]\nkind = "openai-compatible"\nbase_url = "{bad.url}/v1"\n'
        f'[providers.good]\nkind = "openai-compatible"\nbase_url = "{good.url}/v1"\n'
        '[models.m]\ntargets = ["bad/m", "good/m"]\n[cache]\n'
    )
    gate = await gateway(toml + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking())
    (call,) = await watcher.until(lambda calls: bool(calls) and calls[0]["target"] == "good/m")
    assert (call["stage"], call["attempts"]) == ("provider", 2)
    held.release.set()
    assert await asked.statuses() == [200]


async def test_as_many_are_listed_as_are_wanted(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The oldest first, all counted; what is no number is refused."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    for number in range(3):
        asked.ask(asking(), **{"x-request-id": f"call-{number}"})
        await watcher.stages(*["provider"] * (number + 1))
    state = await watcher.state("?calls=2")
    assert [call["id"] for call in state["calls"]["oldest"]] == ["call-0", "call-1"]
    assert state["calls"]["total"] == 3
    assert len((await watcher.state("?calls=99999"))["calls"]["oldest"]) == 3
    for wrong in ("x", "-1", "", "1" * 10, "٣"):
        async with http.get(gate.url + "/admin/state", params={"calls": wrong}, headers=ROOT) as response:
            assert (response.status, (await response.json())["error"]["param"]) == (400, "calls")
    held.release.set()
    await asked.statuses()


async def test_the_process_and_its_parts(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Version, process, memory, cache, targets with their breakers, sockets and rooms."""
    held = Held()
    held.release.set()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + "[cache]\n" + keys(), ENVIRON)
    assert [await ask(http, gate, asking()) for _ in range(2)] == [200, 200]
    async with http.ws_connect(gate.url + "/ws", headers=TEAM) as ws:
        await ws.send_json({"event": "room:join", "payload": {"room": "r"}, "ref": 1})
        while (await ws.receive_json())["event"] != "room:joined":
            pass
        state = await Watcher(http, gate).state()
    assert (state["version"], state["pid"], state["draining"]) == (__version__, os.getpid(), False)
    assert state["memory_bytes"] > LEAST_MEMORY
    assert 0 <= state["loop_lag_seconds"] < 5
    assert state["uptime_seconds"] > 0
    cache = state["cache"]
    assert (cache["hits"], cache["misses"], cache["entries"]) == (1, 1, 1)
    (target,) = state["providers"]["up"]["targets"]
    assert target["breaker"] == "closed"
    websocket = state["websocket"]
    assert (websocket["connections"], websocket["sessions"], websocket["rooms"]) == (1, 1, 1)
    assert websocket["received"] >= 1
    assert state["log"] == {"dropped": 0, "followers": 0}


async def test_a_stream_that_can_be_rejoined_is_counted(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """While it is kept, and it is in flight while it runs."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    watcher, asked = Watcher(http, gate), Asked(http, gate)
    asked.ask(asking(stream=True), **{"x-runestone-resumable": "true"})
    await watcher.stages("streaming")
    assert (await watcher.state())["streams"] == {"active": 1, "resumable": 1}
    held.release.set()
    assert await asked.statuses() == [200]


@pytest.mark.parametrize("path", ["/admin/state", "/admin/tail"])
@pytest.mark.parametrize(("headers", "status"), [({}, 401), (TEAM, 403), ({"authorization": "Bearer wrong"}, 401)])
async def test_only_admins_may_look(
    path: str, headers: dict[str, str], status: int, gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """Nothing of what runs is told to anybody else."""
    gate = await gateway("[providers.simulated]\n" + keys(), ENVIRON)
    async with http.get(gate.url + path, headers=headers) as response:
        told: Any = await response.json()
        assert (response.status, list(told)) == (status, ["error"])


async def test_a_breaker_that_opened_is_seen(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """And for how long still."""

    async def broken(seen: Seen, wire: Wire) -> None:
        await wire.answer({"error": {"message": "broken"}}, status=500)

    up = await provider(broken)
    gate = await gateway("routing.retries = 0\n" + UP.format(up.url) + OFF + keys(), ENVIRON)
    for _ in range(5):
        assert await ask(http, gate, asking()) == 502
    await until(lambda: len(up.requests) == 5)
    (target,) = (await Watcher(http, gate).state())["providers"]["up"]["targets"]
    assert target["breaker"] == "open"
    assert 0 < target["breaker_retry_after"] <= 30
