"""A way into the running process, where `[debug] console` asks for it: aiomonitor, on loopback.

    telnet 127.0.0.1 PORT        tasks: `ps`, `where`, `cancel`; `console` opens the Python below
    http://127.0.0.1:PORT + 1    the same tasks, as a page
    PORT + 2, while it is open   Python inside the process, with `app` (app.App)

Rule: never there unless asked for. Whoever reaches it can run code in this process: everybody on the machine, and a web
page in a browser there as well. It is for looking, not for leaving on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from threading import Thread
from typing import Any

from runestone.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
PORTS = 3
ENDING = 3.0
"""Seconds those who look have to end."""

_log = logging.getLogger("runestone.debug")


@asynccontextmanager
async def console(port: int, there: dict[str, object]) -> AsyncIterator[None]:
    """Open as long as the block runs; `there` is what its Python finds. Raises ConfigurationError when aiomonitor is
    not installed, or a port is taken.
    """
    try:
        start: Any = import_module("aiomonitor").start_monitor
    except ImportError:
        problem = "needs the extra `debug`: pip install 'runestone[debug]'"
        raise ConfigurationError([f"configuration:debug.console: {problem}"]) from None
    _check(port)
    loop = asyncio.get_running_loop()
    monitor: Any = start(
        loop, host=LOOPBACK, port=port, webui_port=port + 1, console_port=port + 2, locals={**there, "loop": loop}
    )
    _log.warning("the debug console is open on %s:%d: whoever reaches it runs code in this process", LOOPBACK, port)
    try:
        yield
    finally:
        # Whoever is in there needs this loop to leave, so it goes on meanwhile; and whoever does not leave is left.
        ended = asyncio.Event()
        Thread(target=_end, args=(monitor, loop, ended), name="end of the debug console", daemon=True).start()
        try:
            async with asyncio.timeout(ENDING):
                await ended.wait()
        except TimeoutError:
            _log.warning("the debug console did not end in time")


def _check(port: int) -> None:
    """A port that is taken would be found by aiomonitor's thread, and waited for here for ever."""
    if not 0 < port <= 65535 - (PORTS - 1):
        raise ConfigurationError([f"configuration:debug.port: must be 1 to {65535 - (PORTS - 1)}: two more follow it"])
    for number in range(port, port + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, number))
            except OSError as error:
                problem = f"{LOOPBACK}:{number} cannot be used: {error.strerror}"
                raise ConfigurationError([f"configuration:debug.port: {problem}"]) from None


def _end(monitor: Any, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    monitor.close()
    with suppress(RuntimeError):  # the loop may be over by now
        loop.call_soon_threadsafe(ended.set)
