"""A headless Chromium, driven over the W3C WebDriver protocol (https://www.w3.org/TR/webdriver2/).

Rule: one browser for all tests, a fresh page for each. What a page's scripts fail at and nobody catches is kept in
`faults`, and a test that leaves any is no good.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"]
SCRIPT_SECONDS = 20
START_SECONDS = 15

WATCH = """
window.faults = [];
addEventListener("error", (event) => faults.push(String(event.message)));
addEventListener("unhandledrejection", (event) => faults.push(`unhandled: ${event.reason}`));
"""
RUN = """
const done = arguments[arguments.length - 1];
const work = async (...args) => { %s };
work(...[...arguments].slice(0, -1)).then(
  (value) => done({ value: value ?? null }),
  ({ name, code = null, message, stack }) => done({ error: { name, code, message, stack } }),
);
"""


class PageError(Exception):
    """A script threw. `name` and `code` are the error's."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['name']}: {error['message']}\n{error['stack']}")
        self.name = error["name"]
        self.code = error["code"]
        self.message = error["message"]


def why_not() -> str | None:
    """Why there can be no browser here; None when there can."""
    if not any(shutil.which(name) for name in BROWSERS):
        return "no chromium on the PATH (Debian: apt-get install chromium chromium-driver)"
    return None if shutil.which("chromedriver") else "no chromedriver on the PATH (Debian: chromium-driver)"


@contextmanager
def browser() -> Iterator[str]:
    """The URL of a WebDriver session with a browser of its own."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a browser that was just ended may still write
        driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,  # what it starts is in its group, and ends with it
        )
        try:
            with _session(f"127.0.0.1:{_port(driver)}") as session:
                yield session
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.communicate()


@contextmanager
def _session(base: str) -> Iterator[str]:
    options = {"binary": next(path for name in BROWSERS if (path := shutil.which(name))), "args": ARGUMENTS}
    capabilities = {"goog:chromeOptions": options, "timeouts": {"script": SCRIPT_SECONDS * 1000}}
    identity = _ask(base, "POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]
    try:
        yield f"http://{base}/session/{identity}"
    finally:
        _ask(base, "DELETE", f"/session/{identity}")


def _port(driver: subprocess.Popen[bytes]) -> int:
    """The port that a chromedriver says it listens on."""
    assert driver.stdout is not None
    said = b""
    while select.select([driver.stdout], [], [], START_SECONDS)[0] and (data := os.read(driver.stdout.fileno(), 4096)):
        said += data
        found = re.search(rb"successfully on port (\d+)", said)
        if found is not None:
            return int(found[1])
    raise AssertionError(f"chromedriver did not start: {said!r}")


def _ask(base: str, method: str, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection(base, timeout=30)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        value = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    assert not (isinstance(value, dict) and "error" in value), value
    return value


@dataclass
class Page:
    """The browser's one page."""

    session: str
    http: aiohttp.ClientSession

    async def open(self, url: str) -> None:
        """Goes there; scripts run in that origin."""
        await self._command("/url", {"url": url})
        await self._command("/execute/sync", {"script": WATCH, "args": []})

    async def run(self, script: str, *args: object) -> Any:
        """What the body of an async function with the parameters `args` returns, as JSON. Raises PageError."""
        told = await self._command("/execute/async", {"script": RUN % script, "args": list(args)})
        if "error" in told:
            raise PageError(told["error"])
        return told["value"]

    async def _command(self, path: str, body: object) -> Any:
        async with self.http.post(self.session + path, json=body) as response:
            value = (await response.json())["value"]
        assert response.status == 200, value
        return value
