"""A server that is the one-file program, on a machine without Python."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from runestone import __version__
from tests.binary.conftest import OPS
from tests.binary.machine import PROGRAM, Machine, Server
from tests.flows.talk import talking, text_of

SAID = "Tell me about rivers."
NOT_THERE = {
    *("idlelib", "tkinter", "_tkinter", "turtle", "turtledemo"),
    *("ensurepip", "venv", "lib2to3", "distutils", "pydoc_data"),
    *("readline", "nis", "ossaudiodev", "spwd"),
}
"""Of the standard library; docs/operations.md names them."""


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def ask(http: aiohttp.ClientSession, server: Server, **more: object) -> str:
    """What the answer says."""
    body = {"model": "simulated", "messages": [{"role": "user", "content": SAID}], **more}
    async with http.post(f"{server.url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        text: str = (await answer.json())["choices"][0]["message"]["content"]
        return text


async def probed(http: aiohttp.ClientSession, server: Server, question: str) -> Any:
    """What probe.py answers."""
    return orjson.loads(await ask(http, server, user=question))


async def test_json_sse_websocket(server: Server, http: aiohttp.ClientSession) -> None:
    """The same call whole, as events and over a WebSocket says the same."""
    whole = await ask(http, server, seed=1)
    body = {"model": "simulated", "messages": [{"role": "user", "content": SAID}], "seed": 1, "stream": True}
    async with http.post(f"{server.url}/v1/chat/completions", json=body) as answer:
        lines = [line for line in (await answer.text()).splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [orjson.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == whole
    async with talking(server) as talk:
        stream_id = await talk.start(SAID, model="simulated", seed=1)
        await talk.wait("stream:complete", stream_id=stream_id)
        assert text_of(talk.heard, stream_id) == whole


async def test_metrics_health_files(server: Server, http: aiohttp.ClientSession) -> None:
    """What is counted, who answers, and what comes out of the archive: one process, the one that was started."""
    await ask(http, server)
    async with http.get(f"{server.url}/metrics") as answer:
        text = await answer.text()
    assert re.search(r'^runestone_requests_total\{.*model="simulated".*\} [1-9]', text, re.MULTILINE)
    assert f'version="{__version__}"' in text
    async with http.get(f"{server.url}/health") as answer:
        assert (await answer.json())["pid"] == server.process.pid
    assert server.children() == ""
    async with http.get(f"{server.url}/runestone.js") as answer:
        assert "Client" in await answer.text()


async def test_a_middleware_finds_its_python(machine: Machine, server: Server, http: aiohttp.ClientSession) -> None:
    """It stands beside the configuration, and has the whole standard library but for what the documentation names. The
    program is known by the name it was started by: behind a link, an upgrade finds what the link says then.
    """
    told = await probed(http, server, "python")
    assert told["here"] == machine.path("etc/runestone")
    assert told["again"][:3] == [machine.path("usr/bin/gateway"), "serve", "--port"]
    assert set(told["path"]) == {told["here"], "/proc/self/exe"}
    assert (told["version"], told["commands"]) == (__version__, ["runestone.cli:main"])
    here = {name for name in told["missing"] if name in NOT_THERE or _is_here(name)}
    assert here - NOT_THERE == set()


def _is_here(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


async def test_providers_are_trusted(machine: Machine, server: Server, http: aiohttp.ClientSession) -> None:
    """A machine without root certificates has those of certifi."""
    if not machine.is_bare:
        pytest.skip("this machine may have its own")
    assert (await probed(http, server, "roots"))["x509_ca"] > 50


async def test_another_file_in_its_place(machine: Machine, server: Server, http: aiohttp.ClientSession) -> None:
    """Who runs goes on with the file that was started: a module nobody has asked for yet is still found."""
    program = machine.root / PROGRAM
    kept = program.with_name("kept")
    os.rename(program, kept)
    try:
        program.write_bytes(b"another")
        for module in ("colorsys", "sqlite3", "genai_prices.data", "rich.live"):
            assert await probed(http, server, f"import {module}") == module
    finally:
        os.replace(kept, program)


async def test_it_is_replaced(machine: Machine, http: aiohttp.ClientSession) -> None:
    """SIGUSR2 after another file was moved to its place: that one serves, on the same socket; a stream that runs is
    finished by the one before, which ends with 0. (With a shell: starting a process that is nobody's child needs one.)
    """
    program = machine.root / "opt/runestone/upgraded"
    shutil.copy2(machine.root / PROGRAM, program)
    with machine.serve_outside("opt/runestone/upgraded") as server:
        body = {"model": "simulated", "messages": [{"role": "user", "content": SAID}], "stream": True}
        async with http.post(f"{server.url}/v1/chat/completions", json=body) as answer:
            first = await answer.content.readany()
            shutil.copy2(machine.root / PROGRAM, machine.root / "opt/runestone/fresh")
            os.replace(machine.root / "opt/runestone/fresh", program)
            server.signal(signal.SIGUSR2)
            rest = await answer.content.read()
        assert (first + rest).rstrip().endswith(b"data: [DONE]")
        assert await asyncio.to_thread(server.ended) == 0
        async with http.get(f"{server.url}/health") as answer:
            heir = (await answer.json())["pid"]
        try:
            assert os.readlink(f"/proc/{heir}/exe") == str(program)
        finally:
            os.kill(heir, signal.SIGKILL)
        program.unlink()


async def test_several_processes(machine: Machine, http: aiohttp.ClientSession) -> None:
    """`server.workers = 2`: both of them start, and serve."""
    machine.write("etc/runestone/workers.toml", "[server]\nworkers = 2\n[providers.simulated]\n")
    with machine.serve(config="etc/runestone/workers.toml") as server:
        assert len(server.children().split()) == 2
        await ask(http, server)
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.ended) == 0


@pytest.mark.parametrize("whole_group", [False, True], ids=["the process", "its group"])
async def test_sigterm_drains(machine: Machine, http: aiohttp.ClientSession, *, whole_group: bool) -> None:
    """A stream that runs is finished, and the exit code is 0; also when the signal goes to all processes there are, as
    systemd and a terminal send it.
    """
    with machine.serve() as server:
        body = {"model": "simulated", "messages": [{"role": "user", "content": SAID}], "stream": True}
        async with http.post(f"{server.url}/v1/chat/completions", json=body) as answer:
            first = await answer.content.readany()
            if whole_group:
                os.killpg(server.process.pid, signal.SIGTERM)
            else:
                server.signal(signal.SIGTERM)
            rest = await answer.content.read()
        assert (first + rest).rstrip().endswith(b"data: [DONE]")
        assert await asyncio.to_thread(server.ended) == 0


async def test_traces_are_sent(machine: Machine, http: aiohttp.ClientSession) -> None:
    """OTLP and Zipkin are inside."""
    came: dict[str, int] = {}

    async def take(request: web.Request) -> web.Response:
        came[request.path] = came.get(request.path, 0) + len(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector = f"http://127.0.0.1:{runner.addresses[0][1]}"
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{collector}/zipkin",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    machine.write(
        "etc/runestone/traced.toml",
        '[providers.simulated]\n[telemetry]\nexporters = ["otlp", "zipkin"]\nsample_ratio = 1.0\n',
    )
    try:
        with machine.serve(config="etc/runestone/traced.toml", environ=environ) as server:
            await ask(http, server)
            server.signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.ended) == 0
    finally:
        await runner.cleanup()
    assert {"/v1/traces", "/v1/metrics", "/zipkin"} <= came.keys()


async def test_the_console_and_what_it_leaves(machine: Machine, http: aiohttp.ClientSession) -> None:
    """`[debug] console` has its page, with its script, and `top` its picture; at the end no file is left anywhere."""
    before = machine.files()
    port = 21000 + os.getpid() % 2500 * 3
    machine.write(
        "etc/runestone/console.toml",
        f"[providers.simulated]\n[debug]\nconsole = true\nport = {port}\n"
        '[[auth.keys]]\nname = "ops"\nkey = "env:OPS"\nadmin = true\n',
    )
    with machine.serve(config="etc/runestone/console.toml", environ={"OPS": OPS}) as server:
        for path in ("/", "/static/htmx.js"):
            async with http.get(f"http://127.0.0.1:{port + 1}{path}") as answer:
                assert answer.status == 200
        command = machine.command("top", "--once", "--key", "env:OPS", "--url", server.url, environ={"OPS": OPS})
        top = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert b"simulated" in (await top.communicate())[0]
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.ended) == 0
    assert list(machine.temporary.iterdir()) == []
    assert machine.files() - before == {"etc/runestone/console.toml"}
