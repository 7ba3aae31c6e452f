"""All sessions of the process: opened, found again, let go of when nobody came back, closed at the end.

Rule: a session is found by its id and the key it began with; who has neither learns nothing, not even that it exists.
Deliberately absent: sessions that outlive the process: what they wait for, the provider's streams, does not either.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from time import perf_counter

from runestone.core.call import Caller, is_same
from runestone.core.outbox import Ledger, Outbox
from runestone.edge.websocket.session import Session
from runestone.edge.websocket.socket import Socket, Tally

AWAY = 1001
"""The close code of a server that goes away."""
POLICY = 1008
"""Of one that will not have this client."""


class Sessions:
    """At most `most` with a connection, and as many more without. `resumable_for` seconds a session waits for its
    client; `max_kept` bytes are kept for each, `max_bytes` for all. `leave` is told of sessions that are over.
    """

    def __init__(
        self, *, most: int, resumable_for: float, max_kept: int, max_bytes: int, leave: Callable[[Session], None]
    ) -> None:
        self.resumable_for = resumable_for
        self.tally = Tally()
        self.is_draining = False
        self.connections = 0
        """Open now, those that are still shaking hands too."""
        self.most = most
        """Connections that may be open."""
        self.max_kept = max_kept
        self._ledger = Ledger(max_bytes)
        self._leave = leave
        self._there: dict[str, Session] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._away: dict[str, tuple[Session, asyncio.TimerHandle]] = {}  # who has been away longest first

    def __iter__(self) -> Iterator[Session]:
        """Those with a connection."""
        return iter(tuple(self._there.values()))

    @property
    def away(self) -> int:
        """Sessions that wait for their client."""
        return len(self._away)

    @property
    def has_room(self) -> bool:
        """Whether one more connection may be open."""
        return self.connections < self.most

    def open(self, caller: Caller, socket: Socket) -> Session:
        """A new session."""
        outbox = Outbox(max_kept=self.max_kept, keep_for=self.resumable_for, ledger=self._ledger)
        session = Session(f"session_{secrets.token_hex(16)}", caller, outbox, self._close_if_over)
        session.socket = socket
        self._there[session.id] = session
        if self._sweeper is None and self.resumable_for:
            self._sweeper = asyncio.get_running_loop().call_later(self.resumable_for, self._sweep)
        return session

    def resume(self, identity: str, caller: Caller, last_seq: int) -> tuple[Session, list[bytes]] | str:
        """The session and what its client missed; or why that cannot be. It has no connection any more, if it had
        one still: that one is closed.
        """
        waiting = self._away.get(identity)
        session = waiting[0] if waiting is not None else self._there.get(identity)
        if session is None or not is_same(session.caller, caller):
            return "there is no such session here: it is over, was another process's, or never was"
        if last_seq > session.outbox.last:
            return f"'last_seq' is {last_seq}, and the session has sent {session.outbox.last} messages"
        missed = session.outbox.after(last_seq)
        if missed is None:
            return "more was missed than is kept"
        if waiting is not None:
            waiting[1].cancel()
            del self._away[identity]
        old, session.socket = session.socket, None
        if old is not None:
            old.close(1008, "the session goes on with another connection")
        session.outbox.come_back()
        self._there[identity] = session
        return session, missed

    def lose(self, session: Session) -> None:
        """The client's connection is gone; the session waits for it."""
        del self._there[session.id]
        session.socket = None
        session.outbox.leave()
        if self.is_draining or not self.resumable_for:
            self._end(session)
            return
        timer = asyncio.get_running_loop().call_later(self.resumable_for, self._expire, session)
        self._away[session.id] = session, timer
        if len(self._away) > self.most:  # whom it costs least: the oldest that nothing runs for, else the oldest
            oldest = next((one for one, _ in self._away.values() if not one.works), None)
            self._expire(oldest or next(iter(self._away.values()))[0])
        session.free()  # what waited for the socket has room again, in the outbox

    def drop(self, session: Session) -> None:
        """A session is over, connection or not."""
        if self._there.pop(session.id, None) is not None:
            session.socket = None
            self._end(session)

    def revoke(self, is_revoked: Callable[[Caller], bool]) -> None:
        """Lets go of the sessions of these callers: those nothing runs for now, the others as soon as that is so."""
        for session in tuple(self._there.values()):
            if is_revoked(session.caller):
                session.is_revoked = True
                self._close_if_over(session)
        for session, _ in tuple(self._away.values()):
            if is_revoked(session.caller):
                self._expire(session)

    def drain(self) -> None:
        """Closes the connections nothing runs for now, and the others as soon as that is so."""
        self.is_draining = True
        for session in tuple(self._there.values()):
            self._close_if_over(session)
        for session, _ in tuple(self._away.values()):
            if not session.works:
                self._expire(session)

    def close(self) -> None:
        """Ends every session."""
        self.is_draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in tuple(self._there.values()):
            if session.socket is not None:
                session.socket.close(AWAY, "the gateway is shutting down")
            self.drop(session)
        for session, _ in tuple(self._away.values()):
            self._expire(session)

    def _close_if_over(self, session: Session) -> None:
        if session.works or session.socket is None:
            return
        if session.is_revoked:
            session.socket.close(POLICY, "the key of this connection has changed")
            self.drop(session)
        elif self.is_draining:
            session.socket.close(AWAY, "the gateway is shutting down")

    def _sweep(self) -> None:
        """Lets go of what clients that are there and say nothing have had long ago."""
        now = perf_counter()
        for session in self._there.values():
            session.outbox.forget(now)
        self._sweeper = None
        if self._there:
            self._sweeper = asyncio.get_running_loop().call_later(self.resumable_for, self._sweep)

    def _expire(self, session: Session) -> None:
        _, timer = self._away.pop(session.id)
        timer.cancel()
        self._end(session)

    def _end(self, session: Session) -> None:
        for work in tuple(session.works.values()):
            work.abandon()
        self._leave(session)
        session.outbox.close()
