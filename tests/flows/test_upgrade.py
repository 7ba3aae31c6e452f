"""SIGUSR2: a new process on the same sockets, and nobody is refused, reset or cut."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from runestone.serving.sockets import listen
from tests.conftest import until
from tests.flows.programs import PASSING_ON, PROGRAM, Program, fresh, is_gone, program
from tests.flows.reloading import chat, goodbye
from tests.flows.talk import Speaker, question, talking, text_of
from tests.flows.test_relay_stream import DONE, ROLE, STOP, USAGE, chunk
from tests.provider import FakeProvider
from tests.serving.test_sockets import LOOPBACK

ENVIRON = {"ROOT": "root-key"}
KEY = {"authorization": "Bearer root-key"}
ADMIN = '[[auth.keys]]\nname = "root"\nkey = "env:ROOT"\nadmin = true\n'


def ports(count: int) -> Iterator[int]:
    """Free ones."""
    kept = [listen(LOOPBACK, 0) for _ in range(count)]
    for each in kept:
        yield each.getsockname()[1]
        each.close()


def served_by(up: FakeProvider, top: str = "", more: str = "") -> str:
    return (
        f"{top}routing.retries = 0\npool.warmup = 0\nserver.port = 0\n"
        f'[providers.up]\nkind = "openai-compatible"\nbase_url = "{up.url}/v1"\nmodels = ["m"]\n{ADMIN}{more}'
    )


@dataclass
class At:
    url: str


async def kept(http: aiohttp.ClientSession, url: str) -> tuple[int, str | None]:
    """Who answers on the connection that is kept, and what it says of it."""
    async with http.get(url + "/health") as response:
        return (await response.json())["pid"], response.headers.get("Connection")


async def test_what_runs_ends_and_what_comes_is_the_new_ones(tmp_path: Path) -> None:
    """A JSON call, a stream and a WebSocket stream end in the old process, exactly; an idle WebSocket is told 1001, a
    connection that is kept that it is the last answer; new connections, to any of the listeners, are the new one's,
    which knows the answers that were kept. However often it was asked there is one new process; the old one ends well,
    and the next upgrade works as the first.
    """
    speaker = Speaker()
    websocket, admin = ports(2)
    async with FakeProvider(speaker.script) as up, AsyncExitStack() as stack:
        top = f'server.admin_port = {admin}\nwebsocket.port = {websocket}\ncache.persist = "kept.sqlite"\n'
        served = await stack.enter_async_context(program(served_by(up, top), tmp_path, environ=ENVIRON))
        urls = [served.url, f"http://{LOOPBACK}:{websocket}", f"http://{LOOPBACK}:{admin}"]
        old = served.process.pid
        http = await stack.enter_async_context(aiohttp.ClientSession())
        again = await stack.enter_async_context(aiohttp.ClientSession())
        assert await kept(again, served.url) == (old, None)
        asking = asyncio.ensure_future(chat(http, At(served.url), "remember"))  # type: ignore[arg-type]
        await until(lambda: speaker.asked == ["remember"])
        speaker.say("remember", "x")
        answer = await asking
        running = asyncio.ensure_future(chat(http, At(served.url), "whole"))  # type: ignore[arg-type]
        idle = await stack.enter_async_context(talking(At(served.url)))
        busy = await stack.enter_async_context(talking(At(urls[1])))
        one = await busy.start("one")
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "streamed"}]}
        stream = await stack.enter_async_context(http.post(served.url + "/v1/chat/completions", json=body))
        begun = await stream.content.readexactly(len(ROLE))
        await until(lambda: set(speaker.asked) == {"remember", "whole", "one", "streamed"})

        closing = asyncio.ensure_future(goodbye(idle))
        for _ in range(3):
            served.process.send_signal(signal.SIGUSR2)
        new = await served.replaced()
        assert await closing == 1001
        assert await kept(again, served.url) == (old, "close")
        assert await kept(again, served.url) == (new, None)
        assert [await served.pid(url) for url in urls] == [new, new, new]
        async with fresh() as other, other.get(urls[2] + "/metrics") as response:
            assert response.status == 200
        assert await busy.refused("chat:stream", question("late")) == "service_unavailable"
        assert await chat(again, At(served.url), "remember") == answer  # type: ignore[arg-type]
        assert speaker.asked.count("remember") == 1

        for text in ("one", "streamed"):
            speaker.say(text, "goes ", "on")
            speaker.end(text)
        speaker.say("whole", "x")
        assert (await running)[0] == 200
        said = chunk({"content": "goes "}) + chunk({"content": "on"}) + STOP + USAGE + DONE
        assert begun + await stream.read() == ROLE + said
        await busy.wait("stream:complete")
        assert text_of(busy.heard, one) == "goes on"
        assert await goodbye(busy) == 1001
        assert await served.ended() == 0

        os.kill(new, signal.SIGUSR2)
        third = await served.replaced(2)
        assert [await served.pid(url) for url in urls] == [third, third, third]
        await until(lambda: is_gone(new))
        os.kill(third, signal.SIGTERM)
        await until(lambda: is_gone(third))
        assert served.said.count(" replaced ") == 2
        assert "Traceback" not in served.said


def patience(seconds: float) -> str:
    """A middleware that gives a successor so long, from when it is imported."""
    return f"from runestone.serving import successor\n\nsuccessor.PATIENCE = {seconds}\n{PASSING_ON}"


async def open_files(http: aiohttp.ClientSession, served: Program) -> int:
    """Of the process that serves."""
    async with http.get(served.url + "/metrics") as response:
        told = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines() if line[0] != "#")
    return int(float(told["process_open_fds"]))


async def stays(served: Program, why: str, times: int) -> None:
    """It is asked to be replaced, is not, and says why."""
    served.process.send_signal(signal.SIGUSR2)
    assert why in await served.says("not replaced, this process goes on", times)
    assert await served.pid() == served.process.pid


async def test_a_successor_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A file with a fault in it, an executable that ends, one that never serves and will not be ended either: each time
    the old process goes on, says so, and nothing is left of the other. Then a good one takes over.
    """
    stubborn = "import signal, time\n\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n"
    hanging = PROGRAM.partition("import runestone")[0] + stubborn
    (tmp_path / "soon.py").write_text(patience(0.4))
    (tmp_path / "late.py").write_text(patience(30.0))
    async with FakeProvider(Speaker().script) as up:
        good = served_by(up, "websocket.port = 0\n")
        async with program(good, tmp_path, environ=ENVIRON) as served, fresh() as http:

            async def wait_for_it(name: str) -> None:
                served.file.write_text(f'{good}[pipelines]\ndefault = ["meter", "{name}:stage", "..."]\n')
                async with http.post(served.url + "/admin/reload", headers=KEY) as response:
                    assert response.status == 200

            files = await open_files(http, served)
            served.file.write_text("server.hots = 'x'\n")
            await stays(served, "ended before it served", 1)
            assert "runestone.toml:server.hots: unknown key, did you mean 'host'?" in served.said
            served.script.write_text("import sys\nsys.exit(3)\n")
            await stays(served, "ended before it served", 2)
            await wait_for_it("soon")
            served.script.write_text(hanging)
            await stays(served, "did not serve within", 3)
            assert [pid for pid in served.started if not is_gone(pid)] == [served.process.pid]
            assert await open_files(http, served) == files
            served.script.write_text(PROGRAM)
            await wait_for_it("late")
            served.process.send_signal(signal.SIGUSR2)
            new = await served.replaced()
            assert await served.pid() == new
            assert await served.ended() == 0


async def test_told_to_stop_while_it_leaves(tmp_path: Path) -> None:
    """SIGTERM to a process that has been replaced ends its patience, as `server.drain` has it; the new one does not
    notice.
    """
    speaker = Speaker()
    async with FakeProvider(speaker.script) as up:
        toml = served_by(up, 'server.drain = "100ms"\nwebsocket.port = 0\n')
        async with program(toml, tmp_path, environ=ENVIRON) as served, fresh() as http:
            asking = asyncio.ensure_future(chat(http, At(served.url), "never"))  # type: ignore[arg-type]
            await until(lambda: speaker.asked == ["never"])
            served.process.send_signal(signal.SIGUSR2)
            new = await served.replaced()
            served.process.send_signal(signal.SIGTERM)
            status, told = await asking
            assert (status, told["error"]["message"]) == (503, "the gateway is shutting down")
            assert await served.ended() == 0
            assert await served.pid() == new
            assert "Traceback" not in served.said


async def test_a_process_that_is_killed_before_it_was_replaced(tmp_path: Path) -> None:
    """Its successor finds nobody who waits for it, and serves all the same; whoever connected meanwhile is answered."""
    waiting = "\nwhile not Path(sys.argv[-1]).with_name('go').exists():\n    time.sleep(0.01)\n"
    here = PROGRAM.partition("\nimport runestone")
    async with (
        FakeProvider(Speaker().script) as up,
        program(served_by(up, "websocket.port = 0\n"), tmp_path, environ=ENVIRON) as served,
    ):
        served.script.write_text(f"import time\n{here[0]}{waiting}{here[1]}{here[2]}")
        served.process.send_signal(signal.SIGUSR2)
        await until(lambda: len(served.started) == 2)
        served.process.kill()
        assert await served.ended() == -signal.SIGKILL
        reader, writer = await asyncio.open_connection(LOOPBACK, int(served.url.rpartition(":")[2]))
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        (tmp_path / "go").touch()
        said = await reader.read()
        writer.close()
        assert orjson.loads(said.partition(b"\r\n\r\n")[2])["pid"] == await served.pid() != served.process.pid


async def test_workers_are_replaced_by_workers(tmp_path: Path) -> None:
    """A new parent has workers of its own before the old ones leave; a stream of theirs ends as it should."""
    toml = (
        "[server]\nport = 0\nworkers = 2\n[websocket]\nport = 0\n"
        '[providers.simulated.simulated]\nttft = "1ms"\ntokens_per_second = 40\n'
    )
    async with program(toml, tmp_path) as served, fresh() as http:
        before = {await served.pid() for _ in range(8)}
        ask = {"model": "simulated", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        async with http.post(served.url + "/v1/chat/completions", json=ask) as response:
            await response.content.readline()
            os.kill(before.pop(), signal.SIGUSR2)  # a worker's id: it passes that on to its parent
            new = await served.replaced()
            async with fresh() as other, other.get(served.url + "/health") as health:
                assert (await health.json())["parent"] == new
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert await served.ended(20) == 0
