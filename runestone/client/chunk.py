"""A piece of a streamed answer, however it came: over a WebSocket or as a server-sent event.

Rule: nothing of a delta is lost; `text` is there because most readers want nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runestone.core.json import JsonObject


@dataclass(frozen=True, slots=True)
class Chunk:
    """`index` counts a stream's chunks from 0. `delta` is OpenAI's, `choice` the number of the choice it belongs to."""

    text: str
    index: int
    choice: int
    delta: Mapping[str, Any]
    logprobs: Any = None


def told(payload: JsonObject) -> Chunk | None:
    """The chunk in the payload of a `stream:chunk`; None when there is none."""
    text, index, choice = payload.get("chunk"), payload.get("index"), payload.get("choice", 0)
    delta = payload.get("delta")
    if not isinstance(text, str) or not isinstance(index, int) or not isinstance(choice, int):
        return None
    return Chunk(text, index, choice, delta if isinstance(delta, dict) else {"content": text}, payload.get("logprobs"))


def streamed(choice: object, index: int) -> Chunk | None:
    """The chunk in a choice of an event of OpenAI's stream; None when its delta says nothing."""
    if not isinstance(choice, dict):
        return None
    delta, number = choice.get("delta"), choice.get("index", 0)
    if not isinstance(delta, dict) or not delta or not isinstance(number, int):
        return None
    text = delta.get("content")
    return Chunk(text if isinstance(text, str) else "", index, number, delta, choice.get("logprobs"))
