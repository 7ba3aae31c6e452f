"""`runestone top` and `runestone tail`, as an operator runs them: in a terminal, in a pipe, against gateways that are
not what they should be.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import StartGateway, StartProvider
from tests.flows.watching import ENVIRON, TEAM, UP, Held, Watcher, asking, keys
from tests.gateway import Gateway
from tests.provider import Seen, Wire

Impostor = Callable[..., str]
ROOT = Path(__file__).resolve().parents[1]
OFF = "[cache]\nenabled = false\n"
KEY = ("--key", "env:ROOT")
ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"
without_rich = pytest.mark.skipif(find_spec("rich") is None, reason="the extra `top` is not installed")


@dataclass
class Ended:
    code: int
    out: str
    err: str


def command(*arguments: str) -> Sequence[str]:
    return (sys.executable, "-m", "runestone", *arguments)


def environ() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", **ENVIRON}


async def run(*arguments: str) -> Ended:
    """A command in pipes, to its end."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ(),
    )
    try:
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Terminal:
    """A command in a terminal of 40 lines."""

    process: asyncio.subprocess.Process
    file: int
    seen: bytearray = field(default_factory=bytearray)

    async def until(self, pattern: bytes, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not re.search(pattern, self.seen):  # noqa: ASYNC110 - what comes is another process's
                await asyncio.sleep(0.01)

    def press(self, key: bytes) -> None:
        os.write(self.file, key)

    def modes(self) -> object:
        return termios.tcgetattr(self.file)[3]


@asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *command(*arguments), stdin=its, stdout=its, stderr=its, env=environ(), start_new_session=True
    )
    shown = Terminal(process, mine)
    os.set_blocking(mine, False)

    def read() -> None:
        try:
            shown.seen += os.read(mine, 65536)
        except OSError:  # nobody has it open any more
            loop.remove_reader(mine)

    loop = asyncio.get_running_loop()
    loop.add_reader(mine, read)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        loop.remove_reader(mine)
        os.close(its)
        os.close(mine)


@dataclass
class Standing:
    gate: Gateway
    held: Held
    watcher: Watcher
    http: aiohttp.ClientSession

    def ask(self, **headers: str) -> asyncio.Task[int]:
        async def asked() -> int:
            url = f"{self.gate.url}/v1/chat/completions"
            async with self.http.post(url, json=asking(), headers={**TEAM, **headers}) as response:
                await response.read()
                return response.status

        return asyncio.create_task(asked())


@pytest.fixture
async def standing(gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession) -> Standing:
    """A gateway with a provider that answers when it is told to."""
    held = Held()
    up = await provider(held.script)
    gate = await gateway(UP.format(up.url) + OFF + keys(), ENVIRON)
    return Standing(gate, held, Watcher(http, gate), http)


async def test_one_picture_as_plain_text(standing: Standing) -> None:
    """What runs, in a pipe: no colours, no control characters, no key."""
    call = standing.ask(**{"x-request-id": "call-1"})
    await standing.watcher.stages("provider")
    ended = await run("top", "--once", "--url", standing.gate.url, *KEY)
    assert (ended.code, ended.err) == (0, "")
    assert "calls 1 in flight (1 provider)" in ended.out
    assert re.search(r"^up .* \* .* closed$", ended.out, re.MULTILINE)
    assert re.search(r"provider +chat/completions +m +up/m +1 +team +none +call-1$", ended.out, re.MULTILINE)
    assert "\x1b" not in ended.out
    assert ENVIRON["ROOT"] not in ended.out
    standing.held.release.set()
    assert await call == 200


@without_rich
async def test_the_live_picture_follows_and_ends_on_q(standing: Standing) -> None:
    """Drawn on a screen of its own, anew every second; the terminal is left as it was."""
    async with terminal("top", "--url", standing.gate.url, *KEY) as shown:
        before = shown.modes()
        await shown.until(re.escape(ALTERNATE))
        await shown.until(b"calls 0 in flight")
        call = standing.ask(**{"x-request-id": "call-1"})
        await shown.until(b"call-1")
        assert shown.modes() != before
        shown.press(b"q")
        async with asyncio.timeout(10):
            assert await shown.process.wait() == 0
        await shown.until(re.escape(BACK))
        assert shown.modes() == before
        assert b"Traceback" not in shown.seen
    standing.held.release.set()
    assert await call == 200


@without_rich
async def test_control_c_ends_the_live_picture(standing: Standing) -> None:
    """As q does: exit code 0, no traceback, the terminal as it was."""
    async with terminal("top", "--url", standing.gate.url, *KEY) as shown:
        before = shown.modes()
        await shown.until(b"calls 0 in flight")
        shown.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await shown.process.wait() == 0
        await shown.until(re.escape(BACK))
        assert shown.modes() == before
        assert b"Traceback" not in shown.seen


@without_rich
async def test_a_gateway_that_goes_is_said_in_the_picture(provider: StartProvider, http: aiohttp.ClientSession) -> None:
    """It stays, for a gateway that comes back."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer({"version": "9.9.9", "calls": {"total": 3}})

    up = await provider(script)
    async with terminal("top", "--url", up.url) as shown:
        await shown.until(b"runestone 9.9.9")
        up.kill()
        await shown.until(b"cannot be reached: Connection refused")
        shown.press(b"q")
        async with asyncio.timeout(10):
            assert await shown.process.wait() == 0


async def test_without_rich_it_says_what_to_install(tmp_path: Path) -> None:
    """The live picture alone needs it."""
    code = "import sys; sys.modules['rich'] = None; from runestone.cli import main; sys.exit(main(['top']))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stderr=asyncio.subprocess.PIPE, env=environ()
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(rb"runestone: .* pip install 'runestone\[top\]' .*\n", err)


@without_rich
async def test_in_a_pipe_it_says_how() -> None:
    """A live picture in a file would be of no use."""
    ended = await run("top")
    assert (ended.code, ended.out) == (1, "")
    assert "--once" in ended.err


@pytest.fixture
async def impostor() -> AsyncIterator[Impostor]:
    """`impostor(...)`: the address of something that answers everything with such a Response."""
    said: dict[str, Any] = {}

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(**said)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    def serve(**response: Any) -> str:
        said.update(response)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    await runner.cleanup()


@pytest.mark.parametrize("subcommand", [("top", "--once"), ("tail",)])
async def test_what_cannot_be_asked_is_one_line(
    subcommand: tuple[str, ...], standing: Standing, impostor: Impostor
) -> None:
    """No gateway, no admin key, another server: exit code 1, and why."""
    free = await run(*subcommand, "--url", "http://127.0.0.1:1")
    assert (free.code, free.err) == (1, "runestone: http://127.0.0.1:1 cannot be reached: Connection refused\n")
    nobody = await run(*subcommand, "--url", standing.gate.url)
    assert re.fullmatch(r"runestone: http://\S+ says 401: the admin endpoints need a key .*\n", nobody.err)
    other = await run(*subcommand, "--url", standing.gate.url, "--key", "env:TEAM")
    assert re.fullmatch(r"runestone: http://\S+ says 403: this key may not use the admin endpoints\n", other.err)
    elsewhere = await run(*subcommand, "--url", impostor(text="<html>\x1b[2J</html>", status=404), *KEY)
    assert re.fullmatch(r"runestone: http://\S+ says 404: and nothing that could be read\n", elsewhere.err)
    assert {ended.code for ended in (free, nobody, other, elsewhere)} == {1}
    for ended in (free, nobody, other, elsewhere):
        assert ended.out == ""
        assert not any(key in ended.err for key in ENVIRON.values())


async def test_a_redirect_never_sees_the_key(impostor: Impostor, standing: Standing) -> None:
    """It is an answer like any other that is none."""
    url = impostor(status=302, headers={"Location": standing.gate.url + "/admin/state"})
    ended = await run("top", "--once", "--url", url, *KEY)
    assert (ended.code, ended.out) == (1, "")
    assert "says 302" in ended.err


@pytest.mark.parametrize("url", ["ftp://x", "http://", "127.0.0.1:4003", "http://user:secret@h", "http://h:99999"])
async def test_an_address_that_is_none_is_one_line(url: str) -> None:
    """With an example of one."""
    ended = await run("top", "--once", "--url", url)
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(r"runestone: '[^\n]*' (is no address|has a port)[^\n]*\n", ended.err)


@pytest.mark.parametrize("key", ["sk-literal-key", "env:NOT_SET_ANYWHERE", "file:/nowhere"])
async def test_a_key_is_never_given_itself(key: str) -> None:
    """It would stand in the list of processes for everybody to read; and it is not repeated."""
    ended = await run("tail", "--key", key)
    assert ended.code == 2
    assert "literal-key" not in ended.err
    assert ended.err.splitlines()[-1].startswith("runestone tail: error: argument --key: ")


@asynccontextmanager
async def tailing(standing: Standing, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`runestone tail`, once it follows."""
    process = await asyncio.create_subprocess_exec(
        *command("tail", "--url", standing.gate.url, *KEY, *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ(),
    )
    try:
        await standing.watcher.until_state(lambda state: state["log"]["followers"] == 1, 15)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(10):
        return (await process.stdout.readline()).decode()


async def test_tail_writes_a_line_a_call(standing: Standing) -> None:
    """As the log of the gateway does, at once; Control-C is exit code 0."""
    standing.held.release.set()
    async with tailing(standing) as process:
        for identity in ("call-1", "call-2"):
            assert await standing.ask(**{"x-request-id": identity}) == 200
            line = await line_of(process)
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    chat/completions id=\S+ status=200 ", line)
            assert f" id={identity} " in line
            assert " input_tokens=3 output_tokens=2 " in line
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")


async def test_tail_writes_json_for_programs(standing: Standing) -> None:
    """An object a line, whatever a client calls itself."""
    standing.held.release.set()
    async with tailing(standing, "--json") as process:
        assert await standing.ask(**{"x-request-id": 'a"b\\c'}) == 200
        assert json.loads(await line_of(process))["id"] == 'a"b\\c'


async def test_tail_says_when_the_gateway_ends(standing: Standing, impostor: Impostor) -> None:
    """And what it has missed, and does not obey what it is told."""
    events = (
        'data: {"time":"2026-01-02T03:04:05.678901+00:00","level":"info","logger":"x","message":"m\\u001b[2J",'
        '"id":"\\u001b[31m"}\n\nevent: missed\ndata: {"missed":3}\n\n: nothing new\n\n'
    )
    url = impostor(text=events, content_type="text/event-stream")
    ended = await run("tail", "--url", url, *KEY)
    assert ended.out == "2026-01-02T03:04:05.678Z info    m?[2J id='\\x1b[31m'\n"
    missing, last = ended.err.splitlines()
    assert missing.endswith("more than this terminal takes: 3")
    assert last == f"runestone: {url} has ended the connection"
    assert ended.code == 1
    as_json = await run("tail", "--json", "--url", url, *KEY)
    assert [json.loads(line).get("missed") for line in as_json.out.splitlines()] == [None, 3]
