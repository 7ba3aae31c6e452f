"""A Chat Completions stream, written as a Messages stream.

Rule: one content block is open at a time, as Anthropic has it. A call's block is closed when its arguments are whole
JSON, so calls that OpenAI interleaves are written one after the other, and those that come in order are not held up.
The end is written only when the provider's own end came: [DONE], or, where it sends none, a finish_reason and a clean
close.
Deliberately absent: choices but the first (several cannot be asked for), pings, log probabilities.

https://platform.claude.com/docs/en/build-with-claude/streaming
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from runestone.core.summary import Summary
from runestone.dialects.crossing.deltas import calls_of, message_of, sealed_of, texts_of
from runestone.dialects.crossing.failures import error_of, written
from runestone.dialects.crossing.reasons import said_finish, stop_reason
from runestone.dialects.crossing.tools import made_id, parsed_arguments
from runestone.dialects.crossing.usage import messages_usage
from runestone.dialects.dialect import text
from runestone.dialects.sse import Decoder, Event, encode
from runestone.dialects.usage import read_chat
from runestone.errors import ProviderError, ProviderFailed, StreamBroken

_STARTS: Final[dict[str, dict[str, Any]]] = {
    "text": {"type": "text", "text": "", "citations": None},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}

_DELTAS: Final = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "signature": (b"signature_delta", b"signature"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}

_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
)


@dataclass(slots=True, eq=False)
class _Block:
    """A content block, open or waiting for its turn. `held` are pieces (delta kind, text) that could not go out yet."""

    kind: str
    id: str = ""
    name: str = ""
    data: str = ""
    held: list[tuple[str, str]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def is_whole(self) -> bool:
        """Whether nothing more can come: another piece of text makes a new block, but a call's arguments may go on."""
        if self.kind != "tool_use":
            return True
        last = self.arguments[-1].rstrip() if self.arguments else "..."
        if last and not last.endswith("}"):
            return False
        return bool(self.name) and parsed_arguments("".join(self.arguments)) is not None


class StreamToMessages:
    """Fed the provider's chat chunks, gives the client's Messages events.

    `model` is what the client reads where the provider names none; `ends_with_done` False: the provider sends no
    [DONE]. `summary` fills as chunks pass; `failure` is the provider's error, or what made the stream unreadable;
    `started` says that content, thinking or a call has gone out.
    """

    def __init__(self, *, model: str, ends_with_done: bool) -> None:
        self.summary = Summary()
        self.failure: ProviderError | None = None
        self.started = False
        self._model = model
        self._ends_with_done = ends_with_done
        self._decoder = Decoder()
        self._begun = False
        self.complete = False
        self._index = -1
        self._open: _Block | None = None
        self._waiting: deque[_Block] = deque()
        self._last: _Block | None = None  # the newest block, open or waiting
        self._calls: dict[object, _Block] = {}
        self._latest_call: _Block | None = None
        self._refused = False
        self._is_torn = False  # a call has been closed whose arguments are not a JSON object
        self._sequence: str | None = None

    def feed(self, block: bytes) -> bytes:
        """The events for whole chunks. After a failure, and after the end, nothing more comes."""
        return self._write(self._decoder.feed(block))

    def finish(self) -> bytes:
        """What is owed at the provider's clean end. Raises the failure, or StreamBroken if its own end is missing."""
        rest = self._write(self._decoder.finish())
        if self.failure is not None:
            raise self.failure
        if self.complete:
            return rest
        if self._ends_with_done:
            raise StreamBroken("the provider's stream ended before its [DONE]")
        out = [rest]
        self._end(out)
        if self.failure is not None:
            raise self.failure
        return b"".join(out)

    def _write(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self.complete or self.failure is not None:
                break
            if event.data == b"[DONE]":
                self._end(out)
            else:
                try:
                    self._event(event, out)
                except ProviderFailed as failure:
                    self.failure = failure
        return b"".join(out)

    def _event(self, event: Event, out: list[bytes]) -> None:
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            self.failure = StreamBroken("the provider sent an event that is not JSON")
            return
        if not isinstance(chunk, dict):
            self.failure = StreamBroken("the provider sent an event that is not an object")
            return
        if chunk.get("error") or event.name == "error":
            self.failure = error_of(chunk.get("error") or chunk)
            return
        if not self._begun and (chunk.get("id") or chunk.get("choices")):  # Azure's first chunk has neither
            self._begin(chunk, out)
        if chunk.get("usage"):
            read_chat(chunk["usage"], self.summary)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._choice(choice, out)

    def _begin(self, chunk: dict[str, Any], out: list[bytes]) -> None:
        self._begun = True
        self.summary.response_id = text(chunk.get("id")) or made_id("msg_", written(chunk))
        self.summary.model = text(chunk.get("model"))
        message: dict[str, Any] = {
            "id": self.summary.response_id,
            "type": "message",
            "role": "assistant",
            "model": self.summary.model or self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        out.append(encode(orjson.dumps({"type": "message_start", "message": message}), "message_start"))

    def _choice(self, choice: dict[str, Any], out: list[bytes]) -> None:
        if choice.get("error"):
            self.failure = error_of(choice["error"])
            return
        message = message_of(choice)
        for kind, piece in texts_of(message):
            self._text(kind, piece, out)
        for kind, value in sealed_of(message):
            self._seal(kind, value, out)
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._refused = True
            self._text("text", refusal, out)
        for call in calls_of(message):
            self._call(call, out)
        finish = said_finish(choice)
        if finish is not None:
            if finish == "error":  # OpenRouter and Mistral
                self.failure = ProviderFailed("the provider's stream ended in an error")
            self.summary.finish_reason = finish
            sequence = choice.get("stop_reason")  # vLLM: the stop sequence, or a token's number
            self._sequence = sequence if isinstance(sequence, str) else None

    # -- blocks

    def _text(self, kind: str, piece: str, out: list[bytes]) -> None:
        block = self._last
        if block is None or block.kind != kind:
            block = self._new(_Block(kind), out)
        self._piece(block, kind, piece, out)

    def _seal(self, kind: str, value: str, out: list[bytes]) -> None:
        if kind == "redacted_thinking":
            self._new(_Block(kind, data=value), out)
            return
        block = self._last
        if block is None or block.kind != "thinking":
            block = self._new(_Block("thinking"), out)
        self._piece(block, "signature", value, out)

    def _call(self, call: dict[str, Any], out: list[bytes]) -> None:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        name, given = function.get("name"), call.get("id")
        block = self._known(call.get("index"), given, name)
        if block is None:
            made = text(given) or made_id("call_", self.summary.response_id, len(self._calls))
            block = _Block("tool_use", id=made, name=name if isinstance(name, str) else "")
            index = call.get("index")
            self._calls[index if isinstance(index, int) else made] = block
            self._latest_call = block
            self._new(block, out)
        elif not block.name and isinstance(name, str) and name:
            block.name = name
            self._advance(out)
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            arguments = written(arguments)
        if isinstance(arguments, str) and arguments:
            self._arguments(block, arguments, out)

    def _known(self, index: object, given: object, name: object) -> _Block | None:
        """The call a piece continues. Without an index a name begins a call; with one, a new id and a name do.

        Some servers count every call as 0.
        """
        if not isinstance(index, int):
            return None if name or not isinstance(given, str | None) else self._calls.get(given, self._latest_call)
        block = self._calls.get(index)
        return None if block is not None and name and given and block.id != given else block

    def _arguments(self, block: _Block, piece: str, out: list[bytes]) -> None:
        if block is not self._open and block not in self._waiting:
            if piece.strip():
                self.failure = StreamBroken("the provider sent more of a tool call whose arguments were whole")
            return
        if not block.arguments:
            if not piece.strip():  # a client that reads along takes white space alone for broken JSON
                return
            if piece == "null":  # Groq's, for a function without parameters; no delta says {}
                block.arguments.append("{}")
                return
        block.arguments.append(piece)
        self._piece(block, "tool_use", piece, out)

    def _new(self, block: _Block, out: list[bytes]) -> _Block:
        self._waiting.append(block)
        self._last = block
        self._advance(out)
        return block

    def _piece(self, block: _Block, kind: str, piece: str, out: list[bytes]) -> None:
        if block is self._open:
            self._delta(kind, piece, out)
        else:
            block.held.append((kind, piece))
            self._advance(out)

    def _advance(self, out: list[bytes], *, over: bool = False) -> None:
        """Opens what waits, as far as what is open is whole; at the end (`over`) everything is."""
        while self._waiting and (over or self._open is None or self._open.is_whole()):
            block = self._waiting[0]
            if block.kind == "tool_use" and not block.name:
                if over:
                    self.failure = StreamBroken("the provider sent a tool call without a name")
                return
            self._close(out)
            self._waiting.popleft()
            self._begin_block(block, out)

    def _begin_block(self, block: _Block, out: list[bytes]) -> None:
        self._open = block
        self._index += 1
        self.started = True
        if block.kind == "tool_use":
            start: dict[str, Any] = {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
        elif block.kind == "redacted_thinking":
            start = {"type": "redacted_thinking", "data": block.data}
        else:
            start = _STARTS[block.kind]
        data = {"type": "content_block_start", "index": self._index, "content_block": start}
        out.append(encode(orjson.dumps(data), "content_block_start"))
        for kind, piece in block.held:
            self._delta(kind, piece, out)
        block.held.clear()

    def _delta(self, kind: str, piece: str, out: list[bytes]) -> None:
        delta, name = _DELTAS[kind]
        out.append(_DELTA % (self._index, delta, name, orjson.dumps(piece)))

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            if self._open.kind == "tool_use" and parsed_arguments("".join(self._open.arguments)) is None:
                self._is_torn = True
            data = {"type": "content_block_stop", "index": self._index}
            out.append(encode(orjson.dumps(data), "content_block_stop"))
            self._open = None

    def _end(self, out: list[bytes]) -> None:
        finish = self.summary.finish_reason
        if finish is None or not self._begun:
            self.failure = StreamBroken("the provider's stream ended without a finish_reason")
            return
        self._advance(out, over=True)
        if self.failure is not None:
            return
        self._close(out)
        if self._is_torn and finish != "length":
            self.failure = StreamBroken("the provider's stream calls a tool with arguments that are not a JSON object")
            return
        reason = stop_reason(finish, tools=bool(self._calls), refused=self._refused, stop_sequence=self._sequence)
        data = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": self._sequence if reason == "stop_sequence" else None},
            "usage": messages_usage(self.summary),
        }
        out.append(encode(orjson.dumps(data), "message_delta"))
        out.append(encode(b'{"type":"message_stop"}', "message_stop"))
        self.complete = True
