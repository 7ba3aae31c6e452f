"""Who hears which streams. A room is there while somebody is in it.

Rule: rooms belong to a tenant (a key without one is its own, callers without a key share one), and nobody sees those
of another.
"""

from __future__ import annotations

from typing import Protocol

from runestone.core.call import ANONYMOUS, Caller
from runestone.core.json import JsonObject
from runestone.edge.websocket.session import Session

MAX_NAME = 200
"""Characters of a room's name."""

Key = tuple[str, str]


class Heard(Protocol):
    """A stream of a room."""

    id: str

    def introduce(self, session: Session) -> None:
        """Tells somebody who came late what has been said."""

    def cancel(self) -> None:
        """Nobody is there any more."""


class Room:
    """Its members, in the order they came, and the streams that run in it."""

    __slots__ = ("members", "name", "streams")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Session] = {}
        self.streams: dict[str, Heard] = {}

    def told(self) -> JsonObject:
        """What `room:joined` and `room:left` say."""
        return {"room": self.name, "members": len(self.members), "streams": list(self.streams)}


class Rooms:
    """All rooms. `most_members` in each, of those who come from now on."""

    def __init__(self, *, most_members: int) -> None:
        self.most_members = most_members
        self._rooms: dict[Key, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def find(self, session: Session, name: str) -> Room | None:
        """The room, if the session is in it."""
        return self._rooms[_key(session.caller, name)] if name in session.rooms else None

    def join(self, session: Session, name: str) -> Room | None:
        """The room, with the session in it; None when it is full."""
        key = _key(session.caller, name)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(name)
        if session.id not in room.members:
            if len(room.members) >= self.most_members:
                return None
            room.members[session.id] = session
            session.rooms.add(name)
        return room

    def leave(self, session: Session, name: str) -> Room:
        """The room without the session, which was in it. When it was the last, what runs there ends."""
        key = _key(session.caller, name)
        room = self._rooms[key]
        session.rooms.discard(name)
        del room.members[session.id]
        if not room.members:
            del self._rooms[key]
            for stream in tuple(room.streams.values()):
                stream.cancel()
        return room

    def leave_all(self, session: Session) -> None:
        """The session is over."""
        for name in tuple(session.rooms):
            self.leave(session, name)


def _key(caller: Caller, name: str) -> Key:
    if caller is ANONYMOUS:
        return "nobody", name
    return (f"tenant {caller.tenant}" if caller.tenant else f"key {caller.name}"), name
