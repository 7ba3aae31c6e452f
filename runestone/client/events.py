"""Server-sent events with their ids, out of bytes fed at any split.

Rule: an event counts when the empty line behind it has come; what a lost connection left unfinished is never told.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6
Deliberately absent: `event` and `retry` fields; the streams that are read here have none that matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from runestone.client.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is None where the event has none of its own."""

    id: str | None
    data: bytes


class Events:
    """Reads one connection's stream; `most` bytes of an event."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []  # of a line that has not ended, and their bytes
        self._rest = 0
        self._lines: list[bytes] = []  # of an event that has not, and theirs
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that became whole. Raises TooLarge."""
        self._parts.append(data)
        self._rest += len(data)
        found = []
        if b"\n" in data or b"\r" in data:
            text = b"".join(self._parts)
            # A carriage return at the end may be half of a line break.
            held = text[-1:] if text.endswith(b"\r") else b""
            lines = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            self._parts = [lines.pop() + held]
            self._rest = len(self._parts[0])
            for line in lines:
                if line:
                    self._lines.append(line)
                    self._size += len(line)
                    self._check(self._size)
                elif self._lines:
                    event = _event(self._lines)
                    self._lines.clear()
                    self._size = 0
                    if event is not None:
                        found.append(event)
        self._check(self._size + self._rest)
        return found

    def _check(self, size: int) -> None:
        if size > self._most:
            raise TooLarge(f"an event of more than {self._most} bytes")


def _event(lines: list[bytes]) -> Event | None:
    """One event, None when it has no data (a comment, a lone id)."""
    identity: str | None = None
    data: list[bytes] = []
    for line in lines:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"id" and b"\0" not in value:
            identity = value.decode("utf-8", "replace")
    return Event(identity, b"\n".join(data)) if data else None
