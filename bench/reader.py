"""The end of an HTTP reply, found with as little work as is correct: a load generator must not be what is measured.

Rule: pure, incremental, indifferent to how the bytes were cut. One reply at a time (no pipelining): bytes after the end
are a fault. Understands `content-length` and chunked coding; a reply with neither is a fault, not a guess.
Absent: trailers, compression, 1xx replies, everything in the head but the status and the framing.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_TAIL = 16


class BadReplyError(Exception):
    """What came is not a reply this reader understands."""


class Reader:
    """Reads one reply after another: `feed` until it says True, then `reset`.

    `tail` is the end of the payload (16 bytes); `kept` is all of it, in pieces, when asked to keep it.
    """

    __slots__ = ("_chunked", "_in_head", "_left", "_rest", "_skip", "kept", "status", "tail")

    def __init__(self) -> None:
        self.kept: list[bytes] | None = None
        self.reset()

    def reset(self, *, keep: bool = False) -> None:
        self.status, self.tail = 0, b""
        self.kept = [] if keep else None
        self._in_head, self._chunked = True, False
        self._left = self._skip = 0
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """True once the reply is complete. Raises BadReplyError."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        position = 0
        if self._in_head:
            position = self._head(data)
            if not position:
                self._rest = data
                return False
        return self._chunks(data, position) if self._chunked else self._plain(data, position)

    def _head(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 "):
            raise BadReplyError(f"not an HTTP/1.1 reply: {data[:40]!r}")
        self.status = int(data[9:12])
        length = _LENGTH.search(data, 0, end)
        self._chunked = _CHUNKED.search(data, 0, end) is not None
        if length is None and not self._chunked:
            raise BadReplyError("neither content-length nor chunked")
        self._left = 0 if self._chunked or length is None else int(length[1])
        self._in_head = False
        return end + 4

    def _plain(self, data: bytes, position: int) -> bool:
        stop = len(data)
        if stop - position > self._left:
            raise BadReplyError("more bytes than content-length says")
        self._payload(data, position, stop)
        self._left -= stop - position
        return not self._left

    def _chunks(self, data: bytes, position: int) -> bool:
        size = len(data)
        while True:
            if self._left:
                stop = min(position + self._left, size)
                self._payload(data, position, stop)
                self._left -= stop - position
                position = stop
                if self._left:
                    return False
            if self._skip:
                skipped = min(self._skip, size - position)
                self._skip -= skipped
                position += skipped
                if self._skip:
                    return False
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                self._rest = data[position:]
                return False
            try:
                self._left = int(data[position:line_end], 16)
            except ValueError:
                raise BadReplyError(f"not a chunk size: {data[position:line_end][:40]!r}") from None
            if not self._left:
                return self._last(data, position, line_end + 2)
            self._skip = 2  # the line end after the chunk's payload
            position = line_end + 2

    def _last(self, data: bytes, line: int, position: int) -> bool:
        after = data[position:]
        if after == b"\r\n":
            return True
        if after in {b"", b"\r"}:
            self._rest = data[line:]  # the empty chunk is read again when its last line end is there
            return False
        raise BadReplyError("bytes after the last chunk")

    def _payload(self, data: bytes, start: int, stop: int) -> None:
        if stop - start >= _TAIL:
            self.tail = data[stop - _TAIL : stop]
        elif stop > start:
            self.tail = (self.tail + data[start:stop])[-_TAIL:]
        if self.kept is not None and stop > start:
            self.kept.append(data[start:stop])
