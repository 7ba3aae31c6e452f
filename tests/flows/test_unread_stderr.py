"""A gateway whose stderr nobody reads: it answers as ever, ends as ever, and says what it could not write."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import create_server

import aiohttp

CALLS = 300
PAGE = 4096
TOML = """
[providers.simulated]
simulated.ttft = "0ms"
simulated.tokens_per_second = 0
[websocket]
port = 0
[log]
buffer = "{}"
"""
ASK = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}]}


class Unread:
    """A process whose stderr is a pipe that was full before it began."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, out: int) -> None:
        self.process = process
        self.url = url
        self._out = out
        self._text = b""

    def read_to(self, end: bytes) -> str:
        """What comes out of the pipe, to `end`; blocks."""
        while end not in self._text:
            data = os.read(self._out, 65536)
            assert data, self._text[-2000:]
            self._text += data
        return self._text.decode()

    def rest(self) -> str:
        """All that comes out; blocks."""
        while data := os.read(self._out, 65536):
            self._text += data
        return self._text.decode()


@asynccontextmanager
async def serving(folder: Path, buffer: str) -> AsyncIterator[Unread]:
    (folder / "unread.toml").write_text(TOML.format(buffer))
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PAGE)
    os.write(into, b"#" * (PAGE - 1) + b"\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runestone", "serve", "--config", str(folder / "unread.toml"), "--port", str(port)),
        stderr=into,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    os.close(into)
    try:
        yield Unread(process, f"http://127.0.0.1:{port}", out)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(out)


async def up(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                async with http.get(url + "/health/live"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


async def ask_all(http: aiohttp.ClientSession, url: str) -> None:
    for _ in range(CALLS):
        async with asyncio.timeout(5), http.post(url + "/v1/chat/completions", json=ASK) as response:
            assert response.status == 200
            await response.read()


async def dropped(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url + "/metrics") as response:
        text = await response.text()
    found = re.search(r"^runestone_log_lines_dropped_total (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


async def test_calls_are_answered_and_what_is_missing_is_said(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """Hundreds of calls with a full pipe; what was dropped is a metric, and a line as soon as somebody reads."""
    async with serving(tmp_path, "10KB") as unread:
        await up(http, unread.url)
        await ask_all(http, unread.url)
        missing = await dropped(http, unread.url)
        assert missing > CALLS / 2
        text = await asyncio.to_thread(unread.read_to, b"log lines are missing here")
        assert text.startswith("#")
        assert "serves on http://" in text
        unread.process.send_signal(signal.SIGTERM)
        text = await asyncio.to_thread(unread.rest)
        assert await unread.process.wait() == 0
        written = len(re.findall(r"chat/completions id=", text))
        (told,) = re.findall(r"log lines are missing here: they were not taken in time lines=(\d+)", text)
        assert written + int(told) == CALLS
        assert int(told) == missing


async def test_it_ends_with_nobody_reading(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """SIGTERM is exit code 0 within seconds, whoever holds the other end of the pipe."""
    async with serving(tmp_path, "10KB") as unread:
        await up(http, unread.url)
        await ask_all(http, unread.url)
        unread.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await unread.process.wait() == 0


async def test_all_is_written_that_was_logged_before_the_end(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """The last line stands in the log of a process that was told to end at once after it."""
    async with serving(tmp_path, "1MB") as unread:
        reader = asyncio.create_task(asyncio.to_thread(unread.rest))
        await up(http, unread.url)
        await ask_all(http, unread.url)
        unread.process.send_signal(signal.SIGTERM)
        assert await unread.process.wait() == 0
        assert len(re.findall(r"chat/completions id=", await reader)) == CALLS
