"""A gateway that reads its configuration again: what `runestone serve` puts together, in the test's own loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runestone import reload
from runestone.app import App, build
from runestone.config.load import load
from runestone.config.schema import Configuration
from runestone.providers.http import HttpProvider
from runestone.reload import Reloader
from runestone.serving.front import Front
from runestone.serving.sockets import ADMIN, HTTP, Listeners, address_of, listen
from tests.conftest import until
from tests.flows.talk import Talk

ENVIRON = {
    "UP_KEY": "up-secret-0123456789",
    "OTHER_KEY": "other-secret-0123456789",
    "ROOT": "root-0123456789",
    "TEAM": "team-0123456789",
}
ROOT, TEAM = ({"authorization": f"Bearer {ENVIRON[name]}"} for name in ("ROOT", "TEAM"))
TOP = "routing.retries = 0\npool.warmup = 0\nwebsocket.port = 0\n"
"""One attempt a call, and no connections nobody asked for."""
UNSAVED = "[cache]\nenabled = false\n[batch]\nenabled = false\n"


def provider(name: str, url: str, more: str = "", *, models: str = '["m"]') -> str:
    """A provider of the configuration."""
    return (
        f'[providers.{name}]\nkind = "openai-compatible"\nbase_url = "{url}/v1"\nmodels = {models}\n'
        f'api_keys = ["env:UP_KEY"]\n{more}\n'
    )


def keys(team: str = "", root: str = "admin = true") -> str:
    """Two keys; `team` and `root` are more lines of theirs."""
    key = '[[auth.keys]]\nname = "{}"\nkey = "env:{}"\n{}\n'
    return key.format("root", "ROOT", root) + key.format("team", "TEAM", team)


@dataclass
class Reloadable:
    """A running gateway."""

    url: str
    file: Path
    reloader: Reloader
    front: Front
    environ: dict[str, str]
    admin_url: str = ""
    reading: threading.Event = field(default_factory=threading.Event)
    """Cleared, reading takes until it is set."""
    reads: int = 0

    @property
    def app(self) -> App:
        """Of the configuration in force."""
        return self.reloader.app

    async def reload(self, toml: str | None = None) -> dict[str, Any]:
        """Reads the file again, which says `toml` from now on. Raises ConfigurationError."""
        if toml is not None:
            self.file.write_text(toml)
        told: dict[str, Any] = await self.reloader.reload()
        return told

    def read(self) -> Configuration:
        self.reads += 1
        assert self.reading.wait(10)
        return load(self.file, self.environ)

    @property
    def retiring(self) -> list[str]:
        """Configurations that were replaced and are not over."""
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("retire ")]

    async def retired(self) -> None:
        """Nothing is left but the configuration in force."""
        await until(lambda: not self.retiring)

    def upstream(self, name: str) -> HttpProvider:
        found = self.app.upstreams[name]
        assert isinstance(found, HttpProvider)
        return found


@asynccontextmanager
async def reloadable(toml: str, folder: Path, environ: dict[str, str] | None = None) -> AsyncIterator[Reloadable]:
    """Serves `toml` on free ports, whatever it says of ports. Whether a replaced configuration is still in use is
    looked at all the time.
    """
    file = folder / "runestone.toml"
    file.write_text(toml)
    environ = {**ENVIRON, **(environ or {})}
    configuration = load(file, environ)
    listeners = {HTTP: listen("127.0.0.1", 0)}
    if configuration.server.admin_port is not None:
        listeners[ADMIN] = listen("127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reload, "POLL", 0.005)
        gate = await _served(configuration, listeners, file, environ)
        try:
            yield gate
        finally:
            await gate.front.close(0.1)
            for listener in listeners.values():
                listener.close()
            await gate.app.close()


async def _served(
    configuration: Configuration, listeners: Listeners, file: Path, environ: dict[str, str]
) -> Reloadable:
    app = build(configuration)
    await app.start()
    front = Front(app.apps, app.lasting, configuration, None)
    url = await front.open(listeners)

    reloader = Reloader(app, lambda: gate.read(), front.dispatches, front.renewed)
    gate = Reloadable(url, file, reloader, front, environ)
    gate.reading.set()
    if ADMIN in listeners:
        gate.admin_url = f"{url.partition(':')[0]}://{address_of(listeners[ADMIN])}"
    return gate


def apps() -> int:
    """How many configurations there are, in force or not."""
    gc.collect()
    return sum(type(thing) is App for thing in gc.get_objects())


async def goodbye(talk: Talk) -> object:
    """Reads on to the end: the code that the server closes with. (aiohttp's own `close_code` is another one where the
    server does not wait for the client's answer.)
    """
    while (told := await talk.ws.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
        continue
    return told.data if told.type is aiohttp.WSMsgType.CLOSE else talk.ws.close_code


async def chat(
    http: aiohttp.ClientSession,
    gate: Reloadable,
    text: str = "hi",
    *,
    headers: dict[str, str] | None = None,
    **more: object,
) -> tuple[int, Any]:
    """(status, JSON) of a chat call to the model `m`, or whichever `more` says."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    async with http.post(gate.url + "/v1/chat/completions", json=body, headers=headers) as response:
        return response.status, await response.json()
