"""A reload: what is configured otherwise is otherwise from the next call on, at once, and nothing else is."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from runestone.reload import RESTART
from tests.flows.drill import ANSWER
from tests.flows.reloading import (
    ROOT,
    TEAM,
    TOP,
    UNSAVED,
    Reloadable,
    chat,
    goodbye,
    keys,
    provider,
    reloadable,
)
from tests.flows.talk import question, talking
from tests.provider import FakeProvider, Seen, Wire


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


@asynccontextmanager
async def two(folder: Path, more: str = "") -> AsyncIterator[tuple[Reloadable, FakeProvider, FakeProvider]]:
    """A gateway whose model `m` is at the first of two providers."""
    async with (
        FakeProvider(answer) as one,
        FakeProvider(answer) as other,
        reloadable(TOP + provider("up", one.url) + keys() + UNSAVED + more, folder) as gate,
    ):
        yield gate, one, other


async def who(http: aiohttp.ClientSession, gate: Reloadable, model: str) -> str:
    """The provider that answers, or the status."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    async with http.post(gate.url + "/v1/chat/completions", json=body) as response:
        return response.headers.get("x-runestone-provider", "") if response.status == 200 else str(response.status)


async def test_providers_models_and_aliases_change(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A model goes where the new file says, new names are there, old ones are not; /v1/models says the same."""
    async with two(tmp_path, "[models.fast]\ntargets = ['up/x']\n[aliases]\nquick = 'fast'\n") as (gate, one, other):
        assert [await who(http, gate, name) for name in ("m", "fast", "quick", "new")] == ["up", "up", "up", "404"]
        told = await gate.reload(
            TOP + provider("other", other.url) + "[models.new]\ntargets = ['other/y']\n[aliases]\nbrief = 'new'\n"
        )
        assert (told["reloaded"], told["generation"], told["needs_restart"]) == (True, 2, [])
        assert {"providers.up", "providers.other", "models.fast", "aliases.quick", "auth.keys"} <= set(told["changed"])
        names = ("m", "fast", "quick", "new", "brief", "up/x")
        assert [await who(http, gate, name) for name in names] == ["other", "404", "404", "other", "other", "404"]
        async with http.get(gate.url + "/v1/models") as response:
            assert {model["id"] for model in (await response.json())["data"]} >= {"m", "new", "brief"}
        assert (len(one.requests), len(other.requests)) == (3, 3)


async def test_a_provider_of_the_same_name_may_be_somewhere_else(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Another address, or another credential, is used from the next call on."""
    async with two(tmp_path) as (gate, one, other):
        await who(http, gate, "m")
        await gate.reload(gate.file.read_text().replace(one.url, other.url).replace("UP_KEY", "OTHER_KEY"))
        assert await who(http, gate, "m") == "up"
        assert [seen.headers["authorization"] for seen in one.requests] == ["Bearer up-secret-0123456789"]
        assert [seen.headers["authorization"] for seen in other.requests] == ["Bearer other-secret-0123456789"]


async def test_a_secret_may_be_another_in_its_file(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A credential that was written anew is used after a reload, though the configuration reads as before."""
    (tmp_path / "secret").write_text("first-secret")
    async with two(tmp_path) as (gate, one, _):
        await gate.reload(gate.file.read_text().replace("env:UP_KEY", "file:secret"))
        await who(http, gate, "m")
        (tmp_path / "secret").write_text("second-secret")
        assert (await gate.reload())["changed"] == ["providers.up.api_keys"]
        await who(http, gate, "m")
    assert [seen.headers["authorization"] for seen in one.requests] == ["Bearer first-secret", "Bearer second-secret"]


async def test_keys_change(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Who may come in, ask for what, and change the gateway is what the new file says."""
    async with two(tmp_path) as (gate, one, _):
        assert (await chat(http, gate))[0] == 200
        closed = TOP + provider("up", one.url) + UNSAVED + "[auth]\nrequired = true\n"
        await gate.reload(closed + keys("models = ['other']"))
        assert (await chat(http, gate))[1]["error"]["code"] == "missing_authorization"
        assert (await chat(http, gate, headers=TEAM))[1]["error"]["code"] == "insufficient_permissions"
        assert (await chat(http, gate, headers=ROOT))[0] == 200
        await gate.reload(closed + keys("admin = true", root="active = false"))
        assert (await chat(http, gate, headers=ROOT))[1]["error"]["code"] == "invalid_api_key"
        async with http.get(gate.url + "/admin/providers", headers=TEAM) as response:
            assert response.status == 200
        await gate.reload(closed + keys())
        async with http.get(gate.url + "/admin/providers", headers=TEAM) as response:
            assert response.status == 403


async def test_limits_of_keys_change(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A limit that is new, higher or gone holds for the next call, and answers say so."""
    async with two(tmp_path) as (gate, one, _):
        base = TOP + provider("up", one.url) + UNSAVED
        await gate.reload(base + keys("requests_per_minute = 1"))
        assert [(await chat(http, gate, headers=TEAM))[0] for _ in range(2)] == [200, 429]
        await gate.reload(base + keys("requests_per_minute = 100"))
        async with http.get(gate.url + "/v1/models", headers=TEAM) as response:
            assert response.headers["x-ratelimit-limit-requests"] == "100"
        await gate.reload(base + keys())
        async with http.get(gate.url + "/v1/models", headers=TEAM) as response:
            assert "x-ratelimit-limit-requests" not in response.headers


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    """A folder that modules are found in, as beside the configuration of `runestone serve`."""
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


async def test_pipelines_change(http: aiohttp.ClientSession, importable: Path) -> None:
    """A middleware that is new takes part in the next call, and one that is gone does not."""
    module = (
        "async def {0}(call, next):\n    call.rewrite({{**call.fields, 'user': '{0}'}})\n    return await next(call)\n"
    )
    (importable / "reload_stages.py").write_text(module.format("one") + module.format("other"))
    async with two(importable) as (gate, up, _):
        base = gate.file.read_text()
        for name in ("one", "other", None):
            stages = f'[pipelines]\ndefault = ["meter", "reload_stages:{name}", "..."]\n' if name else ""
            await gate.reload(base + stages)
            assert (await chat(http, gate))[0] == 200
    assert [seen.json.get("user") for seen in up.requests] == ["one", "other", None]


async def test_bounds_of_the_cache_change(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A smaller cache pushes out the oldest at once; one that is off forgets all, and keeps nothing."""
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + "[cache]\n"
        async with reloadable(base, tmp_path) as gate:
            for text in "abc":
                await chat(http, gate, text)
            await gate.reload(base + "max_size = 1\n")
            assert len(gate.app.caching.answers) == 1
            await chat(http, gate, "c")
            assert len(up.requests) == 3
            await gate.reload(base + "enabled = false\n")
            assert gate.app.caching.answers.bytes == 0
            await chat(http, gate, "c")
            await gate.reload(base)
            await chat(http, gate, "c")
            assert len(up.requests) == 5


async def test_what_the_edge_allows_changes(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Origins, the size of a body, how many may connect, the WebSocket endpoint: of the next request, on connections
    that were open before, too.
    """
    async with two(tmp_path) as (gate, _, _):
        base = gate.file.read_text()
        page = {"Origin": "https://page.example"}
        for origins, expected in ((["https://page.example"], "https://page.example"), ([], None)):
            await gate.reload(f"server.cors_origins = {origins}\n{base}")
            async with http.get(gate.url + "/v1/models", headers=page) as response:
                assert response.headers.get("Access-Control-Allow-Origin") == expected
        await gate.reload(f'server.max_body = "100B"\n{base}')
        assert [(await chat(http, gate, text))[0] for text in ("hi", "x" * 100)] == [200, 413]
        await gate.reload(f"server.max_connections = 1\n{base}")
        async with aiohttp.ClientSession() as second:
            with pytest.raises(aiohttp.ClientConnectionError):
                await second.get(gate.url + "/health")
        await gate.reload(f"websocket.enabled = false\n{base}")
        async with http.get(gate.url + "/ws") as response:
            assert response.status == 404
        await gate.reload(base)
        async with talking(gate) as talk:
            assert (await talk.ask("ping"))["event"] == "pong"


async def test_limits_of_websockets_change(tmp_path: Path) -> None:
    """Of calls that begin, and of connections that are made, from then on; nothing is changed and not applied."""
    async with two(tmp_path) as (gate, _, _):
        base = gate.file.read_text()
        async with talking(gate) as one:
            lower = "max_streams = 0", "max_rooms = 1", "max_members = 1", "max_connections = 2", 'max_message = "200B"'
            told = await gate.reload("".join(f"websocket.{line}\n" for line in lower) + base)
            assert (told["needs_restart"], len(told["changed"])) == ([], len(lower))
            assert await one.refused("chat:stream", question()) == "too_many_streams"
            assert (await one.ask("room:join", {"room": "a"}))["event"] == "room:joined"
            assert await one.refused("room:join", {"room": "b"}) == "too_many_rooms"
            async with talking(gate) as other:
                assert await other.refused("room:join", {"room": "a"}) == "too_many_members"
                async with talking(gate, greeted=False) as third:
                    assert await goodbye(third) == 1013
                await other.say("ping", "x" * 300)
                assert await goodbye(other) == 1009
            assert (await one.ask("ping", "x" * 300))["event"] == "pong"  # it came under the old limit


OTHERWISE = {
    "server.host": '"127.0.0.2"',
    "server.port": "4100",
    "server.admin_host": '"127.0.0.2"',
    "server.admin_port": "4101",
    "server.workers": "2",
    "server.sticky": "false",
    "websocket.port": "4102",
    "websocket.max_bytes": '"1MB"',
    "cache.persist": '"kept.sqlite"',
    "log.format": '"json"',
    "log.buffer": '"1MB"',
    "debug.console": "true",
    "debug.port": "20200",
    "debug.core_dumps": "true",
}


async def test_what_takes_a_new_process_is_named_and_stays(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Each of them, alone and together with what can change: that has changed, and of the others nothing has."""
    assert set(OTHERWISE) == set(RESTART)
    async with two(tmp_path) as (gate, up, _):
        base = TOP.replace("websocket.port = 0\n", "") + provider("up", up.url) + keys()
        before = gate.app.configuration
        for name, value in OTHERWISE.items():
            port = "" if name == "websocket.port" else "websocket.port = 0\n"
            told = await gate.reload(f"{port}{name} = {value}\n{base}")
            assert told["needs_restart"] == [name]
            assert not any(line.startswith(name) for line in told["changed"])
            section, _, key = name.partition(".")
            assert getattr(getattr(gate.app.configuration, section), key) == getattr(getattr(before, section), key)
        all_of_them = "".join(f"{name} = {value}\n" for name, value in OTHERWISE.items())
        told = await gate.reload(f"{all_of_them}{base}[models.new]\ntargets = ['up/x']\n")
        assert (told["changed"], set(told["needs_restart"])) == (["models.new"], set(RESTART))
        assert await who(http, gate, "new") == "up"
        assert set(gate.front.dispatches) == {"public"}


async def test_a_reload_says_names_and_never_values(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """POST /admin/reload answers with what has changed by its path in the file; who may not ask is not told."""
    async with two(tmp_path) as (gate, _, _):
        secret = 'headers = { x-team = "header-secret-0123456789" }'
        gate.file.write_text(gate.file.read_text().replace('api_keys = ["env:UP_KEY"]', secret))
        for headers, status in (({}, 401), (TEAM, 403), (ROOT, 200)):
            async with http.post(gate.url + "/admin/reload", headers=headers) as response:
                assert response.status == status
                text = await response.text()
                told = await response.json()
        assert told == {
            "reloaded": True,
            "generation": 2,
            "changed": ["providers.up.api_keys", "providers.up.headers.x-team"],
            "needs_restart": [],
        }
        assert "secret" not in text
        assert (await gate.reload())["changed"] == []
