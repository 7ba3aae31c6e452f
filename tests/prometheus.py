"""The real Prometheus, as Debian's package `prometheus` brings it: server and promtool; and what deploy/ asks it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "runestone.json").read_text())

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs prometheus and promtool (Debian: apt-get install prometheus)",
)


def promtool(*arguments: str, said: bytes | None = None) -> tuple[int, str]:
    """(exit code, everything it printed)."""
    done = subprocess.run(
        ["promtool", *arguments],
        input=said,
        stdin=subprocess.DEVNULL if said is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def panels() -> list[dict[str, Any]]:
    """Those of the dashboard that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def questions() -> list[tuple[str, str]]:
    """(panel, expression) of the dashboard, as Grafana would send it for everything at once."""
    filled = {"$job": "runestone", "$instance": ".*", "$__rate_interval": "1m"}
    asked = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    return [(title, re.sub(r"\$\w+", lambda name: filled[name[0]], expression)) for title, expression in asked]


class Prometheus:
    """A running server."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http

    async def get(self, path: str, **parameters: str) -> Any:
        """The `data` of its API's answer."""
        plain = {"Accept-Encoding": "identity"}
        async with self._http.get(f"{self._url}/api/v1/{path}", params=parameters, headers=plain) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def ask(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """What the expression is now: labels (without the scrape's own) and value."""
        found = await self.get("query", query=expression)
        own = ("__name__", "job", "instance")
        return {
            tuple(sorted((name, value) for name, value in one["metric"].items() if name not in own)): float(
                one["value"][1]
            )
            for one in found["result"]
        }

    async def number(self, expression: str) -> float:
        """The one value of the expression."""
        found = await self.ask(expression)
        assert len(found) == 1, (expression, found)
        return next(iter(found.values()))

    async def until(self, expression: str, value: float, seconds: float = 10.0) -> None:
        """Waits for a scrape that has seen `value`."""
        found: Any = None
        try:
            async with asyncio.timeout(seconds):
                while (found := await self.ask(expression)) == {} or list(found.values()) != [value]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{expression} is {found}, and not {value}")


@asynccontextmanager
async def prometheus(gateways: Sequence[str], folder: Path, http: aiohttp.ClientSession) -> AsyncIterator[Prometheus]:
    """Scrapes `gateways` (host:port) as deploy/prometheus says, four times a second; ended by its id. It begins to
    scrape five seconds after its start: a pause of its own discovery of targets.
    """
    told = (RULES / "prometheus.yml").read_text()
    for name in ("rules.yml", "alerts.yml"):
        shutil.copy(RULES / name, folder)
    file = folder / "prometheus.yml"
    file.write_text(told.replace('["127.0.0.1:4003"]', json.dumps(gateways)).replace("15s", "250ms"))
    process = await asyncio.create_subprocess_exec(
        *("prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
        "--web.listen-address=127.0.0.1:0",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    reading: asyncio.Task[bytes] | None = None
    try:
        assert process.stderr is not None
        async with asyncio.timeout(15):
            url = await _address(process.stderr)
            reading = asyncio.ensure_future(process.stderr.read())  # or its pipe fills up
            while True:
                async with http.get(f"{url}/-/ready") as response:
                    if response.status == 200:
                        break
                await asyncio.sleep(0.02)
        yield Prometheus(url, http)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def _address(log: asyncio.StreamReader) -> str:
    said = []
    while line := await log.readline():
        said.append(line.decode())
        found = re.search(r"127\.0\.0\.1:\d+", said[-1])
        if found is not None and "Listening on" in said[-1]:
            return f"http://{found.group()}"
    raise AssertionError("".join(said))
