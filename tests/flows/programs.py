"""`runestone serve` as a process that may be replaced by another one: found by the address it says, and whatever came
of it is ended by its id.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os
import sys
from pathlib import Path

Path(sys.argv[-1]).with_name(f"{os.getpid()}.pid").touch()

import runestone.reload
from runestone.serving import front, successor

runestone.reload.POLL, runestone.reload.WATCH = 0.01, 0.05
front.QUIET = 0.3
successor.ENDING = 0.3

from runestone.cli import main

sys.exit(main())
"""
"""The program, with shorter pauses; it leaves a note of its id, so that it can be ended whatever comes."""
PASSING_ON = "async def stage(call, next):\n    return await next(call)\n"


@dataclass
class Program:
    """`url` is where it was at first; `lines` what it, and whoever came after it, has said."""

    url: str
    process: asyncio.subprocess.Process
    file: Path
    script: Path
    lines: list[str] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        """Of all that have served, oldest first."""
        told = [re.search(r" by=(\d+)", line) for line in self.lines if " replaced " in line]
        return [self.process.pid, *(int(found.group(1)) for found in told if found is not None)]

    @property
    def started(self) -> list[int]:
        """Of all that were started, whether they have come to serve or not."""
        return [int(note.stem) for note in self.file.parent.glob("*.pid")]

    @property
    def said(self) -> str:
        return "".join(self.lines)

    async def says(self, text: str, times: int = 1, seconds: float = 15.0) -> str:
        """The last line with `text`, when there are so many."""
        async with asyncio.timeout(seconds):
            while len(found := [line for line in self.lines if text in line]) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return found[-1]

    async def pid(self, url: str = "") -> int:
        """Who answers a new connection."""
        async with fresh() as http, http.get((url or self.url) + "/health") as response:
            told: int = (await response.json())["pid"]
            return told

    async def replaced(self, times: int = 1) -> int:
        """Waits until it has been replaced so often: by whom."""
        await self.says(" replaced ", times)
        return self.pids[times]

    async def ended(self, seconds: float = 10.0) -> int:
        """How the first process ended. (`wait` waits for those who have inherited its stderr, too.)"""
        await until(lambda: self.process.returncode is not None, seconds)
        return self.process.returncode or 0


def fresh(**options: Any) -> aiohttp.ClientSession:
    """A client with a new connection for every request."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0, **options)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20))


def is_gone(pid: int) -> bool:
    """Whether a process that is not our child has ended; one that nobody asks how has ended too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


@asynccontextmanager
async def program(
    toml: str,
    folder: Path,
    *,
    environ: dict[str, str] | None = None,
    before: Sequence[str] = (),
    listeners: Sequence[socket.socket] = (),
) -> AsyncIterator[Program]:
    """Serves where `toml` says; `before` is put in front of its arguments, and it inherits `listeners`."""
    file, script = folder / "runestone.toml", folder / "program.py"
    file.write_text(toml)
    script.write_text(PROGRAM)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *before, str(script), "serve", "--config", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environ or {})},
        pass_fds=[listener.fileno() for listener in listeners],
    )
    made = Program("", process, file, script)
    reading = asyncio.ensure_future(_read(process, made.lines))
    try:
        address = re.search(r"https?://\S+", await made.says(" serves on "))
        assert address is not None
        made.url = address.group()
        yield made
    finally:
        for pid in made.started:
            if not is_gone(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await process.wait()
        await reading


async def _read(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        lines.append(line.decode())
