"""The way out of one connection: what is told in one turn of the loop leaves in one write.

While the socket takes everything, nothing is held back longer than that turn. When it does not, streams wait
(`is_full`) and what must be said all the same waits here, bounded; a client that takes nothing for too long, or lets
too much wait, is cut.
Rule: frames go to the transport whole, so that aiohttp's own (pings, pongs, the close) may come between them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from runestone.dialects.socket import frame
from runestone.edge.server import Connection

SENT = 64 * 1024
"""Bytes the kernel holds for a client: what is lost with a connection must be kept to be sent again."""
LARGE = 64 * 1024
"""Bytes of one write, beyond which streams wait for the next."""


@dataclass(slots=True)
class Tally:
    """Messages of all connections, since the start."""

    received: int = 0
    sent: int = 0


class Socket:
    """`stall` seconds a client may take nothing, `max_waiting` bytes may wait for it; then `cut(reason)` is called,
    once. `close(code, reason)` ends the connection as WebSockets do.
    """

    __slots__ = (
        *("_cut", "_is_cut", "_is_told", "_loop", "_max_waiting", "_protocol", "_size", "_stall"),
        *("_tally", "_timer", "_waiting", "close", "when_free"),
    )

    def __init__(
        self,
        protocol: Connection,
        tally: Tally,
        *,
        stall: float,
        max_waiting: int,
        cut: Callable[[str], None],
        close: Callable[[int, str], None],
    ) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._stall = stall
        self._max_waiting = max_waiting
        self.when_free: Callable[[], None] | None = None
        """Called when there is room again."""
        self._cut = cut
        self.close = close
        self._tally = tally
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_told = False  # that there is something to write
        self._is_cut = False
        self._timer: asyncio.TimerHandle | None = None
        protocol.when_writable = self._go_on
        protocol.when_blocked = self._watch
        transport = protocol.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT)

    @property
    def is_full(self) -> bool:
        """Whether streams must wait until `when_free` is called."""
        return self._is_blocked() or self._size >= LARGE

    def _is_blocked(self) -> bool:
        return self._protocol.writing_paused

    @property
    def unsent(self) -> int:
        """Bytes that have not reached the kernel."""
        transport = self._protocol.transport
        return self._size + (transport.get_write_buffer_size() if transport is not None else 0)

    def send(self, message: bytes) -> None:
        """Writes a message, at the end of this turn of the loop."""
        if self._is_cut:
            return
        data = frame(message)
        self._tally.sent += 1
        if self._size > self._max_waiting and self._is_blocked():
            self._end("too much waits for it")
            return
        self._waiting.append(data)
        self._size += len(data)
        if not self._is_blocked() and not self._is_told:
            self._is_told = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what waits."""
        self._is_told = False
        transport = self._protocol.transport
        if not self._waiting or transport is None or transport.is_closing() or self._is_blocked():
            return
        waiting, was_large, self._waiting, self._size = self._waiting, self._size >= LARGE, [], 0
        transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        if was_large and not self._is_blocked() and self.when_free is not None:
            self.when_free()

    def _watch(self) -> None:
        """Cuts a client that takes nothing of what waits, whoever wrote it."""
        transport = self._protocol.transport
        if self._timer is None and transport is not None:
            left = transport.get_write_buffer_size()
            self._timer = self._loop.call_later(self._stall, self._look, transport, left)

    def _look(self, transport: asyncio.WriteTransport, left: int) -> None:
        self._timer = None
        if transport.get_write_buffer_size() < left:
            self._watch()
        else:
            self._end("it has taken nothing for too long")

    def release(self) -> None:
        """The connection is over."""
        self._is_cut = True
        self._waiting.clear()
        self._protocol.when_writable = self._protocol.when_blocked = None
        # These lead back to here: without them a closed connection is freed at once, and not when the collector comes.
        self.when_free = None
        self.close, self._cut = _close_nothing, _cut_nothing
        self._no_timer()

    def _go_on(self) -> None:
        self._no_timer()
        self.flush()
        if not self.is_full and self.when_free is not None:
            self.when_free()

    def _end(self, reason: str) -> None:
        """A full socket takes no close frame either: the connection is ended below it."""
        if not self._is_cut:
            cut = self._cut
            self.release()
            transport = self._protocol.transport
            if transport is not None:
                transport.abort()
            cut(reason)

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _close_nothing(code: int, reason: str) -> None:
    """The connection is over."""


def _cut_nothing(reason: str) -> None:
    """The connection is over."""
