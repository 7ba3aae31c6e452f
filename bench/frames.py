"""The least of RFC 6455 that a load generator needs: the handshake, masked text frames, and the frames a server sends.

Rule: pure and incremental, indifferent to how the bytes were cut. The mask is zeros, which leaves a payload as it is
and costs a server the same. Absent: fragments (a fault), compression (never offered), checking of UTF-8.
"""

from __future__ import annotations

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_MASK = bytes(4)
_SHORT, _LONG = 126, 127


class BadFrameError(Exception):
    """What came is no frame this reader understands, or no handshake that went well."""


def handshake(path: str, port: int) -> bytes:
    """The request of a client that offers no extensions."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YmVuY2gtYmVuY2gtYmVuYw==\r\n"
        "Authorization: Bearer sk-bench-0123456789abcdefghijklmnopqrstuvwxyz\r\n\r\n"
    ).encode()


def text(payload: bytes) -> bytes:
    """A text frame of a client."""
    return _frame(_TEXT, payload)


def pong(payload: bytes) -> bytes:
    """The answer to a ping of the server."""
    return _frame(_PONG, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _SHORT:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0x80 | _SHORT)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | _LONG)) + size.to_bytes(8, "big")
    return head + _MASK + payload


class Frames:
    """What one server says: `feed` bytes, get whole text messages.

    `pings` holds those still to be answered; `closed` says what a close frame said.
    """

    __slots__ = ("_rest", "_upgraded", "closed", "pings")

    def __init__(self) -> None:
        self._rest, self._upgraded = b"", False
        self.pings: list[bytes] = []
        self.closed: str | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Raises BadFrameError."""
        if self._rest:
            data = self._rest + data
        position, size = 0, len(data)
        if not self._upgraded:
            position = self._head(data)
        texts: list[bytes] = []
        while self._upgraded and size - position >= 2:
            first, length, start = data[position], data[position + 1], position + 2
            if length >= _SHORT:
                wide = {_SHORT: 2, _LONG: 8}.get(length)
                if wide is None:
                    raise BadFrameError("a masked frame from a server")
                start += wide
                if size < start:
                    break
                length = int.from_bytes(data[start - wide : start], "big")
            end = start + length
            if end > size:
                break
            if first == _TEXT:
                texts.append(data[start:end])
            else:
                self._other(first, data[start:end])
            position = end
        self._rest = data[position:]
        return texts

    @property
    def upgraded(self) -> bool:
        return self._upgraded

    def _head(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 101 "):
            raise BadFrameError(f"not upgraded: {data[:300]!r}")
        self._upgraded = True
        return end + 4

    def _other(self, first: int, payload: bytes) -> None:
        if first == _PING:
            self.pings.append(payload)
        elif first == _CLOSE:
            self.closed = f"closed with {int.from_bytes(payload[:2], 'big')} {payload[2:]!r}"
        elif first != _PONG:
            raise BadFrameError(f"a frame that begins with {first:#x}")
