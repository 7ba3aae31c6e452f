"""The same dialect on both sides: the bytes pass unchanged, and are only looked at for what a record needs.

Rule: nothing here copies or parses a block unless a plain byte search found something rare in it (the end, an
error); what may
be in every block (usage, a finish reason) is kept by reference and read once, at the end.
A quote inside a JSON string is written \\", so a search for a quoted name cannot be fooled by contents.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from runestone.core.call import Operation
from runestone.core.summary import Summary
from runestone.dialects import anthropic, openai
from runestone.dialects.dialect import Dialect
from runestone.dialects.sse import Decoder
from runestone.errors import ProviderError, ProviderFailed, StreamBroken

_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_TOKEN = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|partial_json|arguments|refusal)"\s*:\s*"[^"]|"(?:tool_calls|content_block)"\s*:\s*[\[{]'
)


class Relay:
    """A passage (see Passage) that changes nothing. `request_body` already names the provider's model."""

    __slots__ = ("_dialect", "_operation", "_request", "failure", "started", "summary")

    def __init__(self, dialect: Dialect, operation: Operation, request_body: bytes) -> None:
        self._dialect = dialect
        self._operation = operation
        self._request = request_body
        self.summary = Summary()
        self.failure: ProviderError | None = None
        self.started = False

    def request(self) -> bytes:
        return self._request

    def answer(self, body: bytes) -> bytes:
        self._dialect.summarise(self._operation, load_answer(body), self.summary)
        return body

    def feed(self, block: bytes) -> bytes:
        raise NotImplementedError

    def finish(self) -> bytes:
        raise NotImplementedError


class OpenAIRelay(Relay):
    """Ends with `data: [DONE]`; with `ends_with_done` False (a provider's quirk) a finish reason for every choice
    will do.
    """

    __slots__ = ("_done", "_ends_with_done", "_finish", "_finished", "_seen", "_usage")

    def __init__(self, dialect: Dialect, operation: Operation, request_body: bytes, *, ends_with_done: bool) -> None:
        super().__init__(dialect, operation, request_body)
        self._ends_with_done = ends_with_done
        self._done = False
        self._usage: bytes | None = None
        self._finish: bytes | None = None
        self._seen: set[object] = set()
        self._finished: set[object] = set()

    def feed(self, block: bytes) -> bytes:
        if not self.started and _TOKEN.search(block):
            self.started = True
        if b'"usage":{' in block or b'"usage": {' in block:
            self._usage = block
        if b'"finish_reason":"' in block or b'"finish_reason": "' in block:
            self._finish = block
        if b"[DONE]" in block and _DONE.search(block):
            self._done = True
        if b'"error"' in block:
            self.failure = self.failure or _openai_failure(block)
        if not self._ends_with_done:
            self._note_choices(block)
        return block

    def finish(self) -> bytes:
        self._summarise()
        if self.failure is not None:
            raise self.failure
        if self._done or (not self._ends_with_done and self._finished and self._finished >= self._seen):
            return b""
        raise StreamBroken("the provider's stream ended before its end marker")

    def _summarise(self) -> None:
        for block in (self._finish, self._usage):
            for chunk in _chunks(block or b""):
                self.summary.response_id = chunk.get("id") or self.summary.response_id
                self.summary.model = chunk.get("model") or self.summary.model
                openai.read_usage(chunk.get("usage"), self.summary)
                for choice in chunk.get("choices") or ():
                    if choice.get("finish_reason") and not choice.get("index"):
                        self.summary.finish_reason = choice["finish_reason"]

    def _note_choices(self, block: bytes) -> None:
        for chunk in _chunks(block):
            for choice in chunk.get("choices") or ():
                index = choice.get("index", 0)
                self._seen.add(index)
                if choice.get("finish_reason"):
                    self._finished.add(index)


class AnthropicRelay(Relay):
    """Ends with `message_stop`."""

    __slots__ = ("_delta", "_done", "_start")

    def __init__(self, dialect: Dialect, operation: Operation, request_body: bytes) -> None:
        super().__init__(dialect, operation, request_body)
        self._done = False
        self._start: bytes | None = None
        self._delta: bytes | None = None

    def feed(self, block: bytes) -> bytes:
        if not self.started and _TOKEN.search(block):
            self.started = True
        if self._start is None and b"message_start" in block:
            self._start = block
        if b'"message_delta"' in block:
            self._delta = block
        if b'"message_stop"' in block:
            self._done = True
        if b'"error"' in block:
            self.failure = self.failure or _anthropic_failure(block)
        return block

    def finish(self) -> bytes:
        for event in _chunks((self._start or b"") + (self._delta or b"")):
            message = event.get("message")
            if event.get("type") == "message_start" and type(message) is dict:
                self.summary.response_id = message.get("id")
                self.summary.model = message.get("model")
                anthropic.read_usage(message.get("usage"), self.summary)
            elif event.get("type") == "message_delta":
                anthropic.read_usage(event.get("usage"), self.summary)
                self.summary.finish_reason = (event.get("delta") or {}).get("stop_reason")
        if self.failure is not None:
            raise self.failure
        if self._done:
            return b""
        raise StreamBroken("the provider's stream ended before its end marker")


def load_answer(body: bytes) -> dict[str, Any]:
    """A provider's whole answer. Raises ProviderFailed when it is not a JSON object."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ProviderFailed("the provider's answer is not JSON") from None
    if type(answer) is not dict:
        raise ProviderFailed("the provider's answer is not a JSON object")
    return answer


def _chunks(block: bytes) -> list[dict[str, Any]]:
    """The JSON objects among a block's events; anything else is left to the client."""
    found = []
    decoder = Decoder()
    for event in (*decoder.feed(block), *decoder.finish()):
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            continue
        if type(chunk) is dict:
            found.append(chunk)
    return found


def _openai_failure(block: bytes) -> ProviderError | None:
    """The error a provider reports inside its stream, if one of the events is one."""
    for chunk in _chunks(block):
        error = chunk.get("error")
        if error and not chunk.get("choices"):
            return _told(str(error.get("message")) if type(error) is dict else str(error))
    return None


def _anthropic_failure(block: bytes) -> ProviderError | None:
    for event in _chunks(block):
        error = event.get("error")
        if event.get("type") == "error":
            return _told(str(error.get("message")) if type(error) is dict else "")
    return None


def _told(message: str) -> StreamBroken:
    failure = StreamBroken(message)
    failure.told = True
    return failure
