"""Another configuration without an end: read, built beside the one in force, and put in its place in one step.

    read ── refused? ──▶ nothing has changed; logged, counted, told by /health
      │
    build, open ── refused? ──▶ the same
      │
    swap: requests, messages and admin calls from now on    (no await in it: nobody sees a half)
      │
    retire the old one when its last call has ended

Rules: a call stays with the configuration it began with. One reload at a time; who asks meanwhile gets one more after
it. What cannot change in a running process is named, and stays as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from runestone.app import App, build
from runestone.config.schema import Configuration
from runestone.core.json import JsonObject
from runestone.edge.dispatch import Dispatch
from runestone.errors import ConfigurationError
from runestone.providers.prices import price_of

RESTART: Final = (
    *("server.host", "server.port", "server.admin_host", "server.admin_port", "server.workers", "server.sticky"),
    *("websocket.port", "websocket.max_bytes", "cache.persist", "log.format", "log.buffer"),
    *("debug.console", "debug.port", "debug.core_dumps"),
)
"""What takes a new process: SIGUSR2 (docs/processes.md), or a restart."""
POLL = 0.2
"""Seconds between two looks at whether the old configuration is still in use."""
WATCH = 1.0
"""Seconds between two looks at the files, where `server.watch` is on."""
MARGIN = 60.0
"""Seconds beyond the longest call after which an old configuration is closed, whatever it waits for."""
MOST_NAMED = 100

_log = logging.getLogger("runestone.reload")


class Reloader:
    """Of a process that began with `app`. `load` reads the configuration anew, and raises ConfigurationError; `served`
    are what turns requests into answers, by the names of the applications; `renewed(configuration)`, called in a
    thread, gives what puts the process's own part of it in force (certificates, limits of connections, the level of
    the log), or raises ConfigurationError.
    """

    def __init__(
        self,
        app: App,
        load: Callable[[], Configuration],
        served: Mapping[str, Dispatch],
        renewed: Callable[[Configuration], Callable[[], None]],
    ) -> None:
        self.app = app
        self._load = load
        self._served = served
        self._renewed = renewed
        self._turn = asyncio.Lock()
        self._replaced: list[App] = []
        """Configurations that are not in force any more, and may be in use."""
        app.lasting.reload = self.reload

    async def close(self, *, keep: bool) -> None:
        """Ends the configuration in force, and those that were replaced and had not been retired yet. See App."""
        await self.app.close(keep=keep)
        for old in tuple(self._replaced):
            await old.retire(self.app)

    def ask(self, then: Callable[[], None]) -> None:
        """Begins a reload, whose outcome the log tells (SIGHUP); calls `then` when it is over."""
        self.app.tasks.start("reload", self._tried()).add_done_callback(lambda _: then())

    async def reload(self) -> JsonObject:
        """Reads, builds, swaps; what has changed, and what would take a new process. Raises ConfigurationError."""
        reloads = self.app.lasting.reloads
        async with self._turn:
            try:
                return await self._reload()
            except asyncio.CancelledError:
                raise  # who asked has left
            except BaseException as error:
                reloads.refused += 1
                reloads.refusal = "the configuration file was refused, the one before is in force: the log says why"
                for fault in error.faults if isinstance(error, ConfigurationError) else ():
                    _log.error("the configuration was refused: %s", fault)
                raise

    async def watch(self, files: Callable[[], list[Path]]) -> None:
        """Reloads whenever one of `files` has changed, and is so for two looks."""
        seen = known = await asyncio.to_thread(_stamps, files())
        while True:
            await asyncio.sleep(WATCH)
            now = await asyncio.to_thread(_stamps, files())
            if now != known and now == seen:  # whoever writes has finished
                known = now
                if self.app.configuration.server.watch:
                    await self._tried()
            seen = now

    async def _tried(self) -> None:
        try:
            await self.reload()
        except ConfigurationError:
            return  # logged, every fault

    async def _reload(self) -> JsonObject:
        old = self.app
        wanted = await asyncio.to_thread(self._load)
        configuration, stuck = pinned(old.configuration, wanted)
        renew = await asyncio.to_thread(self._renewed, configuration)
        changed = list(differences(old.configuration, configuration))
        if any(len(model.targets) > 1 for model in configuration.models.values()):
            await asyncio.to_thread(price_of, "openai", "")  # strategies ask prices, and the first look-up takes long
        app = build(configuration, old)
        try:
            await app.open()
        except BaseException:
            await app.retire(old)
            raise
        handlers = old.running.now()
        app.take_over()
        for name, dispatch in self._served.items():
            dispatch.adopt(app.apps[name])
        renew()
        self.app = app
        self._replaced.append(old)
        reloads = app.lasting.reloads
        reloads.generation += 1
        reloads.done += 1
        reloads.refusal = ""
        app.tasks.start(f"retire configuration {reloads.generation - 1}", self._retire(old, handlers))
        reloads.stuck = tuple(stuck)
        for name in stuck:
            _log.warning("%s has changed, and takes a new process (SIGUSR2) or a restart", name)
        _log.info(
            "reloaded",
            extra={"fields": {"generation": reloads.generation, "changed": ",".join(changed[:20]) or "nothing"}},
        )
        told: JsonObject = {
            "reloaded": True,
            "generation": reloads.generation,
            "changed": changed[:MOST_NAMED],
            "needs_restart": stuck,
        }
        await app.follow(old)  # all is done by now, whoever leaves meanwhile
        return told

    async def _retire(self, old: App, handlers: frozenset[asyncio.Task[Any]]) -> None:
        """Closes what only `old` uses, when its last call has ended, or the process does. `handlers` ran when it was
        replaced: a call of it is one of theirs, or is counted by its meter.
        """
        patience = old.configuration.routing.timeouts.total + MARGIN
        try:
            async with asyncio.timeout(patience):
                is_used = True
                while is_used:
                    await asyncio.sleep(POLL)
                    is_used = old.running.has_any(handlers) or old.meter.open > 0 or old.is_busy(self.app)
        except TimeoutError:
            _log.warning("a configuration that was replaced is still in use after %.0f s: closed", patience)
        finally:
            self._replaced = [one for one in self._replaced if one is not old]
            for other in self._replaced:
                self._leave_to(other, old)
            await old.retire(self.app)

    def _leave_to(self, other: App, old: App) -> None:
        """What both have, and the one in force does not, is from now on for `other` to close."""
        for name, upstream in other.upstreams.items():
            if old.upstreams.get(name) is upstream:
                del old.upstreams[name]
        if old.following is other.following:
            old.following = self.app.following


def pinned(old: Configuration, new: Configuration) -> tuple[Configuration, list[str]]:
    """`new` with what cannot change as it is in `old`, and the names of what would have."""
    stuck = []
    for name in RESTART:
        section, _, key = name.partition(".")
        before = getattr(getattr(old, section), key)
        after = getattr(new, section)
        if getattr(after, key) != before:
            stuck.append(name)
            new = replace(new, **{section: replace(after, **{key: before})})
    if (old.server.tls_cert is None) != (new.server.tls_cert is None):
        stuck.append("server.tls_cert")
        told = replace(new.server, tls_cert=old.server.tls_cert, tls_key=old.server.tls_key)
        new = replace(new, server=told)
    return new, stuck


def differences(old: object, new: object, path: str = "") -> Iterator[str]:
    """The names of what differs, never the values: `providers.openai.base_url`, `auth.keys`."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from differences(old.get(name), new.get(name), f"{path}.{name}")
    elif is_dataclass(old) and type(old) is type(new) and not hasattr(old, "reference"):
        for field in fields(old):
            inner = f"{path}.{field.name}" if path else field.name
            yield from differences(getattr(old, field.name), getattr(new, field.name), inner)
    else:
        yield path


def _stamps(files: list[Path]) -> list[tuple[int, int, int] | None]:
    """What tells that a file is another one; None where there is none."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append(None)
    return found
