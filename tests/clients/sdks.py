"""What the tests with SDKs share: questions, tools, and providers that answer as the vendors do.

Answers are written by hand after the vendors' pages (platform.openai.com/docs/api-reference/chat,
docs.anthropic.com/en/api/messages-streaming), with ids, usage and pings where those have them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from pydantic import BaseModel

from tests.provider import Script, Seen, Wire

SIMULATED = '[providers.simulated]\n[providers.simulated.simulated]\nttft = "0ms"\ntokens_per_second = 0\n'
RIVERS = [{"role": "user", "content": "Tell me about rivers."}]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 x 1

_WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_CLOCK = {**_WEATHER, "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
OPENAI_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": _WEATHER}},
    {"type": "function", "function": {"name": "get_clock", "description": "Clock", "parameters": _CLOCK}},
]
ANTHROPIC_TOOLS: list[Any] = [
    {"name": "get_weather", "description": "Weather", "input_schema": _WEATHER},
    {"name": "get_clock", "description": "Clock", "input_schema": _CLOCK},
]


class Trip(BaseModel):
    """A structured answer."""

    city: str
    days: int
    stops: list[str]


# -- OpenAI


def chat(content: str | None, *, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-up1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "m-2026-01-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None, **message},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def tool_call(name: str, arguments: dict[str, Any], identity: str = "call_1") -> dict[str, Any]:
    return {
        "id": identity,
        "type": "function",
        "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
    }


def chat_stream(*deltas: dict[str, Any], finish: str = "stop", usage: bool = True) -> bytes:
    """A whole chat stream of these deltas."""
    head = {"id": "chatcmpl-up1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "m-2026-01-01"}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in ({"role": "assistant", "content": ""}, *deltas)
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        counts = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        chunks.append({**head, "choices": [], "usage": counts})
    return b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def tool_deltas(index: int, identity: str, name: str, *arguments: str) -> list[dict[str, Any]]:
    """A call as it is streamed: first its name, then its arguments in pieces."""
    first = {"index": index, "id": identity, "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": index, "function": {"arguments": piece}} for piece in arguments]
    return [{"tool_calls": [part]} for part in (first, *rest)]


# -- Anthropic


def message(*content: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_up1",
        "type": "message",
        "role": "assistant",
        "model": "claude-up-1",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 11,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 5,
            "output_tokens": 7,
            "service_tier": "standard",
        },
    }


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def thinking(words: str, signature: str = "c2lnbmVk") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def tool_use(name: str, arguments: dict[str, Any], identity: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def message_stream(*content: dict[str, Any], stop: str = "end_turn") -> bytes:
    """A whole Messages stream of these blocks, each in two deltas, with a ping."""
    start = message(stop=stop)
    start |= {"stop_reason": None, "usage": {**start["usage"], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(content):
        empty, deltas = _streamed(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop, "stop_sequence": None}
    events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}, {"type": "message_stop"}]
    return b"".join(anthropic_event(event) for event in events)


def anthropic_event(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def _streamed(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "tool_use":
        written = orjson.dumps(block["input"]).decode()
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in _halves(written)]
    field = block["type"]
    deltas = [{"type": f"{field}_delta", field: part} for part in _halves(block[field])]
    if field == "thinking":
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    return {"type": "text", "text": ""}, deltas


def _halves(words: str) -> tuple[str, str]:
    middle = len(words) // 2
    return words[:middle], words[middle:]


# -- providers


def answers(*turns: dict[str, Any] | bytes, status: int = 200, headers: dict[str, str] | None = None) -> Script:
    """Answers one call after the other; bytes are a stream. The last turn is said again and again."""
    said = iter(turns)
    latest: dict[str, Any] | bytes = turns[-1]

    async def script(seen: Seen, wire: Wire) -> None:
        turn = next(said, latest)
        if isinstance(turn, bytes):
            await wire.begin_stream(headers)
            await wire.chunk(turn)
            await wire.end_stream()
        else:
            await wire.answer(turn, status=status, headers=headers)

    return script


def first_events(stream: bytes, count: int) -> bytes:
    """The beginning of a stream."""
    return b"".join(event + b"\n\n" for event in stream.split(b"\n\n")[:count])


async def collect(stream: AsyncIterator[Any], into: list[Any]) -> None:
    """Reads a stream to its end; what came before a failure is kept."""
    async for item in stream:
        into.append(item)  # noqa: PERF401 - a comprehension would lose all of it
