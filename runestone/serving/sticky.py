"""Connections that show the same key go to the same worker: what is per process, its cache, its limits, the calls that
are collapsed, is then per key exact.

The worker that accepts a connection looks at its first request without taking it, and hands the socket to the worker
whose turn the key is. Who shows no key, or one that is not listed, stays where it was accepted.
Rules: the first request of a connection decides for all of it; a worker that does not take it, and a head that does
not come, leave it here.
Deliberately absent: TLS, where nothing can be read before the handshake; and fronts that send many clients' requests
over one connection: they hash the key themselves (deploy/nginx).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from array import array
from collections.abc import Callable, Coroutine
from hashlib import sha256
from pathlib import Path

from multidict import CIMultiDict

from runestone.edge.request import socket_credential
from runestone.edge.server import Server

LONGEST = 16 * 1024
"""Bytes of a head that are looked at."""
AT_ONCE = 100
"""Connections that are accepted in one turn of the loop."""
MOST = 4096
"""Connections that are looked at, at a time."""
END = b"\r\n\r\n"

Start = Callable[[str, Coroutine[object, object, None]], object]

_log = logging.getLogger("runestone.sticky")


def worker_of(head: bytes, count: int, is_known: Callable[[str], bool] = lambda key: True) -> int | None:
    """Whose turn it is, by the key in the head of a request; None without one that is known."""
    headers: CIMultiDict[str] = CIMultiDict()
    for line in head.partition(END)[0].split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        headers.add(name.strip(), value.strip())
    key = socket_credential(headers)
    if key is None or not is_known(key):
        return None
    return int.from_bytes(sha256(key.encode("utf-8", "surrogateescape")).digest()[:8]) % count


def place_of(folder: Path, index: int) -> str:
    """Where worker `index` takes sockets."""
    return str(folder / f"{index}.sockets")


class Sticky:
    """Accepts for worker `index` of `count`. `servers` by the listeners' names; `patience()` in seconds for a head;
    `is_known` knows the keys that are listed; `start` runs something in a task that somebody owns.
    """

    def __init__(
        self,
        folder: Path,
        index: int,
        count: int,
        *,
        servers: dict[str, Server],
        patience: Callable[[], float],
        is_known: Callable[[str], bool],
        start: Start,
    ) -> None:
        self._folder = folder
        self._index = index
        self._count = count
        self._servers = servers
        self._patience = patience
        self._is_known = is_known
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._looking: dict[socket.socket, asyncio.TimerHandle] = {}
        self._listeners: list[socket.socket] = []
        self._given = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._given.setblocking(False)
        place = Path(place_of(folder, index))
        place.unlink(missing_ok=True)  # of the worker that was here before
        self._given.bind(str(place))
        self._loop.add_reader(self._given.fileno(), self._take)

    def listen(self, name: str, listener: socket.socket, backlog: int) -> None:
        """Accepts from `listener` from now on."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._listeners.append(listener)
        self._loop.add_reader(listener.fileno(), self._accept, name, listener)

    def close(self) -> None:
        """Accepts nothing more; what is being looked at is served here."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._listeners.clear()
        if self._given.fileno() >= 0:
            self._loop.remove_reader(self._given.fileno())
            self._given.close()

    def _accept(self, name: str, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file descriptors left: those who wait may wait a little more
                _log.warning("a connection cannot be accepted: %s", error.strerror)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(1.0, self._accept_again, name, listener)
                return
            connection.setblocking(False)
            if len(self._looking) >= MOST:  # enough that say nothing: the server has limits for them
                self._keep(name, connection)
                continue
            self._looking[connection] = self._loop.call_later(self._patience(), self._keep, name, connection)
            self._loop.add_reader(connection.fileno(), self._look, name, connection)

    def _accept_again(self, name: str, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, name, listener)

    def _look(self, name: str, connection: socket.socket) -> None:
        try:
            head = connection.recv(LONGEST, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            head = b""
        if head and END not in head and len(head) < LONGEST:
            # It is there and stays there, so the loop would come back at once: only when there is more.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(head) + 1)
            return
        worker = worker_of(head, self._count, self._is_known) if head else None
        if worker is None or worker == self._index or not self._hand_over(name, connection, worker):
            self._keep(name, connection)

    def _hand_over(self, name: str, connection: socket.socket, worker: int) -> bool:
        self._release(connection)
        try:
            # Not socket.send_fds, which leaves out the flags and the address it is given.
            self._given.sendmsg(
                [name.encode()],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [connection.fileno()]))],
                socket.MSG_DONTWAIT,
                place_of(self._folder, worker),
            )
        except OSError:  # it is not there now, or has no room
            return False
        connection.close()
        return True

    def _keep(self, name: str, connection: socket.socket) -> None:
        self._release(connection)
        self._start("take a connection", self._serve(name, connection))

    def _release(self, connection: socket.socket) -> None:
        timer = self._looking.pop(connection, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_reader(connection.fileno())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _take(self) -> None:
        """Sockets that other workers hand over."""
        for _ in range(AT_ONCE):
            try:
                name, descriptors, _, _ = socket.recv_fds(self._given, 16, 1, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return
            for descriptor in descriptors:
                if name.decode("latin-1") in self._servers:
                    self._keep(name.decode("latin-1"), socket.socket(fileno=descriptor))
                else:
                    os.close(descriptor)

    async def _serve(self, name: str, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._servers[name], connection)
        except OSError:
            connection.close()  # its client has gone
