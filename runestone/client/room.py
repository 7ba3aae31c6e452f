"""A room that a session is in: the streams that anybody begins there.

Rule: what is not taken is bounded, in streams here and in bytes by each stream; past the bound the oldest are let go of
and the reader is told so, once.
Absent: a deadline for the next stream. A room may be silent for as long as it likes; its session ends the wait when
there is no connection to be had.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from runestone.client.errors import ClientError, Overrun, another
from runestone.client.stream import Stream


class Room:
    """`async for stream in room` gives each stream that begins in the room or runs there already, those of this session
    too: they are the objects that `session.stream` returned, so read them in one place. It ends when the room is left,
    and raises SessionLost or ConnectionLost when the session does; Overrun when streams were not taken in time, after
    which one may go on.
    """

    def __init__(self, name: str, *, most: int, leave: Callable[[Room], Awaitable[None]]) -> None:
        self.name = name
        self.members = 0
        """How many were in it, this session included, when it was joined or left."""
        self.streams: tuple[str, ...] = ()
        """The ids of the streams that ran there when it was joined."""
        self.is_open = True
        self._most = most
        self._leave = leave
        self._begun: deque[Stream] = deque()
        self._missed = 0
        self._error: ClientError | None = None
        self._changed = asyncio.Event()

    def __aiter__(self) -> Room:
        return self

    async def __anext__(self) -> Stream:
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                raise Overrun(f"{missed} streams of the room {self.name!r} were not taken in time", code="overrun")
            if self._begun:
                return self._begun.popleft()
            if not self.is_open:
                if self._error is not None:
                    raise another(self._error)
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    async def leave(self) -> None:
        """Leaves the room. Streams of it that still run are not heard any more, one's own included: they fail with the
        code `left`. Without effect when it was left before. Raises TimedOut, ConnectionLost, SessionLost, QueueFull.
        """
        if self.is_open:
            await self._leave(self)

    def began(self, stream: Stream) -> None:
        """A stream has begun. For the session."""
        self._begun.append(stream)
        if len(self._begun) > self._most:
            self._begun.popleft()
            self._missed += 1
        self._changed.set()

    def close(self, error: ClientError | None = None) -> None:
        """The room was left, or its session is over. For the session."""
        if self.is_open:
            self.is_open = False
            self._error = error
            self._changed.set()
