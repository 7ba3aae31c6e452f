"""Runs an application until it is told to stop: sockets, signals, draining, memory.

Rule: the first SIGTERM or SIGINT drains, a second one ends the process at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import nullcontext

from aiohttp import web

from runestone.app import App, build
from runestone.config.schema import Configuration
from runestone.debug import console
from runestone.edge.server import HTTP_LIMITS, Runner

SOCKETS = 4005
"""The second port, where `websocket.port` does not say."""
LAST_WORDS = 0.5
"""Seconds connections have at the end to take what was written to them; calls had `server.drain` before."""

_log = logging.getLogger("runestone")


async def serve(configuration: Configuration, *, ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `ready` is told the address. Raises OSError when it cannot
    listen.
    """
    app = build(configuration)
    debug = configuration.debug
    async with console(debug.port, {"app": app}) if debug.console else nullcontext():
        await _serve(app, configuration, ready)


async def _serve(app: App, configuration: Configuration, ready: Callable[[str], None]) -> None:
    server = configuration.server
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, loop)
    runner = Runner(
        app.web,
        keepalive_timeout=server.keep_alive,
        shutdown_timeout=LAST_WORDS,
        **HTTP_LIMITS,
    )
    _raise_file_limit(app)
    app.metrics.watch_process()
    await app.start()
    try:
        await runner.setup()
        tls = _tls(server.tls_cert, server.tls_key)
        listeners = _listeners(configuration)
        sites = [web.SockSite(runner, listener, ssl_context=tls, backlog=1024) for listener in listeners]
        for site in sites:
            await site.start()
        host, port = listeners[0].getsockname()[:2]
        ready(f"{'https' if server.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}")
        if len(listeners) == 1 and configuration.websocket.enabled and configuration.websocket.port != 0:
            _log.info("port %d is taken: WebSockets are at port %d alone", SOCKETS, port)
        for other in listeners[1:]:
            _log.info("WebSockets are at port %d too", other.getsockname()[1])
        _settle_memory()
        await stop.wait()
        app.health.draining = True
        for site in sites:
            await site.stop()
        app.live.sessions.drain()
        await app.running.drain(server.drain)
        app.live.sessions.close()
    finally:
        await runner.cleanup()
        await app.close()


def _raise_file_limit(app: App) -> None:
    """Takes what the system allows, and says so when that is less than the pools may need: a stream is two sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * sum(pool.default_size + pool.max_overflow for pool in app.pools.values()) + 256
    if soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        if wanted < needed:
            _log.warning("the file limit is %d, and the pools may need %d: raise it (ulimit -n)", wanted, needed)


def _settle_memory() -> None:
    """Takes what was built out of the collector's sight, and has it look at the rest less often.

    Calls free what they make by reference counting. By default the collector runs every few calls, and walking the
    whole program each time is what the slowest of them wait for.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _stop(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """The first signal drains; the default action of a second one ends the process at once."""
    stop.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


def _listeners(configuration: Configuration) -> list[socket.socket]:
    """The ports of the configuration. Raises OSError where one is taken; the usual WebSocket port may be."""
    server, sockets = configuration.server, configuration.websocket
    listeners = [_listen(server.host, server.port)]
    if not sockets.enabled or sockets.port == 0:
        return listeners
    try:
        listeners.append(_listen(server.host, SOCKETS if sockets.port is None else sockets.port))
    except OSError:
        if sockets.port is not None:
            listeners[0].close()
            raise
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
