"""A stream as the whole answer a client would have read, and an OpenAI stream without its usage."""

from __future__ import annotations

from typing import Any

import orjson

from runestone.core.call import Operation
from runestone.dialects.replay.exact import Inexact, dump, load, refuse
from runestone.dialects.replay.folded import Folded
from runestone.dialects.replay.joined import OBJECTS, Joined
from runestone.dialects.sse import Decoder, Event, encode
from runestone.errors import StreamBroken

_LAST = 4
"""Events at the end of a stream among which its usage stands."""


def as_answer(operation: Operation, stream: bytes) -> bytes | None:
    """The JSON answer of a whole stream (chat, completions, messages).

    None for a stream that has an error or no end marker, an OpenAI stream without usage, choices that are not finished,
    and for parts that cannot be joined exactly: members that are not known and come more than once, events and deltas
    of no known kind, facts that change (the id, the model, a filter's verdict), arguments that are no JSON where the
    dialect's whole answer has them as an object.
    """
    try:
        return join(operation, stream)
    except (Inexact, RecursionError):
        return None


def join(operation: Operation, stream: bytes) -> bytes:
    """See as_answer. Raises Inexact, which says why; RecursionError for what is nested too deep."""
    if operation is Operation.MESSAGES:
        folded = Folded()
        for event in _events(stream):
            folded.add(load(event.data))
        return dump(folded.answer())
    if operation not in OBJECTS:
        refuse("not streamed")
    joined, is_over = Joined(operation), False
    for event in _events(stream):
        if is_over:
            refuse("more after the end marker")
        if event.data == b"[DONE]":
            is_over = True
        elif event.name == "error":
            refuse("an error in the stream")
        else:
            joined.add(load(event.data))
    if not is_over:
        refuse("no end marker")
    return dump(joined.answer())


def without_usage(stream: bytes) -> bytes | None:
    """An OpenAI stream that was asked for with usage, as it reads without: the chunk that has nothing else is gone, and
    so is the member from all others. Where no such chunk is, nothing was counted, or the server counts in its last
    chunk without being asked (DeepSeek, Mistral, OpenRouter): that stays as it is. None for what is no stream of
    chunks.
    """
    if b'"usage"' not in stream:
        return stream
    try:
        return _without_usage(stream)
    except (Inexact, RecursionError):
        return None


def has_usage(stream: bytes) -> bool:
    """Whether an OpenAI stream has told its usage at its end, in a chunk of its own or beside the last choice."""
    if b"\r" in stream:
        stream = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    end = len(stream.rstrip(b"\n"))
    for _ in range(_LAST):
        start = max(0, stream.rfind(b"\n\n", 0, end))
        if b'"usage"' in stream[start:end] and _tells_usage(stream[start:end]):
            return True
        end = start
    return False


def _tells_usage(text: bytes) -> bool:
    for event in Decoder().feed(text.strip(b"\n") + b"\n\n"):
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            continue
        if type(chunk) is dict and type(chunk.get("usage")) is dict and chunk["usage"]:
            return True
    return False


def _without_usage(stream: bytes) -> bytes:
    plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in stream else stream
    kept: list[bytes] = []
    is_told = False
    for text in plain.removeprefix(b"\xef\xbb\xbf").split(b"\n\n"):
        event = next(iter(Decoder().feed(text + b"\n\n")), None) if b'"usage"' in text else None
        chunk = load(event.data) if event is not None else {}
        if _is_usage(chunk):
            is_told = True
        elif event is None or "usage" not in chunk:
            kept.append(text)
        else:
            del chunk["usage"]
            kept.append(encode(dump(chunk), event.name).removesuffix(b"\n\n"))
    return b"\n\n".join(kept) if is_told else stream


def _is_usage(chunk: dict[str, Any]) -> bool:
    """Whether a chunk tells usage and nothing of a choice."""
    return chunk.get("choices") == [] and type(chunk.get("usage")) is dict


def _events(stream: bytes) -> list[Event]:
    decoder = Decoder()
    try:
        return [*decoder.feed(stream), *decoder.finish()]
    except StreamBroken:
        refuse("an event beyond all measure")
