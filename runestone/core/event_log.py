"""The events of one stream, numbered and kept, so that a reader who was lost can go on where it was.

Rule: pure. Numbers are 1, 2, 3 ...; the oldest events are let go of only when a reader is past them.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

RETRY = b"retry: 500\n"
"""Milliseconds after which a browser comes back; by itself it would wait some seconds."""


class EventLog:
    """At most `max_kept` bytes, as far as the readers allow; who writes asks `is_full` first."""

    __slots__ = ("_kept", "_max_kept", "_size", "last")

    def __init__(self, max_kept: int) -> None:
        self.last = 0
        """The number of the youngest event."""
        self._max_kept = max_kept
        self._kept: deque[bytes] = deque()
        self._size = 0

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept."""
        return self.last - len(self._kept) + 1

    @property
    def is_full(self) -> bool:
        """Whether no more should be put."""
        return self._size >= self._max_kept

    def put(self, event: bytes) -> None:
        """Keeps one more, without its number."""
        self.last += 1
        data = b"id: %d\n%b" % (self.last, event)
        if self.last == 1:
            data = RETRY + data
        self._kept.append(data)
        self._size += len(data)

    def has(self, number: int) -> bool:
        """Whether a reader who had the events up to `number` can go on."""
        return self.first - 1 <= number <= self.last

    def after(self, number: int) -> bytes:
        """The events after `number`, which `has` said are here, with their ids."""
        return b"".join(islice(self._kept, number - self.first + 1, None))

    def some_after(self, number: int, most: int) -> tuple[bytes, int]:
        """The first of them, of about `most` bytes, and the number of the last: what is under way can be lost."""
        said, size = [], 0
        for event in islice(self._kept, number - self.first + 1, None):
            said.append(event)
            size += len(event)
            number += 1
            if size >= most:
                break
        return b"".join(said), number

    def forget(self, number: int) -> None:
        """Lets go of events up to `number`, as far as there is need for room."""
        while self._kept and self._size >= self._max_kept and self.first <= number:
            self._size -= len(self._kept.popleft())
