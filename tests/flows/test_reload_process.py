"""The running program reads its configuration again: by a signal, by a request, by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path

import aiohttp

from tests.flows.programs import Program, fresh, program
from tests.flows.test_reload_calls import Desk
from tests.flows.test_reload_tls import issue
from tests.provider import FakeProvider

KEY = {"authorization": "Bearer root-key"}
BASE = """
server.port = 0
websocket.port = 0
[[auth.keys]]
name = "root"
key = "env:ROOT"
admin = true
[providers.up]
kind = "openai-compatible"
base_url = "{url}/v1"
models = ["m"]
"""
ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def named(name: str) -> str:
    return f"[models.{name}]\ntargets = ['up/m']\n"


async def models(served: Program) -> set[str]:
    async with fresh() as http, http.get(served.url + "/v1/models") as response:
        return {model["id"] for model in (await response.json())["data"]}


async def test_every_way_to_ask(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """SIGHUP, POST /admin/reload and a file that is switched all put the new file in force; a bad one is refused each
    time, and the log says why. The level of the log is another from then on. One stream runs through all of it.
    """
    desk = Desk("desk")
    async with FakeProvider(desk.script) as up:
        base = BASE.format(url=up.url)
        async with program(base, tmp_path, environ={"ROOT": "root-key"}) as served:
            async with http.post(served.url + "/v1/chat/completions", json=ASK) as stream:
                begun = await stream.content.readexactly(len(desk.events[0]))
                await ask_in_every_way(http, served, base)
                desk.go.set()
                assert begun + await stream.read() == b"".join(desk.events)
            served.process.send_signal(signal.SIGTERM)
            assert await served.ended() == 0
            assert "root-key" not in served.said
            assert "Traceback" not in served.said


async def ask_in_every_way(http: aiohttp.ClientSession, served: Program, base: str) -> None:
    served.file.write_text(base + named("one"))
    served.process.send_signal(signal.SIGHUP)
    await served.says(" reloaded ")
    assert "one" in await models(served)
    served.file.write_text("server.watch = true\n" + base + named("two"))
    async with http.post(served.url + "/admin/reload", headers=KEY) as response:
        assert (await response.json())["changed"] == ["server.watch", "models.one", "models.two"]
    assert "two" in await models(served)
    switched = served.file.with_name("next.toml")
    switched.write_text("server.watch = true\n" + base + named("three"))
    os.replace(switched, served.file)
    async with asyncio.timeout(10):
        while "three" not in await models(served):  # noqa: ASYNC110 - it is asked over a socket
            await asyncio.sleep(0.01)

    served.file.write_text("server.wach = true\n")
    await served.says("the configuration was refused: runestone.toml:server.wach: unknown key")
    served.process.send_signal(signal.SIGHUP)
    await served.says("the configuration was refused", 2)
    assert "three" in await models(served)

    for level in ("error", "info"):
        served.file.write_text(base + named("four") + f'[log]\nlevel = "{level}"\n')
        async with http.post(served.url + "/admin/reload", headers=KEY) as response:
            assert response.status == 200
        async with http.get(served.url + "/v1/nothing", headers={"x-request-id": f"under-{level}"}) as response:
            assert response.status == 404
    await served.says("under-info")
    assert "under-error" not in served.said


async def shown(served: Program, trusting: ssl.SSLContext) -> bool:
    async with fresh(ssl=trusting) as http:
        try:
            async with http.get(served.url + "/health") as response:
                return response.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


async def test_a_certificate_that_is_renewed_is_taken(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """`server.watch` looks at the certificate and its key: new handshakes see the new one, a stream that runs and a
    connection that is kept go on.
    """
    old = issue(tmp_path)
    tls = 'server.watch = true\nserver.tls_cert = "cert.pem"\nserver.tls_key = "key.pem"\n'
    desk, environ = Desk("desk"), {"ROOT": "root-key"}
    async with (
        FakeProvider(desk.script) as up,
        program(tls + BASE.format(url=up.url), tmp_path, environ=environ) as served,
    ):
        assert await shown(served, old)
        async with http.post(served.url + "/v1/chat/completions", json=ASK, ssl=old) as stream:
            begun = await stream.content.readexactly(len(desk.events[0]))
            new = issue(tmp_path)
            await served.says(" reloaded ")
            assert (await shown(served, new), await shown(served, old)) == (True, False)
            desk.go.set()
            assert begun + await stream.read() == b"".join(desk.events)
        async with http.get(served.url + "/health", ssl=old) as response:
            assert response.status == 200
        assert "Traceback" not in served.said
