"""`server.admin_port`: what is for operators is on a listener of its own, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.flows.drill import ANSWER
from tests.flows.reloading import ROOT, TEAM, TOP, UNSAVED, Reloadable, chat, keys, provider, reloadable
from tests.provider import FakeProvider, Seen, Wire

PRIVATE = ["/metrics", "/admin/providers", "/admin/cache", "/admin/state", "/admin/tail", "/admin/reload"]
CLIENTS = ["/v1/models", "/models", "/v1/streams/x", "/ws", "/socket", "/runestone.js"]
SPELT = ["/metrics/", "//metrics", "/%6detrics", "/./metrics", "/v1/../metrics", "/ADMIN/state", "/admin", "/admin/"]


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


@asynccontextmanager
async def apart(folder: Path) -> AsyncIterator[tuple[Reloadable, str]]:
    """A gateway with an admin listener, and its configuration."""
    async with FakeProvider(answer) as up:
        toml = TOP + "server.admin_port = 0\n" + provider("up", up.url) + keys() + UNSAVED
        async with reloadable(toml, folder) as gate:
            assert gate.admin_url not in ("", gate.url)
            yield gate, toml


async def statuses(http: aiohttp.ClientSession, url: str, paths: list[str], method: str = "GET") -> set[int]:
    """What an admin's key is answered there."""
    found = set()
    for path in paths:
        async with http.request(method, url + path, headers=ROOT) as response:
            found.add(response.status)
    return found


async def test_what_is_where(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Each listener knows its own paths, and health; of the other's it knows nothing, however they are spelt, whoever
    asks.
    """
    async with apart(tmp_path) as (gate, _):
        health = ["/health", "/health/live", "/health/ready"]
        for url in (gate.url, gate.admin_url):
            assert await statuses(http, url, health) == {200}
            assert await statuses(http, url, health, "HEAD") == {200}
        assert await statuses(http, gate.url, PRIVATE) == {404}
        assert await statuses(http, gate.url, ["/admin/reload", "/admin/cache/clear"], "POST") == {404}
        assert await statuses(http, gate.admin_url, CLIENTS) == {404}
        assert await statuses(http, gate.admin_url, ["/v1/chat/completions", "/v1/batch", "/embeddings"], "POST") == {
            404
        }
        assert await statuses(http, gate.admin_url, ["/metrics", "/admin/providers", "/admin/cache"]) == {200}
        assert (await chat(http, gate))[0] == 200
        for url, is_private in ((gate.url, False), (gate.admin_url, True)):
            async with http.get(url + "/openapi.json") as response:
                told = (await response.json())["paths"]
            here = [path for path in told if path != "/openapi.json" and not path.startswith("/health")]
            assert {path.startswith(("/admin/", "/metrics")) for path in here} == {is_private}
        for path in SPELT:
            assert await raw(gate.url, path) == 404, path


async def raw(url: str, path: str) -> int:
    """The status of a path that no client would tidy up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {ROOT['authorization']}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_keys_are_asked_for_there_too(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """To be able to reach it is not enough."""
    async with apart(tmp_path) as (gate, _):
        for headers, status in (({}, 401), (TEAM, 403), (ROOT, 200)):
            for method, path in (("GET", "/admin/state"), ("POST", "/admin/reload")):
                async with http.request(method, gate.admin_url + path, headers=headers) as response:
                    assert response.status == status
        async with http.get(gate.admin_url + "/metrics") as response:
            assert response.status == 200


async def test_without_one_all_of_it_is_on_every_listener(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """As it was."""
    async with FakeProvider(answer) as up, reloadable(TOP + provider("up", up.url) + keys(), tmp_path) as gate:
        assert await statuses(http, gate.url, ["/metrics", "/admin/providers", "/v1/models", "/health"]) == {200}


async def test_a_reload_changes_both(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Keys and providers of the new file hold on the admin listener too, which stays where it is."""
    async with apart(tmp_path) as (gate, toml):
        async with http.post(gate.admin_url + "/admin/reload", headers=ROOT) as response:
            assert (await response.json())["generation"] == 2
        await gate.reload(toml.replace("providers.up", "providers.other").replace('"team"\n', '"team"\nadmin = true\n'))
        async with http.get(gate.admin_url + "/admin/providers", headers=TEAM) as response:
            assert list(await response.json()) == ["other"]
        told = await gate.reload(toml.replace("server.admin_port = 0\n", ""))
        assert told["needs_restart"] == ["server.admin_port"]
        assert await statuses(http, gate.url, PRIVATE) == {404}
        assert await statuses(http, gate.admin_url, ["/metrics"]) == {200}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics"])
async def test_no_listener_tells_of_the_other(path: str, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A path that is elsewhere is answered as one that is nowhere."""
    async with apart(tmp_path) as (gate, _):
        url = gate.url if path == "/metrics" else gate.admin_url
        answers = []
        for asked in (path, path + "x"):
            async with http.get(url + asked) as response:
                answers.append((response.status, (await response.json())["error"]["message"].replace(asked, "PATH")))
        assert answers[0] == answers[1] == (404, "there is nothing at PATH")
