"""A chat stream as the WebSocket protocol tells it: the text of each block, and whatever else a delta holds.

What was read together is told together: the texts of a block are one chunk, unless something else stands between them.
Rule: blocks in, in order; nothing of a delta is lost but the role of the assistant, which is always that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from runestone.core.json import JsonObject
from runestone.dialects.body import MAX_DEPTH
from runestone.dialects.sse import Decoder, Event
from runestone.errors import StreamBroken

_ROLE = {"role": "assistant"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One `stream:chunk`."""

    index: int
    text: str
    delta: object = None
    """The whole delta, where it holds more than text."""
    choice: object = 0
    logprobs: object = None

    def payload(self) -> JsonObject:
        """What is said of it, without the stream's id."""
        payload: JsonObject = {"chunk": self.text, "index": self.index}
        if self.delta is not None:
            payload["delta"] = self.delta
        if self.choice != 0:
            payload["choice"] = self.choice
        if self.logprobs is not None:
            payload["logprobs"] = self.logprobs
        return payload


class Chunks:
    """Reads one stream."""

    __slots__ = ("_decoder", "_index", "_text", "failure", "finish_reason", "usage")

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._index = 0
        self._text: list[str] = []
        self.finish_reason: str | None = None
        """Of the first choice."""
        self.usage: object = None
        self.failure: StreamBroken | None = None
        """Why nothing more can be read."""

    def read(self, block: bytes) -> list[Chunk]:
        """What `block` makes. Raises StreamBroken."""
        return self._told(self._decoder.feed(block))

    def finish(self) -> list[Chunk]:
        """What the end of the stream completes."""
        return self._told(self._decoder.finish())

    def _told(self, events: list[Event]) -> list[Chunk]:
        told: list[Chunk] = []
        for event in events:
            try:
                chunk = orjson.loads(event.data)
            except orjson.JSONDecodeError:
                if event.data.lstrip().startswith(b"{"):  # others write remarks there
                    self.failure = StreamBroken("the provider sent an event that is not JSON")
                    break
                continue
            if _is_too_deep(event.data, chunk):
                self.failure = StreamBroken("the provider sent an event that is nested too deeply")
                break
            if type(chunk) is dict:
                self._chunk(chunk, told)
        self._flush(told)
        return told

    def _chunk(self, chunk: dict[str, Any], told: list[Chunk]) -> None:
        if chunk.get("usage") is not None:
            self.usage = chunk["usage"]
        choices = chunk.get("choices")
        for choice in choices if type(choices) is list else ():
            if type(choice) is not dict:
                continue
            number, delta = choice.get("index", 0), choice.get("delta")
            if number == 0 and type(choice.get("finish_reason")) is str:
                self.finish_reason = choice["finish_reason"]
            delta = delta if type(delta) is dict else {}
            text, logprobs = delta.get("content"), choice.get("logprobs")
            text = text if type(text) is str else ""
            more = {
                name: value
                for name, value in delta.items()
                if value is not None and name != "content" and _ROLE.get(name) != value
            }
            if more or number != 0 or logprobs is not None:
                self._flush(told)
                told.append(self._numbered(text, delta if more else None, number, logprobs))
            elif text:
                self._text.append(text)

    def _flush(self, told: list[Chunk]) -> None:
        if self._text:
            told.append(self._numbered("".join(self._text)))
            self._text.clear()

    def _numbered(self, text: str, delta: object = None, choice: object = 0, logprobs: object = None) -> Chunk:
        self._index += 1
        return Chunk(self._index - 1, text, delta, choice, logprobs)


def _is_too_deep(data: bytes, chunk: object) -> bool:
    """Whether it is nested deeper than it can be written again; few events are long enough for that."""
    if len(data) < 2 * MAX_DEPTH or data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    try:
        orjson.dumps(chunk)
    except TypeError:
        return True
    return False
