"""A Messages stream, written as a Chat Completions stream.

Rule: every chunk is what an event said; the end is written only when message_stop came. The head of a chunk never
changes, so it is written once and only deltas are serialised.
Deliberately absent: server tools' blocks and citations (see answer_to_chat.py), pings, and events nobody knows yet,
which Anthropic asks clients to pass over.

https://platform.claude.com/docs/en/build-with-claude/streaming
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from runestone.core.summary import Summary
from runestone.dialects.crossing.failures import error_of, said, written
from runestone.dialects.crossing.reasoning import FORMAT, encrypted_detail
from runestone.dialects.crossing.reasons import finish_reason
from runestone.dialects.crossing.tools import made_id
from runestone.dialects.crossing.usage import chat_usage
from runestone.dialects.dialect import text
from runestone.dialects.sse import Decoder, Event
from runestone.dialects.usage import read_messages
from runestone.errors import ProviderError, ProviderFailed, StreamBroken

_DONE: Final = b"data: [DONE]\n\n"

_FIRST: Final = ("message_start", "error")
"""Events that may come before message_start has."""


@dataclass(slots=True)
class _Block:
    """An open content block. `number` counts calls, or reasoning details; -1 is a block chat has no place for."""

    kind: str
    number: int = -1
    whole: Any = None  # the input of a tool_use that came with its start, as some compatible servers send it
    empty: bool = True  # nothing of it has been sent beyond its start


class StreamToChat:
    """Fed the provider's Messages events, gives the client's chat chunks.

    `summary` fills as events pass; `failure` is the provider's error event, or what made the stream unreadable;
    `started` says that content, thinking or a call has gone out. `created` is in seconds of Unix time.
    """

    def __init__(self, *, created: int, include_usage: bool) -> None:
        self.summary = Summary()
        self.failure: ProviderError | None = None
        self.started = False
        self._created = created
        self._include_usage = include_usage
        self._decoder = Decoder()
        self._head = b""
        self._tail = (
            b',"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        )
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._details = 0
        self.complete = False

    def feed(self, block: bytes) -> bytes:
        """The chunks for whole events. After a failure, and after the end, nothing more comes."""
        return self._write(self._decoder.feed(block))

    def finish(self) -> bytes:
        """What is owed at the provider's clean end. Raises the failure, or StreamBroken without a message_stop."""
        rest = self._write(self._decoder.finish())
        if self.failure is not None:
            raise self.failure
        if not self.complete:
            raise StreamBroken("the provider's stream ended before its message_stop")
        return rest

    def _write(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self.complete or self.failure is not None:
                break
            try:
                self._event(event, out)
            except ProviderFailed as failure:
                self.failure = failure
        return b"".join(out)

    def _event(self, event: Event, out: list[bytes]) -> None:
        try:
            data = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            self.failure = StreamBroken("the provider sent an event that is not JSON")
            return
        kind = data.get("type") if isinstance(data, dict) else None
        handle = _EVENTS.get(kind) if isinstance(kind, str) else None
        if handle is not None:
            if self._head or kind in _FIRST:
                handle(self, data, out)
            else:
                self.failure = StreamBroken("the provider's stream did not begin with message_start")
        elif not isinstance(data, dict):
            self.failure = StreamBroken("the provider sent an event that is not an object")
        elif data.get("error"):
            self._error(data, out)

    def _error(self, data: dict[str, Any], _: list[bytes]) -> None:
        self.failure = error_of(data.get("error") or {})

    def _message_start(self, data: dict[str, Any], out: list[bytes]) -> None:
        message = data.get("message")
        if not isinstance(message, dict) or self._head:
            self.failure = StreamBroken("the provider's message_start holds no message, or is not the first")
            return
        self.summary.response_id = text(message.get("id")) or made_id("chatcmpl-", self._created, written(data))
        self.summary.model = text(message.get("model"))
        read_messages(message.get("usage"), self.summary)
        head = {
            "id": self.summary.response_id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.summary.model or "",
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._delta({"role": "assistant", "content": ""}, out)

    def _delta(self, delta: dict[str, Any], out: list[bytes]) -> None:
        out.append(b'%b{"index":0,"delta":%b%b' % (self._head, orjson.dumps(delta), self._tail))

    def _start(self, data: dict[str, Any], out: list[bytes]) -> None:
        given = data.get("content_block")
        given = given if isinstance(given, dict) else {}
        block = _Block(text(given.get("type")) or "")
        self._blocks[_index(data)] = block
        if block.kind == "text":
            self._text(block, given, out)
        elif block.kind in ("thinking", "redacted_thinking"):
            block.number = self._details
            self._details += 1
            if block.kind == "redacted_thinking":
                detail = encrypted_detail(said(given.get("data"), "redacted thinking"), block.number)
                self._delta({"reasoning_details": [detail]}, out)
                self.started = True
                return
            self._thinking(block, given, out)
            self._signature(block, given, out)
        elif block.kind == "tool_use":
            block.number = self._calls
            self._calls += 1
            block.whole = given.get("input")
            name = text(given.get("name"))
            if name is None or not (block.whole is None or isinstance(block.whole, dict)):
                raise ProviderFailed("the provider's stream holds a tool call without name or input")
            made = text(given.get("id")) or made_id("call_", self.summary.response_id, block.number)
            function = {"name": name, "arguments": ""}
            call = {"index": block.number, "id": made, "type": "function", "function": function}
            self._delta({"tool_calls": [call]}, out)
            self.started = True

    def _continue(self, data: dict[str, Any], out: list[bytes]) -> None:
        block = self._blocks.get(_index(data))
        delta = data.get("delta")
        if block is None or not isinstance(delta, dict):
            self.failure = StreamBroken("the provider sent a delta for a block it had not begun")
            return
        write = _DELTAS.get(text(delta.get("type")) or "")
        if write is not None:
            write(self, block, delta, out)

    def _text(self, block: _Block, delta: dict[str, Any], out: list[bytes]) -> None:
        piece = said(delta.get("text"), "text")
        if piece and block.kind == "text":
            self.started = True
            self._delta({"content": piece}, out)

    def _thinking(self, block: _Block, delta: dict[str, Any], out: list[bytes]) -> None:
        piece = said(delta.get("thinking"), "thinking")
        if piece and block.number >= 0:
            self.started = True
            self._delta({"reasoning_content": piece, "reasoning_details": [self._detail(block, "text", piece)]}, out)

    def _signature(self, block: _Block, delta: dict[str, Any], out: list[bytes]) -> None:
        signature = said(delta.get("signature"), "signature")
        if signature and block.number >= 0:
            self._delta({"reasoning_details": [self._detail(block, "signature", signature)]}, out)

    def _detail(self, block: _Block, name: str, value: str) -> dict[str, Any]:
        # Clients, OpenAI's SDK among them, join the strings of entries with one index: the format is sent once a block.
        detail: dict[str, Any] = {"type": "reasoning.text", name: value, "index": block.number}
        if block.empty:
            detail["format"] = FORMAT
            block.empty = False
        return detail

    def _input(self, block: _Block, delta: dict[str, Any], out: list[bytes]) -> None:
        piece = said(delta.get("partial_json"), "tool call's piece")
        if piece and block.kind == "tool_use":
            block.empty = False
            self._arguments(block.number, piece, out)

    def _arguments(self, number: int, piece: str, out: list[bytes]) -> None:
        self._delta({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}, out)

    def _stop(self, data: dict[str, Any], out: list[bytes]) -> None:
        block = self._blocks.pop(_index(data), None)
        if block is not None and block.kind == "tool_use" and block.empty:
            # A call without input has no deltas; clients parse the arguments, and "" is no JSON.
            self._arguments(block.number, written(block.whole or {}), out)

    def _message_delta(self, data: dict[str, Any], out: list[bytes]) -> None:
        read_messages(data.get("usage"), self.summary)
        delta = data.get("delta")
        reason = text(delta.get("stop_reason")) if isinstance(delta, dict) else None
        if not isinstance(delta, dict) or reason is None or self.summary.finish_reason is not None:
            return
        details = delta.get("stop_details")
        explanation = text(details.get("explanation")) if isinstance(details, dict) else None
        if reason == "refusal" and explanation:
            self._delta({"refusal": explanation}, out)
        self.summary.finish_reason = reason
        finish = orjson.dumps(finish_reason(reason, tools=self._calls > 0))
        usage = b',"usage":null' if self._include_usage else b""
        choice = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":%b}]' % finish
        out.append(b"%b%b%b}\n\n" % (self._head, choice, usage))

    def _message_stop(self, _: dict[str, Any], out: list[bytes]) -> None:
        if self.summary.finish_reason is None:
            self.failure = StreamBroken("the provider's stream ended without a stop_reason")
            return
        if self._include_usage:
            out.append(b'%b],"usage":%b}\n\n' % (self._head, orjson.dumps(chat_usage(self.summary))))
        out.append(_DONE)
        self.complete = True


def _index(data: dict[str, Any]) -> int:
    index = data.get("index")
    return index if isinstance(index, int) else 0


_EVENTS: Final[dict[str, Callable[[StreamToChat, dict[str, Any], list[bytes]], None]]] = {
    "message_start": StreamToChat._message_start,
    "content_block_start": StreamToChat._start,
    "content_block_delta": StreamToChat._continue,
    "content_block_stop": StreamToChat._stop,
    "message_delta": StreamToChat._message_delta,
    "message_stop": StreamToChat._message_stop,
    "error": StreamToChat._error,
}

_DELTAS: Final[dict[str, Callable[[StreamToChat, _Block, dict[str, Any], list[bytes]], None]]] = {
    "text_delta": StreamToChat._text,
    "thinking_delta": StreamToChat._thinking,
    "signature_delta": StreamToChat._signature,
    "input_json_delta": StreamToChat._input,
}
