"""A client's side of a conversation that outlives its connections: its numbered messages, its streams, its rooms.

Rule: all that the client hears goes through `tell`, gets its number there, and is kept until it has surely arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Protocol

import orjson

from runestone.core.call import Caller
from runestone.core.json import JsonObject
from runestone.core.outbox import Outbox
from runestone.dialects.socket import Ref, write
from runestone.edge.websocket.socket import Socket


class Work(Protocol):
    """Something that runs for a session: a stream, an answer."""

    def wake(self) -> None:
        """There may be room to go on."""

    def abandon(self) -> None:
        """The session is over."""


class Session:
    """`idle(session)` is called whenever nothing runs for it any more."""

    __slots__ = ("_idle", "caller", "id", "is_revoked", "outbox", "received", "rooms", "socket", "works")

    def __init__(self, identity: str, caller: Caller, outbox: Outbox, idle: Callable[[Session], None]) -> None:
        self.id = identity
        self.caller = caller
        self.outbox = outbox
        self.socket: Socket | None = None
        self.is_revoked = False
        """Its key is not what it was: what runs goes on, and nothing new begins."""
        self.received = 0
        """Messages the client has sent, without pings and resumes."""
        self.works: dict[str, Work] = {}
        """What runs, by its id: streams and whole answers."""
        self.rooms: set[str] = set()
        self._idle = idle

    @property
    def is_full(self) -> bool:
        """Whether streams must wait: the client's socket takes no more, or the client is away and much waits for it."""
        return self.socket.is_full if self.socket is not None else self.outbox.is_full

    def tell(self, event: str, payload: bytes | JsonObject, ref: Ref = None) -> None:
        """Sends a message, now or when the client is back."""
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        message = write(event, body, self.outbox.next, ref)
        socket = self.socket
        self.outbox.put(message, perf_counter(), socket.unsent if socket is not None else 0)
        if socket is not None:
            socket.send(message)

    def refuse(self, code: str, message: str, ref: Ref = None) -> None:
        """Sends an `error`."""
        self.tell("error", {"code": code, "message": message, "ref": ref}, ref)

    def free(self) -> None:
        """There is room: whatever waits goes on."""
        for work in tuple(self.works.values()):
            work.wake()

    def done(self, identity: str) -> None:
        """A stream or an answer is over."""
        self.works.pop(identity, None)
        if not self.works:
            self._idle(self)


def timestamp() -> str:
    """Now, as messages say it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
