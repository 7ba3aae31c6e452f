"""The program as its users start it: a child process, found by the address it prints, ended by its id."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Served:
    """A running `runestone serve`."""

    url: str
    process: asyncio.subprocess.Process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = 10.0) -> int:
        """The exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def serve(toml: str, folder: Path) -> AsyncIterator[Served]:
    """Serves on a free port; killed at the end if it still runs."""
    file = folder / "served.toml"
    file.write_text(toml)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runestone", "serve", "--config", str(file), "--port", "0"),
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(15):
            banner = (await process.stderr.readline()).decode()
        address = re.search(r"https?://\S+", banner)
        assert address is not None, banner
        yield Served(address.group(), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
