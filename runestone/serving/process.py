"""One process, from its listeners to its last connection.

    SIGTERM, SIGINT   drains: takes nothing new, lets calls end within `server.drain`; a second one ends at once
    SIGHUP            reads the configuration again (reload.py)
    SIGUSR2           starts a successor on the same sockets (successor.py), then leaves to it: every answer is the last
                      on its connection, and what runs may end, however long a call may take. A worker passes these two
                      on to its parent, which has words of its own for it (RELOAD, LEAVE).

Rule: nothing is taken away before something else is there: a successor serves before this one stops accepting, and a
connection that is kept is told to go before it is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import monotonic

from runestone.app import App, build
from runestone.config.schema import Configuration
from runestone.config.source import Source
from runestone.debug import console
from runestone.reload import Reloader
from runestone.serving import successor
from runestone.serving.family import family_of, own_of
from runestone.serving.front import Front
from runestone.serving.sockets import ADMIN, HTTP, USUAL, WEBSOCKET, Listeners, address_of, listeners_of
from runestone.serving.successor import Pulse
from runestone.serving.system import Notifier, is_first_process, keep_memory_private, raise_file_limit, settle_memory
from runestone.telemetry.logs import set_level

LAST_WORDS = 0.5
"""Seconds connections have at the end to take what was written to them; calls had `server.drain` before."""
POLL = 0.05

_log = logging.getLogger("runestone")


class Process:
    """`configuration` is the first of `source`; `ready` is told the address."""

    def __init__(
        self,
        configuration: Configuration,
        source: Source,
        *,
        environ: Mapping[str, str],
        ready: Callable[[str], None],
    ) -> None:
        family = self._family = family_of(environ)
        self._configuration = own_of(configuration, family)
        self._source = source
        self._load = lambda: own_of(source.read(), family)
        self._environ = environ
        self._ready = ready
        self._notifier = Notifier(environ)
        self._pulse = Pulse(environ)
        self._listeners: Listeners = {}
        self._reloader: Reloader | None = None
        self._leave = asyncio.Event()
        self._is_upgrading = False
        self._is_replaced = False
        self._is_told_to_stop = False

    async def run(self) -> None:
        """Serves until it is told to stop, or is replaced. Raises OSError when it cannot listen, ConfigurationError."""
        debug = self._configuration.debug
        if not debug.core_dumps:
            keep_memory_private()
        self._take_signals()
        app = build(self._configuration, siblings=self._family)
        self._listeners = listeners_of(self._configuration, self._environ)
        async with console(debug.port, {"app": app}) if debug.console else nullcontext():
            try:
                await self._serve(app)
            finally:
                for listener in self._listeners.values():
                    listener.close()
                if self._family is not None:
                    await self._family.close()

    async def _serve(self, app: App) -> None:
        raise_file_limit(2 * sum(pool.default_size + pool.max_overflow for pool in app.pools.values()) + 256)
        app.metrics.watch_process()
        app.lasting.heartbeat.each = self._beat
        await app.start()
        front = Front(app.apps, app.lasting, self._configuration, self._family)
        renewed = partial(self._renewed, front)
        reloader = self._reloader = Reloader(app, self._load, front.dispatches, renewed)
        app.tasks.keep("watch the configuration", partial(reloader.watch, self._files))
        try:
            self._announce(await front.open(self._listeners))
            settle_memory()
            await self._leave.wait()
            await self._finish(reloader.app, front)
        finally:
            await front.close(LAST_WORDS)
            await reloader.close(keep=not self._is_replaced)

    def _announce(self, address: str) -> None:
        self._ready(address)
        sockets = self._configuration.websocket
        if sockets.enabled and sockets.port is None and WEBSOCKET not in self._listeners:
            _log.info("port %d is taken: WebSockets are at %s alone", USUAL, address)
        for name, listener in self._listeners.items():
            if name == ADMIN:
                _log.info("/admin and /metrics are at %s, and nowhere else", address_of(listener))
            elif name != HTTP:
                _log.info("WebSockets are at %s too", address_of(listener))
        self._pulse.ready()
        told = f"serves on {address}"
        if successor.HEIR in self._environ:
            self._notifier.take_over(told)
        else:
            self._notifier.ready(told)

    async def _finish(self, app: App, front: Front) -> None:
        """Nothing new is taken; what runs ends."""
        front.stop()
        app.live.sessions.drain()
        if self._is_replaced:
            self._notifier.mute()
            front.leave()
            fields = {"calls": app.running.count}
            _log.info("a new process serves: this one finishes what runs", extra={"fields": fields})
            await self._until_quiet(app, front)
        else:
            self._notifier.stopping()
            drain = self._configuration.server.drain
            _log.info("draining", extra={"fields": {"calls": app.running.count, "at_most_seconds": drain}})
        await app.running.drain(self._configuration.server.drain)
        app.live.sessions.close()
        _log.info("stopped")

    async def _until_quiet(self, app: App, front: Front) -> None:
        """Waits for what runs, and until nobody sends requests any more over connections that are kept."""
        latest = monotonic() + app.configuration.routing.timeouts.total
        while not self._is_told_to_stop and monotonic() < latest:
            if not app.running.count and front.is_quiet():
                return
            await asyncio.sleep(POLL)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        if self._family is None:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
            loop.add_signal_handler(signal.SIGUSR2, self._upgrade)
            return
        loop.add_signal_handler(successor.RELOAD, self._reload)
        loop.add_signal_handler(successor.LEAVE, self._be_replaced)
        for number in (signal.SIGHUP, signal.SIGUSR2):  # an operator's: it is about all of them
            loop.add_signal_handler(number, os.kill, os.getppid(), number)

    def _stop(self) -> None:
        """The first signal drains; the default action of a second one ends the process at once."""
        self._is_told_to_stop = True
        self._leave.set()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    def _reload(self) -> None:
        if self._reloader is not None and not self._leave.is_set():
            self._notifier.reloading()
            reloads = self._reloader.app.lasting.reloads
            self._reloader.ask(
                lambda: self._notifier.ready(reloads.refusal or "serves; its configuration was read again")
            )

    def _upgrade(self) -> None:
        if self._reloader is None or self._leave.is_set() or self._is_upgrading:
            return
        if is_first_process():
            _log.error("not replaced: this is the first process of its container, which would end with it")
            return
        self._is_upgrading = True
        self._reloader.app.tasks.start("start a successor", self._hand_over(self._reloader.app))

    async def _hand_over(self, app: App) -> None:
        try:
            await app.cache.save()
            heir = await successor.replace(self._listeners, self._environ)
        except successor.NoSuccessor as error:
            _log.error("not replaced, this process goes on: %s", error)
            self._notifier.ready("serves; an upgrade has failed")
            return
        finally:
            self._is_upgrading = False  # whatever came of it, the next may be tried
        _log.info("replaced", extra={"fields": {"by": heir}})
        self._be_replaced()

    def _be_replaced(self) -> None:
        self._is_replaced = True
        self._leave.set()

    def _beat(self) -> None:
        self._notifier.alive()
        if not self._pulse.beat():
            _log.error("the parent of this worker is gone: it ends")
            self._leave.set()

    def _renewed(self, front: Front, configuration: Configuration) -> Callable[[], None]:
        """For a reload: what the process itself holds."""
        show = front.renewed(configuration)

        def renew() -> None:
            show()
            set_level(configuration.log.level)
            self._configuration = configuration
            self._source.keep()

        return renew

    def _files(self) -> list[Path]:
        """What a reload would read."""
        server = self._configuration.server
        return [Path(file) for file in (self._source.file, server.tls_cert, server.tls_key) if file is not None]
