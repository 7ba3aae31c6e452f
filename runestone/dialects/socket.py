"""The messages of the WebSocket protocol (docs/websocket.md), and the frames they travel in to the client.

Rule: pure; text in, messages out, and the reverse. A message that cannot be read says why, and with which `ref`.
Deliberately absent: reading frames, which is aiohttp's; fragments and compression on the way out: a message is one
frame, and ten thousand compressors would cost more memory than they save in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from runestone.core.json import JsonObject
from runestone.dialects.body import parse_object
from runestone.errors import BadRequest

Ref = str | int | float | None
LONGEST_REF = 200


class Unreadable(Exception):
    """A message that is none, answered by an `error` and known to nobody else; `ref` is what it said it was, where that
    could be read.
    """

    def __init__(self, message: str, ref: Ref = None) -> None:
        super().__init__(message)
        self.message = message
        self.ref = ref


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sent."""

    event: str
    payload: JsonObject
    ref: Ref

    def text(self, name: str, most: int = 200) -> str:
        """A field of the payload that must be a short text. Raises Unreadable."""
        value = self.payload.get(name)
        if type(value) is not str or not 0 < len(value) <= most:
            raise Unreadable(f"'payload.{name}' must be a text of 1 to {most} characters", self.ref)
        return value

    def number(self, name: str) -> int:
        """A field of the payload that must be a whole number. Raises Unreadable."""
        value = self.payload.get(name)
        if type(value) is not int or value < 0:
            raise Unreadable(f"'payload.{name}' must be a whole number", self.ref)
        return value


def read(text: str) -> Message:
    """The message in a text frame. Raises Unreadable."""
    try:
        fields = parse_object(text.encode())
    except BadRequest as error:
        raise Unreadable(error.message.replace("the body", "the message", 1)) from None
    except UnicodeEncodeError:
        raise Unreadable("the message holds a lone surrogate") from None
    ref = fields.get("ref")
    if (ref is not None and not isinstance(ref, (str, int, float))) or isinstance(ref, bool):
        raise Unreadable("'ref' must be a string or a number")
    if isinstance(ref, str) and len(ref) > LONGEST_REF:
        raise Unreadable(f"'ref' is longer than {LONGEST_REF} characters")
    event, payload = fields.get("event"), fields.get("payload")
    if type(event) is not str:
        raise Unreadable("'event' must be a string", ref)
    if event == "ping" and type(payload) is not dict:  # anything will do
        payload = {}
    if payload is None:
        payload = {}
    if type(payload) is not dict:
        raise Unreadable("'payload' must be an object", ref)
    return Message(event, payload, ref)


def write(event: str, payload: bytes, seq: int, ref: Ref = None) -> bytes:
    """A message of the server; `payload` is JSON."""
    if ref is None:
        return b'{"event":"%b","seq":%d,"payload":%b}' % (event.encode(), seq, payload)
    return b'{"event":"%b","seq":%d,"ref":%b,"payload":%b}' % (event.encode(), seq, orjson.dumps(ref), payload)


def frame(message: bytes) -> bytes:
    """A text frame of the server: final, unmasked (RFC 6455, 5.2)."""
    size = len(message)
    if size < 126:
        return b"\x81%c%b" % (size, message)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), message)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), message)
