"""What the gateway says over a WebSocket, read.

Rule: a message that does not keep to docs/websocket.md is `Broken`: the connection it came by is of no use, and the
session is sought again by another. Fields nobody asks for are left alone, so that a newer gateway may say more.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from runestone.core.json import JsonObject


class Broken(Exception):
    """A connection is of no use any more; the text says why. Stays inside this package."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message; `ref` is that of ours which it answers, `size` in bytes."""

    event: str
    payload: JsonObject
    seq: int
    ref: int | None
    size: int

    def text(self, name: str) -> str:
        """A field of the payload that is a text. Raises Broken."""
        value = self.payload.get(name)
        if not isinstance(value, str):
            raise Broken(f"{self.event} without a {name}")
        return value

    def number(self, name: str) -> int:
        """A field of the payload that is a whole number. Raises Broken."""
        value = self.payload.get(name)
        if not isinstance(value, int):
            raise Broken(f"{self.event} without a {name}")
        return value

    def inner(self, name: str) -> JsonObject:
        """A field of the payload that is an object. Raises Broken."""
        value = self.payload.get(name)
        if not isinstance(value, dict):
            raise Broken(f"{self.event} without a {name}")
        return value


def read(data: bytes) -> Incoming:
    """The message in a frame. Raises Broken."""
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Broken("the gateway sent something that is not JSON") from None
    if not isinstance(message, dict):
        raise Broken("the gateway sent something that is not an object")
    event, payload, seq, ref = (message.get(name) for name in ("event", "payload", "seq", "ref"))
    if not isinstance(event, str) or not isinstance(payload, dict) or not isinstance(seq, int):
        raise Broken("the gateway sent a message without event, payload or seq")
    return Incoming(event, payload, seq, ref if isinstance(ref, int) else None, len(data))
