"""One process, from its listeners to its last connection.

    SIGTERM, SIGINT   drains: takes nothing new, lets calls end within `server.drain`; a second one ends at once
    SIGHUP            reads the configuration again (reload.py)
    SIGUSR2           starts a successor on the same sockets (successor.py), then leaves to it: every answer is the last
                      on its connection, and what runs may end, however long a call may take

Rule: nothing is taken away before something else is there: a successor serves before this one stops accepting, and a
connection that is kept is told to go before it is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import monotonic

from runestone.app import App, build
from runestone.config.schema import Configuration
from runestone.debug import console
from runestone.edge.dispatch import Dispatch
from runestone.edge.server import Patience, Server
from runestone.reload import Reloader, set_patience
from runestone.serving import successor
from runestone.serving.sockets import ADMIN, HTTP, USUAL, WEBSOCKET, Listeners, address_of, listeners_of
from runestone.serving.system import Notifier, keep_memory_private, raise_file_limit, settle_memory
from runestone.telemetry.logs import set_level

LAST_WORDS = 0.5
"""Seconds connections have at the end to take what was written to them; calls had `server.drain` before."""
QUIET = 2.0
"""Seconds without a request after which kept connections of a process that was replaced are taken for idle."""
POLL = 0.05
HANDSHAKE = 10.0
"""Seconds a client may take for its TLS handshake."""
BACKLOG = 4096

_log = logging.getLogger("runestone")


class Process:
    """`load` gives the configuration of `file` (None: there is none) anew; `ready` is told the address."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        load: Callable[[], Configuration],
        file: Path | None,
        environ: Mapping[str, str],
        ready: Callable[[str], None],
    ) -> None:
        self._configuration = configuration
        self._load = load
        self._file = file
        self._environ = environ
        self._ready = ready
        self._notifier = Notifier(environ)
        self._listeners: Listeners = {}
        self._listening: list[asyncio.Server] = []
        self._reloader: Reloader | None = None
        self._tls: ssl.SSLContext | None = None
        self._leave = asyncio.Event()
        self._is_upgrading = False
        self._is_replaced = False
        self._is_told_to_stop = False

    async def run(self) -> None:
        """Serves until it is told to stop, or is replaced. Raises OSError when it cannot listen, ConfigurationError."""
        debug = self._configuration.debug
        if not debug.core_dumps:
            keep_memory_private()
        app = build(self._configuration)
        self._take_signals()
        self._listeners = listeners_of(self._configuration, self._environ)
        async with console(debug.port, {"app": app}) if debug.console else nullcontext():
            try:
                await self._serve(app)
            finally:
                for listener in self._listeners.values():
                    listener.close()

    async def _serve(self, app: App) -> None:
        raise_file_limit(2 * sum(pool.default_size + pool.max_overflow for pool in app.pools.values()) + 256)
        app.metrics.watch_process()
        lasting = app.lasting
        lasting.heartbeat.each = self._notifier.alive
        await app.start()
        patience = Patience()
        set_patience(patience, self._configuration)
        dispatch, admin = Dispatch(app.web), Dispatch(app.admin) if app.admin is not None else None
        servers = [Server(dispatch, patience), *([Server(admin, patience)] if admin is not None else [])]
        lasting.connections = lambda: (sum(map(len, servers)), patience.connections, sum(s.refused for s in servers))
        reloader = self._reloader = Reloader(app, self._load, (dispatch, admin), patience, self._renew)
        app.tasks.keep("watch the configuration", partial(reloader.watch, self._files))
        try:
            await self._listen(servers[0], servers[-1])
            settle_memory()
            await self._leave.wait()
            await self._finish(reloader.app, servers, [dispatch, *([admin] if admin is not None else [])])
        finally:
            for listening in self._listening:
                listening.close()
            for server in servers:
                await server.close(LAST_WORDS)
            await reloader.app.close(keep=not self._is_replaced)

    async def _listen(self, server: Server, admin: Server) -> None:
        told = self._configuration.server
        if told.tls_cert is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(told.tls_cert, told.tls_key)
        loop = asyncio.get_running_loop()
        for name, listener in self._listeners.items():
            self._listening.append(
                await loop.create_server(
                    admin if name == ADMIN else server,
                    sock=listener,
                    ssl=self._tls,
                    backlog=BACKLOG,
                    ssl_handshake_timeout=HANDSHAKE if self._tls is not None else None,
                )
            )
        address = f"{'https' if self._tls is not None else 'http'}://{address_of(self._listeners[HTTP])}"
        self._ready(address)
        sockets = self._configuration.websocket
        if sockets.enabled and sockets.port is None and WEBSOCKET not in self._listeners:
            _log.info("port %d is taken: WebSockets are at %s alone", USUAL, address)
        for name, listener in self._listeners.items():
            if name != HTTP:
                _log.info("%s is at %s too", name, address_of(listener))
        successor.say_ready(self._environ)
        self._notifier.ready(f"serves on {address}")

    async def _finish(self, app: App, servers: list[Server], dispatches: list[Dispatch]) -> None:
        """Nothing new is taken; what runs ends."""
        for listening in self._listening:
            listening.close()
        app.live.sessions.drain()
        if self._is_replaced:
            self._notifier.mute()
            for dispatch in dispatches:
                dispatch.leave()
            _log.info(
                "a new process serves: this one finishes what runs", extra={"fields": {"calls": app.running.count}}
            )
            await self._until_quiet(app, servers, dispatches)
        else:
            self._notifier.stopping()
        await app.running.drain(self._configuration.server.drain)
        app.live.sessions.close()

    async def _until_quiet(self, app: App, servers: list[Server], dispatches: list[Dispatch]) -> None:
        """Waits for what runs, and until nobody sends requests any more over connections that are kept."""
        latest = monotonic() + app.configuration.routing.timeouts.total
        while not self._is_told_to_stop and monotonic() < latest:
            is_silent = monotonic() - max(dispatch.last for dispatch in dispatches) >= QUIET
            if not app.running.count and (is_silent or not any(map(len, servers))):
                return
            await asyncio.sleep(POLL)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._upgrade)

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
            self._reloader.ask(lambda: self._notifier.ready("serves; has read its configuration again"))

    def _upgrade(self) -> None:
        if self._reloader is None or self._leave.is_set() or self._is_upgrading:
            return
        self._is_upgrading = True
        self._reloader.app.tasks.start("start a successor", self._hand_over(self._reloader.app))

    async def _hand_over(self, app: App) -> None:
        try:
            await app.cache.save()
            process = await successor.start(self._listeners, self._environ)
        except successor.NoSuccessor as error:
            _log.error("not replaced, this process goes on: %s", error)
            self._is_upgrading = False
            self._notifier.ready("serves; an upgrade has failed")
            return
        _log.info("replaced", extra={"fields": {"by": process.pid}})
        self._is_replaced = True
        self._leave.set()

    def _renew(self, configuration: Configuration) -> None:
        """After a reload: what the process itself holds."""
        server = configuration.server
        if self._tls is not None and server.tls_cert is not None:
            self._tls.load_cert_chain(server.tls_cert, server.tls_key)
        set_level(configuration.log.level)
        self._configuration = configuration

    def _files(self) -> list[Path]:
        """What a reload would read."""
        server = self._configuration.server
        return [Path(file) for file in (self._file, server.tls_cert, server.tls_key) if file is not None]


async def serve(
    configuration: Configuration,
    *,
    load: Callable[[], Configuration],
    file: Path | None,
    ready: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. See Process."""
    await Process(configuration, load=load, file=file, environ=os.environ, ready=ready).run()
