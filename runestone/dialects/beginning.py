"""What the blocks of a stream say, as far as it matters whether the stream has begun, and whether it goes on.

A stream has begun with its first event of data that is no error: before that another target may still answer.
Rule: pure; a block is whole events, of either dialect.
"""

from __future__ import annotations

from dataclasses import dataclass

from runestone.dialects.dialect import load_object, text
from runestone.dialects.sse import Decoder, Event, encode


@dataclass(frozen=True, slots=True)
class Broken:
    """A block with an error event: the events before it, the rest from it on, and what it says."""

    before: bytes
    rest: bytes
    message: str


def says_something(block: bytes) -> bool:
    """Whether there is an event in it, and not only comments (servers send those while they think)."""
    return b"data" in block


def begins_with_error(block: bytes) -> str | None:
    """What the first event of data says if it is an error, None otherwise. Looks at no more than that event."""
    start = block.find(b"data")
    end = block.find(b"\n\n", start) + 2
    if b'"error"' not in block[start : end if end > 1 else len(block)]:
        return None
    error = find_error(block)
    return error.message if error is not None and not says_something(error.before) else None


def find_error(block: bytes) -> Broken | None:
    """The first error event in `block`, None when there is none."""
    if b'"error"' not in block:
        return None
    before, rest, message = b"", b"", ""
    for event in Decoder().feed(block):
        written = encode(event.data.replace(b"\n", b"\ndata: "), event.name)
        if rest:
            rest += written
        elif _is_error(event):
            rest, message = written, _message(event)
        else:
            before += written
    return Broken(before, rest, message) if rest else None


def _is_error(event: Event) -> bool:
    said = load_object(event.data)
    return event.name == "error" or (bool(said.get("error")) and not said.get("choices"))


def _message(event: Event) -> str:
    said = load_object(event.data)
    error = said.get("error", said)
    return (
        text(error.get("message") if isinstance(error, dict) else error) or "the provider's stream began with an error"
    )
