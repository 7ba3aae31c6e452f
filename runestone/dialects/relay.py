"""The same dialect on both sides: the bytes pass unchanged, and are only looked at for what a record needs.

Rule: a block costs one append. The last few are kept by reference and read once, at the end: there stand the finish
reason, the usage, an error, and the end marker.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import orjson

from runestone.core.call import Operation
from runestone.core.summary import Summary
from runestone.dialects.dialect import Dialect, count, load_object, text
from runestone.dialects.sse import Decoder
from runestone.dialects.usage import read_chat, read_messages
from runestone.errors import ProviderError, ProviderFailed, StreamBroken

_TOKEN = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|partial_json|arguments|refusal)"\s*:\s*"[^"]'
    rb'|"(?:tool_calls|content_block)"\s*:\s*[\[{]'
)
_DONE = re.compile(rb"(?:\A|[\r\n])data: ?\[DONE\][\r\n]")
_STOP = re.compile(rb'data: ?\{\s*"type"\s*:\s*"message_stop"')
"""End markers, as they stand at the end of a block: a text, or a tool's name, may say the same in other places."""
_RECENT = 8
"""Blocks kept, and events read of them at the end: finish, usage, an error and the end marker are the last few."""
_MOST_CHOICES = 128
"""What vendors allow for `n`; each choice has a finish of its own."""


class Relay(ABC):
    """A passage (see Passage) that changes nothing. `request_body` already names the provider's model."""

    __slots__ = ("_dialect", "_operation", "_request", "complete", "failure", "started", "summary")

    def __init__(self, dialect: Dialect, operation: Operation, request_body: bytes) -> None:
        self._dialect = dialect
        self._operation = operation
        self._request = request_body
        self.summary = Summary()
        self.failure: ProviderError | None = None
        self.started = False
        self.complete = False

    def request(self) -> bytes:
        return self._request

    def answer(self, body: bytes) -> bytes:
        self._dialect.summarise(self._operation, load_answer(body), self.summary)
        return body

    @abstractmethod
    def feed(self, block: bytes) -> bytes:
        """See Passage."""

    @abstractmethod
    def finish(self) -> bytes:
        """See Passage."""


class OpenAIRelay(Relay):
    """Ends with `data: [DONE]`; with `ends_with_done` False (a quirk) a finish reason for every choice will do."""

    __slots__ = ("_choices", "_ends_with_done", "_finished", "_recent")

    def __init__(
        self, dialect: Dialect, operation: Operation, request_body: bytes, *, ends_with_done: bool, choices: int = 1
    ) -> None:
        super().__init__(dialect, operation, request_body)
        self._recent: deque[bytes] = deque(maxlen=_RECENT + min(choices, _MOST_CHOICES))
        self._ends_with_done = ends_with_done
        self._choices = choices
        self._finished: set[object] = set()

    def feed(self, block: bytes) -> bytes:
        if not self.started and _TOKEN.search(block):
            self.started = True
        self._recent.append(block)
        if b"[DONE]" in block[-16:] and _DONE.search(block[-32:]):
            self.complete = True
        if not self._ends_with_done:
            self._note_finished(block)
        return block

    def finish(self) -> bytes:
        done = False
        for data in _last_events(self._recent, self._recent.maxlen or 0):
            if data == b"[DONE]":
                done = True
                continue
            self._read(load_object(data))
            if self.summary.finish_reason is not None:
                break  # what comes after the finish (usage, the end marker) has been read
        if self.failure is not None:
            raise self.failure
        if done or (not self._ends_with_done and len(self._finished) >= self._choices):
            return b""
        raise StreamBroken("the provider's stream ended before its end marker")

    def _read(self, chunk: dict[str, Any]) -> None:
        """Newest first: what is known already is not overwritten."""
        summary = self.summary
        error = chunk.get("error")
        if error and not chunk.get("choices"):
            self.failure = _told(error)
            return
        summary.response_id = summary.response_id or text(chunk.get("id"))
        summary.model = summary.model or text(chunk.get("model"))
        if summary.output_tokens is None:
            read_chat(chunk.get("usage"), summary)
        for choice in _choices(chunk):
            if not choice.get("index"):
                summary.finish_reason = summary.finish_reason or text(choice.get("finish_reason"))

    def _note_finished(self, block: bytes) -> None:
        if b'"finish_reason"' in block:
            for event in Decoder().feed(block):
                for choice in _choices(load_object(event.data)):
                    if choice.get("finish_reason"):
                        self._finished.add(count(choice.get("index")))


class AnthropicRelay(Relay):
    """Ends with `message_stop`."""

    __slots__ = ("_recent", "_start")

    def __init__(self, dialect: Dialect, operation: Operation, request_body: bytes) -> None:
        super().__init__(dialect, operation, request_body)
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._start: bytes | None = None

    def feed(self, block: bytes) -> bytes:
        if not self.started:
            if self._start is None and b'"message_start"' in block:
                self._start = block
            if _TOKEN.search(block):
                self.started = True
        self._recent.append(block)
        if b'"message_stop"' in block[-100:] and _STOP.search(block, len(block) - 100):
            self.complete = True
        return block

    def finish(self) -> bytes:
        done = False
        latest = [load_object(data) for data in _last_events(self._recent, self._recent.maxlen or 0)]
        first = [load_object(event.data) for event in Decoder().feed(self._start or b"")]
        begun = [event for event in first if event.get("type") == "message_start"]  # what else came with it is old
        for event in (*begun, *reversed(latest)):
            kind = event.get("type")
            if kind == "message_stop":
                done = True
            elif kind == "error":
                self.failure = _told(event.get("error"))
            else:
                self._read(event)
        if self.failure is not None:
            raise self.failure
        if done:
            return b""
        raise StreamBroken("the provider's stream ended before its end marker")

    def _read(self, event: dict[str, Any]) -> None:
        message, delta = event.get("message"), event.get("delta")
        if type(message) is dict:
            self.summary.response_id = text(message.get("id"))
            self.summary.model = text(message.get("model"))
            read_messages(message.get("usage"), self.summary)
        elif event.get("type") == "message_delta" and type(delta) is dict:
            self.summary.finish_reason = text(delta.get("stop_reason"))
            read_messages(event.get("usage"), self.summary)


def load_answer(body: bytes) -> dict[str, Any]:
    """A provider's whole answer. Raises ProviderFailed when it is not a JSON object."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = _load_leniently(body)
    if type(answer) is not dict:
        raise ProviderFailed("the provider's answer is not a JSON object")
    return answer


def _load_leniently(body: bytes) -> object:
    """What servers write that is not quite JSON: NaN, half a surrogate pair where a token ends, broken UTF-8, a BOM.

    What stands for no sign is read as U+FFFD, so that all that is read here can be written.
    """
    try:
        answer = json.loads(body.decode("utf-8-sig", "replace"))
        if b"\\u" in body:
            text = json.dumps(answer, ensure_ascii=False)
            answer = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        raise ProviderFailed("the provider's answer is not JSON") from None
    return answer


def _last_events(blocks: Collection[bytes], most: int) -> Iterator[bytes]:
    """The data of the last events, newest first, without taking all of the blocks apart."""
    text = b"".join(blocks)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    end, left = len(text.rstrip(b"\n")), most
    while end > 0 and left > 0:
        start = text.rfind(b"\n\n", 0, end)
        event = text[start + 2 if start >= 0 else 0 : end]
        if event.startswith(b"data: ") and b"\n" not in event:
            yield event[6:]
        else:
            yield from (found.data for found in Decoder().feed(event + b"\n\n"))
        end, left = start, left - 1


def _choices(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    return [choice for choice in choices if type(choice) is dict] if type(choices) is list else []


def _told(error: object) -> StreamBroken:
    """The failure of a stream whose client has read the provider's own error event."""
    failure = StreamBroken(
        text(error.get("message") if isinstance(error, dict) else error) or "the provider's stream failed"
    )
    failure.told = True
    return failure
