"""Listeners, by name: `http`, `websocket` (a second port for the same), `admin`.

    from a process before, or the parent   RUNESTONE_LISTENERS=http=3,websocket=4*    (*: systemd's)
    from systemd (sd_listen_fds(3))        LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES: by these names, else in this order
    otherwise                              bound to what the configuration says

Rules: a socket that was handed over is used where it is bound to what is configured now; one from systemd always is,
its unit says where, also after it was handed over. Nothing listens beyond loopback unless the configuration says so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from runestone.config.schema import Configuration

HTTP, WEBSOCKET, ADMIN = "http", "websocket", "admin"
NAMES: Final = (HTTP, WEBSOCKET, ADMIN)
USUAL: Final = 4005
"""The second port, where `websocket.port` does not say."""
HANDED_OVER: Final = "RUNESTONE_LISTENERS"
FIRST: Final = 3
"""systemd's first descriptor."""
SYSTEMDS: Final = "*"
"""Behind the number of a socket that systemd opened."""

Listeners = dict[str, socket.socket]


def listeners_of(configuration: Configuration, environ: Mapping[str, str]) -> Listeners:
    """The sockets to serve on, bound; whether they listen yet depends on where they come from. Raises OSError where
    one cannot be bound; the usual WebSocket port may be taken.
    """
    given, systemds = _given(environ)
    listeners: Listeners = {}
    try:
        for name, (host, port, is_needed) in _wanted(configuration).items():
            if name in given and (name in systemds or _is_there(given[name], host, port)):
                listeners[name] = given.pop(name)
            elif not systemds or is_needed:
                try:
                    listeners[name] = listen(host, port)
                except OSError:
                    if is_needed:
                        raise
    except OSError:
        for listener in listeners.values():
            listener.close()
        raise
    for left in given.values():
        left.close()
    return listeners


def listen(host: str, port: int) -> socket.socket:
    """A socket bound there. Raises OSError, whose `filename` is the address."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        error.filename = f"{host}:{port}"
        raise
    return listener


def handed_on(listeners: Listeners, environ: Mapping[str, str]) -> str:
    """What a process that inherits the descriptors of `listeners` is told in RUNESTONE_LISTENERS; `environ` is that of
    this one.
    """
    systemds = {name for name, _, is_systemds in _told(environ) if is_systemds}
    numbers = {
        name: f"{listener.fileno()}{SYSTEMDS if name in systemds else ''}" for name, listener in listeners.items()
    }
    return ",".join(f"{name}={number}" for name, number in numbers.items())


def address_of(listener: socket.socket) -> str:
    """host:port, as a URL has it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _wanted(configuration: Configuration) -> dict[str, tuple[str, int, bool]]:
    """(host, port, whether it must be had) by name."""
    server, sockets = configuration.server, configuration.websocket
    wanted = {HTTP: (server.host, int(server.port), True)}
    if sockets.enabled and sockets.port != 0:
        wanted[WEBSOCKET] = (
            server.host,
            USUAL if sockets.port is None else int(sockets.port),
            sockets.port is not None,
        )
    if server.admin_port is not None:
        wanted[ADMIN] = (server.admin_host, int(server.admin_port), True)
    return wanted


def _given(environ: Mapping[str, str]) -> tuple[Listeners, set[str]]:
    """The sockets that are there already, and which of them are systemd's."""
    given: Listeners = {}
    told = _told(environ)
    for name, number, _ in told:
        given[name] = socket.socket(fileno=number)
        given[name].set_inheritable(False)
    return given, {name for name, _, is_systemds in told if is_systemds}


def _told(environ: Mapping[str, str]) -> list[tuple[str, int, bool]]:
    """(name, descriptor, whether it is systemd's) of each that is there already."""
    if HANDED_OVER in environ:
        parts = [part.partition("=") for part in environ[HANDED_OVER].split(",") if part]
        return [(name, int(number.rstrip(SYSTEMDS)), number.endswith(SYSTEMDS)) for name, _, number in parts]
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    are_ours = all(name in NAMES for name in names) and len(set(names)) == count
    row = zip(names if are_ours else NAMES, range(FIRST, FIRST + count), strict=False)
    return [(name, number, True) for name, number in row]


def _is_there(listener: socket.socket, host: str, port: int) -> bool:
    """Whether it is bound to this; port 0 is any."""
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
    bound = listener.getsockname()
    return bool(bound[0] == address[0] and port in (0, bound[1]))
