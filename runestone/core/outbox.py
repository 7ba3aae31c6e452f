"""What a session has sent, numbered and kept for a while, so that a client that lost its connection misses nothing.

While the client is there, what is old or too much is let go of: a client that answers the heartbeat has had it. While
it is away everything waits for it, up to a bound: streams are asked to stop before it (`is_full`), what comes all the
same pushes the oldest out, and a client that comes back for that learns it (`after` gives None).

Rule: pure; `now` is handed in. A message is put under the number that `next` gave, and never changes.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

LEAST = 16 * 1024
"""Bytes a session may always keep, when all together hold more than they may."""


class Ledger:
    """What all outboxes hold together; past `most` bytes each keeps little."""

    __slots__ = ("bytes", "most")

    def __init__(self, most: int) -> None:
        self.bytes = 0
        self.most = most


class Outbox:
    """The messages of one session: `max_kept` bytes of them, those of the last `keep_for` seconds."""

    __slots__ = (
        "_bytes",
        "_is_away",
        "_is_closed",
        "_keep_for",
        "_kept",
        "_ledger",
        "_max_kept",
        "_owed",
        "_unheard",
        "last",
    )

    def __init__(self, *, max_kept: int, keep_for: float, ledger: Ledger) -> None:
        self.last = 0
        """The number of the youngest message."""
        self._max_kept = max_kept
        self._keep_for = keep_for
        self._ledger = ledger
        self._kept: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._is_away = False
        self._is_closed = False
        self._unheard = 0
        self._owed = 0

    @property
    def next(self) -> int:
        """The number that the next message gets."""
        return self.last + 1

    @property
    def is_full(self) -> bool:
        """Whether so much waits for a client that is away that streams must wait too."""
        return self._is_away and self._unheard >= self._most

    @property
    def _most(self) -> int:
        return self._max_kept if self._ledger.bytes <= self._ledger.most else min(LEAST, self._max_kept)

    def put(self, message: bytes, now: float, unsent: int = 0) -> None:
        """Keeps a message as number `next`; `unsent` bytes of those before wait in the client's socket."""
        self.last += 1
        if self._is_closed:
            return
        self._kept.append((now, message))
        self._add(len(message))
        if self._is_away:
            self._unheard += len(message)
            most = 2 * self._most
        else:
            most = self._most + max(unsent, self._owed)
            self._owed = max(self._owed - len(message), 0)
        self.forget(now)
        while self._bytes > most and len(self._kept) > 1:
            self._add(-len(self._kept.popleft()[1]))

    def forget(self, now: float) -> None:
        """Lets go of what a client that is there has had long ago."""
        while not self._is_away and self._kept and self._kept[0][0] < now - self._keep_for:
            self._add(-len(self._kept.popleft()[1]))

    def leave(self) -> None:
        """The client is away: from now on everything is kept for it, beside what it missed before and may not have."""
        self._is_away = True
        self._unheard = self._owed

    def come_back(self) -> None:
        """It is there again, and hears what it missed: that is kept until as much more has gone out."""
        self._is_away = False
        self._owed = min(self._bytes, 2 * self._most)

    def after(self, seq: int) -> list[bytes] | None:
        """The messages after number `seq`, in order; None when they are not all here."""
        first = self.last - len(self._kept) + 1
        if not first - 1 <= seq <= self.last:
            return None
        return [message for _, message in islice(self._kept, seq - first + 1, None)]

    def close(self) -> None:
        """Lets go of everything, and keeps nothing any more."""
        self._is_closed = True
        self._kept.clear()
        self._add(-self._bytes)

    def _add(self, size: int) -> None:
        self._bytes += size
        self._ledger.bytes += size
