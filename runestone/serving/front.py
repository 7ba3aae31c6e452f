"""What clients reach: the servers behind the listeners, and how they are opened, left and closed.

    http, websocket   the public application
    admin             the private one, where it has a listener of its own
    family            what the other workers ask, in a folder of their own

Rule: nothing is closed that has not been told to go, while there is time for that.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from time import monotonic

from aiohttp.web import Application

from runestone.config.schema import Configuration
from runestone.core.keys import digest
from runestone.edge.dispatch import Dispatch
from runestone.edge.server import Patience, Server
from runestone.errors import ConfigurationError
from runestone.serving import sockets
from runestone.serving.family import Family
from runestone.serving.sockets import Listeners, address_of
from runestone.serving.sticky import Sticky
from runestone.wiring.endpoints import ADMIN, FAMILY, PUBLIC
from runestone.wiring.keys import digests_of
from runestone.wiring.lasting import Lasting

QUIET = 2.0
"""Seconds without a request after which connections that are kept are taken for idle."""
HANDSHAKE = 10.0
"""Seconds a client may take for its TLS handshake."""
BACKLOG = 4096

_log = logging.getLogger("runestone")


class Front:
    """Of a process that began with `apps`, by their names. Needs a running loop."""

    def __init__(
        self, apps: Mapping[str, Application], lasting: Lasting, configuration: Configuration, family: Family | None
    ) -> None:
        self.patience = Patience()
        self._be_patient(configuration)
        self._keys = digests_of(configuration.auth)
        self.dispatches = {name: Dispatch(app) for name, app in apps.items()}
        self._servers = {name: Server(dispatch, self.patience) for name, dispatch in self.dispatches.items()}
        self._family = family
        self._listening: list[asyncio.Server] = []
        self._sticky: Sticky | None = None
        self._tls = self._shown = _tls(configuration)
        if self._tls is not None:
            self._tls.sni_callback = self._show
        self._start = lasting.tasks.start
        self._is_sticky = configuration.server.sticky
        lasting.connections = self.connections

    def connections(self) -> tuple[int, int, int]:
        """Of clients: open now, how many may be, how many were refused."""
        servers = [server for name, server in self._servers.items() if name != FAMILY]
        return sum(map(len, servers)), self.patience.connections, sum(server.refused for server in servers)

    async def open(self, listeners: Listeners) -> str:
        """Listens; the address as a URL."""
        loop = asyncio.get_running_loop()
        family = self._family
        if family is not None:
            self._listening.append(await loop.create_unix_server(self._servers[FAMILY], family.place(family.index)))
        servers = {name: self._servers[ADMIN if name == sockets.ADMIN else PUBLIC] for name in listeners}
        if family is not None and self._is_sticky and self._tls is None:
            self._sticky = Sticky(
                family.folder,
                family.index,
                family.count,
                servers=servers,
                patience=lambda: self.patience.head,
                is_known=lambda key: digest(key) in self._keys,
                start=self._start,
            )
        for name, listener in listeners.items():
            if self._sticky is not None:
                self._sticky.listen(name, listener, BACKLOG)
                continue
            listening = await loop.create_server(
                servers[name],
                sock=listener,
                ssl=self._tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE if self._tls is not None else None,
            )
            self._listening.append(listening)
        return f"{'https' if self._tls is not None else 'http'}://{address_of(listeners[sockets.HTTP])}"

    def renewed(self, configuration: Configuration) -> Callable[[], None]:
        """Reads the certificate, which blocks; what is given back has handshakes show it from then on, and connections
        have the limits of `configuration`. Raises ConfigurationError.
        """
        read = _tls(configuration)
        keys = digests_of(configuration.auth)

        def renew() -> None:
            self._shown = read
            self._be_patient(configuration)
            self._keys = keys

        return renew

    def stop(self) -> None:
        """Accepts nothing more."""
        for listening in self._listening:
            listening.close()
        if self._sticky is not None:
            self._sticky.close()

    def leave(self) -> None:
        """Every answer from now on says that it is the last on its connection."""
        for dispatch in self.dispatches.values():
            dispatch.leave()

    def is_quiet(self) -> bool:
        """After `leave`: whether nobody sends requests any more over connections that were kept."""
        last = max(dispatch.last for dispatch in self.dispatches.values())
        return monotonic() - last >= QUIET or not any(map(len, self._servers.values()))

    async def close(self, seconds: float) -> None:
        """Ends every connection; what was written has so long to arrive."""
        self.stop()
        for server in self._servers.values():
            await server.close(seconds)

    def _be_patient(self, configuration: Configuration) -> None:
        patience, server = self.patience, configuration.server
        patience.head, patience.stall, patience.keep_alive = server.head_timeout, server.stall, server.keep_alive
        patience.connections = server.max_connections

    def _show(self, secured: ssl.SSLObject, name: str | None, listening: ssl.SSLContext) -> None:
        """At each handshake, with or without a name. A context of its own for each certificate: one into which another
        is loaded goes on to show the old one too, where their keys are of different kinds.
        """
        if self._shown is not None:
            secured.context = self._shown


def _tls(configuration: Configuration) -> ssl.SSLContext | None:
    """Raises ConfigurationError when the files are not what they were when the configuration was read."""
    server = configuration.server
    if server.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key, password=lambda: "")  # never asks the terminal
    except (OSError, ValueError):
        raise ConfigurationError(["server.tls_cert: it and tls_key have changed, and are no pair"]) from None
    return context
