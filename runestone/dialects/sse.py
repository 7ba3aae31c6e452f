"""Server-sent events, as the WHATWG HTML standard defines them (section 9.2,
https://html.spec.whatwg.org/#server-sent-events).

Two readers for two needs:
- `Cutter` keeps the provider's own bytes and only finds where events end, so that a block never stops inside one;
- `Decoder` takes events apart, for crossing from one dialect to another.

Rule: no I/O; bytes come in at any split, and the result does not depend on where they were split.
Deliberately absent: `retry:` and reconnection; vendors' streams have neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from runestone.errors import StreamBroken

MAX_EVENT = 16 * 1024 * 1024
"""Bytes of one event (vendors send images as one line); more than this is a broken stream, not a buffer to fill."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its `event:` name ("" when it has none, which means "message") and its joined `data:` lines."""

    name: str
    data: bytes


def encode(data: bytes, name: str = "") -> bytes:
    """The bytes of one event. `data` must not hold line breaks (JSON never does)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else b"data: %b\n\n" % data


class Cutter:
    """Cuts a byte stream into blocks of whole events; all blocks and then `tail`, joined, are what was fed."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        # Of an event that has not ended: it holds no border. Copied, for a list of small pieces weighs many times them.
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """What ends with the last whole event, b"" while there is none. Raises StreamBroken past MAX_EVENT."""
        held = self._held
        if not held:
            if data.endswith(b"\n\n"):  # the usual case: a read brought whole events, nothing is copied
                return data
            end = _last_border(data)
        else:
            seam = bytes(held[-3:])  # a border is at most three long, so it can begin here
            end = _last_border(seam + data) - len(seam)
        if end <= 0:
            self._hold(data)
            return b""
        if held:
            held += data[:end]
            block = bytes(held)
            self._held = bytearray()
        else:
            block = data[:end]
        self._hold(data[end:])
        return block

    @property
    def tail(self) -> bytes:
        """What has come of an event that has not ended."""
        return bytes(self._held)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > MAX_EVENT:
            raise StreamBroken(f"the provider sent an event of more than {MAX_EVENT} bytes")


def _last_border(data: bytes) -> int:
    """The index behind the last blank line in `data`, 0 if none. CRLF CRLF is found by its last three bytes."""
    end = 0
    for border in (b"\n\n", b"\n\r\n", b"\r\r"):
        at = data.rfind(border)
        if at >= 0:
            end = max(end, at + len(border))
    return end


class Decoder:
    """Takes events out of a byte stream fed at any split: any line ends, comments, multi-line data, a BOM."""

    __slots__ = ("_cutter", "_fresh")

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._fresh = True

    def feed(self, data: bytes) -> list[Event]:
        """The events that became whole. Raises StreamBroken past MAX_EVENT."""
        block = self._cutter.feed(data)
        return self._split(block) if block else []

    def finish(self) -> list[Event]:
        """What a clean end of the stream completes: vendors end the last event with one line break, or none."""
        tail = self._cutter.tail
        return self._split(tail) if tail else []

    def _split(self, block: bytes) -> list[Event]:
        if self._fresh:
            self._fresh = False
            block = block.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = []
        for chunk in block.split(b"\n\n"):
            event = _parse(chunk)
            if event is not None:
                events.append(event)
        return events


def _parse(chunk: bytes) -> Event | None:
    """One event of the lines of `chunk`, None when it has no data (a comment, a lone name)."""
    name = ""
    data: list[bytes] = []
    for line in chunk.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value[1:] if value[:1] == b" " else value)
        elif field == b"event":
            name = value.strip().decode("utf-8", "replace")
    return Event(name, b"\n".join(data)) if data else None
