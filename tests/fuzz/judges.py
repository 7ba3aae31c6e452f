"""Whether what leaves a crossing is valid in the dialect it goes to: bodies, answers and streams.

Rule: written after the vendors' pages and checked by their SDKs' own types; nothing of the code under test is used.
Values that the crossing passes on unseen ("the provider judges them in its own words", docs/crossing.md) are not looked
at here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anthropic.types as anthropic_types
import openai.types.chat as openai_types
from pydantic import TypeAdapter

COMPLETION = TypeAdapter(openai_types.ChatCompletion)
CHUNK = TypeAdapter(openai_types.ChatCompletionChunk)
MESSAGE = TypeAdapter(anthropic_types.Message)
EVENT: TypeAdapter[Any] = TypeAdapter(anthropic_types.RawMessageStreamEvent)

FINISHES = {"stop", "length", "tool_calls", "content_filter"}
STOPS = {"end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"}

_ID = re.compile(r"[a-zA-Z0-9_-]*")
_DATA = re.compile(r"data:[^;,]*;base64,.*", re.DOTALL)


# -- requests

CHAT_REQUEST = {
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "stream",
} | {
    *("stream_options", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "response_format", "user"),
    "service_tier",
}
MESSAGES_REQUEST = {"model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences"} | {
    *("stream", "metadata", "service_tier", "tools", "tool_choice", "thinking", "output_config"),
}


def judge_messages_request(body: dict[str, Any]) -> None:
    """A body of POST /v1/messages."""
    assert body.keys() <= MESSAGES_REQUEST, body.keys() - MESSAGES_REQUEST
    assert type(body["max_tokens"]) is int
    assert body["max_tokens"] >= 1
    turns = body["messages"]
    assert turns
    roles = [turn["role"] for turn in turns]
    assert set(roles) <= {"user", "assistant"}
    assert all(one != other for one, other in pairwise(roles)), "neighbours share a turn"
    for turn in turns:
        assert turn.keys() == {"role", "content"}
        _judge_blocks(turn["content"], turn["role"])
    if roles[-1] == "assistant":
        last = turns[-1]["content"]
        text = last if isinstance(last, str) else last[-1].get("text", "x")
        assert text == text.rstrip(), "a prefill ends with white space"
    if "system" in body:
        _judge_blocks(body["system"], "system")
    for tool in body.get("tools", ()):
        assert type(tool["name"]) is str
        assert type(tool["input_schema"]) is dict
        assert "type" in tool["input_schema"]
    if "tool_choice" in body:
        assert body["tool_choice"]["type"] in ("auto", "any", "tool", "none")
    stops = body.get("stop_sequences", ["x"])
    assert stops
    assert all(type(stop) is str and stop.strip() for stop in stops)
    assert body.get("metadata") is None or type(body["metadata"]["user_id"]) is str
    config = body.get("output_config", {})
    assert config.keys() <= {"effort", "format"}
    if "format" in config:
        assert config["format"]["type"] == "json_schema"
        assert type(config["format"]["schema"]) is dict


def _judge_blocks(content: Any, role: str) -> None:
    if isinstance(content, str):
        assert content.strip(), "blank"
        return
    assert isinstance(content, list)
    assert content
    allowed = {
        "user": {"text", "image", "document", "tool_result"},
        "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
        "system": {"text"},
        "tool_result": {"text", "image", "document"},
    }[role]
    kinds = [block["type"] for block in content]
    assert set(kinds) <= allowed
    assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result"), "results do not come first"
    for block in content:
        _judge_block(block)


def _judge_block(block: dict[str, Any]) -> None:
    kind = block["type"]
    if kind == "text":
        assert block["text"].strip(), "blank"
    elif kind == "tool_use":
        assert type(block["name"]) is str
        assert type(block["input"]) is dict
        assert _ID.fullmatch(block["id"])
    elif kind == "tool_result":
        assert _ID.fullmatch(block["tool_use_id"])
        if "content" in block:
            _judge_blocks(block["content"], "tool_result")
    elif kind == "thinking":
        assert type(block["thinking"]) is str
        assert block["signature"]
    elif kind == "redacted_thinking":
        assert block["data"]
    else:
        source = block["source"]
        assert source["type"] in ("base64", "url", "text")
        assert type(source.get("data", source.get("url"))) is str


def judge_chat_request(body: dict[str, Any]) -> None:
    """A body of POST /v1/chat/completions."""
    assert body.keys() <= CHAT_REQUEST, body.keys() - CHAT_REQUEST
    for message in body["messages"]:
        _judge_message(message)
    for tool in body.get("tools", ()):
        assert tool.keys() == {"type", "function"}
        assert tool["type"] == "function"
        assert type(tool["function"]["name"]) is str
        assert type(tool["function"]["parameters"]) is dict
    choice = body.get("tool_choice", "auto")
    assert choice in ("auto", "none", "required") or type(choice["function"]["name"]) is str
    assert body.get("stream_options", {"include_usage": True}) == {"include_usage": True}
    assert "stream_options" not in body or body["stream"] is True
    user = body.get("user", "x")
    assert type(user) is str
    assert 0 < len(user) <= 64
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]
        assert type(schema["schema"]) is dict
        assert type(schema["name"]) is str


def _judge_message(message: dict[str, Any]) -> None:
    role, content = message["role"], message["content"]
    if role == "assistant":
        assert type(content) is str or (content is None and message["tool_calls"])
        assert message.keys() <= {"role", "content", "tool_calls", "reasoning_content"}
        for call in message.get("tool_calls", ()):
            assert type(call["id"]) is str
            assert type(call["function"]["name"]) is str
            assert type(json.loads(call["function"]["arguments"])) is dict
    elif role == "tool":
        assert message.keys() == {"role", "content", "tool_call_id"}
        assert type(content) is str
        assert type(message["tool_call_id"]) is str
    elif role == "system":
        assert type(content) is str
    else:
        assert role == "user"
        assert content or type(content) is str
        for part in () if isinstance(content, str) else content:
            _judge_part(part)


def _judge_part(part: dict[str, Any]) -> None:
    if part["type"] == "text":
        assert type(part["text"]) is str
    elif part["type"] == "image_url":
        assert type(part["image_url"]["url"]) is str
    else:
        assert part["type"] == "file"
        assert type(part["file"]["filename"]) is str
        assert _DATA.fullmatch(part["file"]["file_data"])


# -- answers


def judge_completion(answer: dict[str, Any]) -> None:
    """A chat.completion."""
    COMPLETION.validate_python(answer)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] in FINISHES
    assert answer["id"]
    calls = choice["message"].get("tool_calls")
    assert calls is None or calls
    for call in calls or ():
        assert type(json.loads(call["function"]["arguments"])) is dict
        assert call["id"]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage["prompt_tokens"], usage["completion_tokens"]) >= 0


def judge_message(answer: dict[str, Any]) -> None:
    """A message."""
    MESSAGE.validate_python(answer)
    assert answer["id"]
    assert answer["stop_reason"] in STOPS
    assert (answer["stop_sequence"] is not None) == (answer["stop_reason"] == "stop_sequence")
    for block in answer["content"]:
        assert block["type"] != "text" or block["text"]
        assert block["type"] != "tool_use" or block["id"]
    usage = answer["usage"]
    assert min(usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) >= 0
    assert usage["cache_creation_input_tokens"] >= 0


# -- streams


@dataclass
class Told:
    """What a stream has said, whether or not it came to its end."""

    text: str = ""
    thought: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, name, arguments)"""
    finish: str | None = None
    usage: dict[str, Any] | None = None
    is_over: bool = False


def events(stream: bytes) -> list[tuple[str, str]]:
    """(name, data) of every event, each of one line of data, as both vendors write them."""
    assert not stream or stream.endswith(b"\n\n")
    found = []
    for event in stream.decode().split("\n\n")[:-1]:
        lines = event.split("\n")
        name = lines.pop(0).removeprefix("event: ") if lines[0].startswith("event: ") else ""
        assert len(lines) == 1, event
        assert lines[0].startswith("data: "), event
        found.append((name, lines[0].removeprefix("data: ")))
    return found


def judge_chat_stream(stream: bytes) -> Told:
    """Chunks of a chat completion: one head, one finish, then at most the usage, then [DONE] and nothing more."""
    told, heads = Told(), set()
    for name, data in events(stream):
        assert not told.is_over, "more after [DONE]"
        assert not name
        if data == "[DONE]":
            assert told.finish is not None, "a [DONE] without a finish"
            told.is_over = True
            continue
        chunk = json.loads(data)
        CHUNK.validate_python(chunk)
        heads.add((chunk["id"], chunk["created"], chunk["model"]))
        if chunk.get("usage"):
            assert told.finish is not None
            assert not chunk["choices"]
            told.usage = chunk["usage"]
        for choice in chunk["choices"]:
            assert told.finish is None, "more after the finish"
            assert choice["index"] == 0
            _tell_delta(told, choice["delta"])
            told.finish = choice["finish_reason"]
            assert told.finish is None or told.finish in FINISHES
    assert len(heads) <= 1
    return told


def _tell_delta(told: Told, delta: dict[str, Any]) -> None:
    told.text += delta.get("content") or ""
    told.thought += delta.get("reasoning_content") or ""
    for call in delta.get("tool_calls", ()):
        function = call["function"]
        if "id" in call:
            assert call["index"] == len(told.calls)
            told.calls.append((call["id"], function["name"], function["arguments"]))
        else:
            identity, name, arguments = told.calls[call["index"]]
            told.calls[call["index"]] = identity, name, arguments + function["arguments"]


def judge_messages_stream(stream: bytes) -> Told:
    """Events of a message: begun once, one block open at a time and counted up, a delta, a stop and nothing more."""
    told, index, is_open, begun = Told(), -1, "", False
    for name, data in events(stream):
        event = json.loads(data)
        EVENT.validate_python(event)
        kind = event["type"]
        assert name == kind
        assert not told.is_over, "more after message_stop"
        assert told.finish is None or kind == "message_stop", "more after message_delta"
        assert begun is not (kind == "message_start")
        begun = True
        if kind == "content_block_start":
            assert not is_open
            index += 1
            block = event["content_block"]
            is_open = block["type"]
            if is_open == "tool_use":
                assert block["input"] == {}
                told.calls.append((block["id"], block["name"], ""))
        elif kind == "content_block_delta":
            _tell_piece(told, event["delta"], is_open)
        elif kind == "content_block_stop":
            assert is_open
            is_open = ""
        elif kind == "message_delta":
            assert not is_open
            told.finish, told.usage = event["delta"]["stop_reason"], event["usage"]
            assert told.finish in STOPS
        elif kind == "message_stop":
            assert told.finish is not None, "a stop without a reason"
            told.is_over = True
        if kind.startswith("content_block"):
            assert event["index"] == index
    return told


def _tell_piece(told: Told, delta: dict[str, Any], is_open: str) -> None:
    kind = delta["type"]
    if kind == "text_delta":
        assert is_open == "text"
        told.text += delta["text"]
    elif kind == "input_json_delta":
        assert is_open == "tool_use"
        identity, name, arguments = told.calls[-1]
        told.calls[-1] = identity, name, arguments + delta["partial_json"]
    else:
        assert is_open == "thinking"
        assert kind in ("thinking_delta", "signature_delta")
        told.thought += delta.get("thinking", "")
