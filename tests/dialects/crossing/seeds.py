"""Whole and valid requests, answers and streams: every field of the tables stands in one of them.

Rule: data only. The tests break one value of these at a time.
"""

from __future__ import annotations

from typing import Any

from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS, Table

TOOL_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/c"}]}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"c": {"type": "array", "items": {"enum": [1, "x"]}}},
}
PNG = "data:image/png;base64,aGk="
CACHE = {"type": "ephemeral"}
CALL = {"id": "c.1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def harmless(table: Table, at: str) -> dict[str, Any]:
    """The refused fields of a place, with values that pass."""
    found = {}
    for name, field in table.items():
        place, _, last = name.rpartition(".")
        if place == at and field.harmless:
            found[last] = field.harmless[0]
    return found


CHAT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "max_tokens": 4000,
    "max_completion_tokens": 5000,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "stop": ["END"],
    "tools": [
        {
            "type": "function",
            "function": {"name": "add", "description": "adds", "parameters": TOOL_SCHEMA, "strict": True},
            "cache_control": CACHE,
        },
        {"type": "function", "function": {"name": "now"}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "add"}},
    "parallel_tool_calls": False,
    "reasoning_effort": "high",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"schema": TOOL_SCHEMA, "name": "n", "description": "d", "strict": True},
    },
    "user": "u",
    "safety_identifier": "s",
    "service_tier": "default",
    "seed": 1,
    "random_seed": 1,
    "metadata": {"a": "b"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"a": 1},
    "usage": {"include": True},
    **harmless(CHAT_FIELDS, ""),
    "messages": [
        {"role": "system", "content": "be", "name": "n", "cache_control": CACHE},
        {"role": "developer", "content": [{"type": "text", "text": "brief"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi", "cache_control": CACHE, "prompt_cache_breakpoint": True},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}, "cache_control": CACHE},
                {"type": "image_url", "image_url": "https://example.org/a.png"},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                    "cache_control": CACHE,
                },
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "so"},
                {"type": "refusal", "refusal": "no"},
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            ],
            "refusal": "never",
            "reasoning": "hm",
            "reasoning_content": "hm",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "h", "index": 0, "format": "anthropic-claude-v1"},
                {"type": "reasoning.text", "text": "m", "signature": "s1", "index": 0},
                {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1},
            ],
            "annotations": [],
            "prefix": True,
            "tool_calls": [{**CALL, "index": 0, "cache_control": CACHE}, {**CALL, "id": "c.2"}],
        },
        {"role": "tool", "tool_call_id": "c.1", "content": "2"},
        {"role": "tool", "tool_call_id": "c.2", "content": [{"type": "text", "text": "3"}]},
        {"role": "assistant", "content": "so "},
    ],
}
CHAT_REQUESTS: list[dict[str, Any]] = [
    CHAT,
    CHAT | {"tool_choice": "required", "reasoning": {"effort": "low", "exclude": True}},
    CHAT | {"reasoning": {"max_tokens": 2000, "enabled": True}, "stop": "END"},
    CHAT | {"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}},
]

SOURCE = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "system": [{"type": "text", "text": "be", "cache_control": CACHE, "citations": []}],
    "stream": True,
    "max_tokens": 4000,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop_sequences": ["END"],
    "tools": [
        {
            "type": "custom",
            "name": "add",
            "description": "adds",
            "input_schema": TOOL_SCHEMA,
            "strict": True,
            "cache_control": CACHE,
            "eager_input_streaming": True,
            **harmless(MESSAGES_FIELDS, "tools[]"),
        }
    ],
    "tool_choice": {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": TOOL_SCHEMA, "name": "n"}},
    "output_format": {"type": "json_schema", "schema": TOOL_SCHEMA, "name": "n"},
    "metadata": {"user_id": "u" * 70},
    "service_tier": "standard_only",
    "cache_control": CACHE,
    "diagnostics": {},
    "betas": ["b"],
    **harmless(MESSAGES_FIELDS, ""),
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi", "cache_control": CACHE, "citations": []},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    "cache_control": CACHE,
                },
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {
                    "type": "document",
                    "source": SOURCE,
                    "title": "t",
                    "context": "c",
                    "citations": {"enabled": False},
                    "cache_control": CACHE,
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t"},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "thinking", "thinking": "hm", "signature": "s1"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "so"},
                {
                    "type": "tool_use",
                    "id": "t1",
                    "name": "add",
                    "input": {"a": 1},
                    "cache_control": CACHE,
                    "caller": {"type": "direct"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "cache_control": CACHE,
                    "content": [
                        {"type": "text", "text": "2"},
                        {"type": "document", "source": SOURCE, "title": "t", "context": "c"},
                        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "t2", "content": "3"},
            ],
        },
        {"role": "system", "content": "and"},
        {"role": "assistant", "content": "so"},
    ],
}
MESSAGES_REQUESTS: list[dict[str, Any]] = [
    MESSAGES,
    MESSAGES | {"tool_choice": {"type": "any"}, "system": "be", "output_config": {}},
]

CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_cache_hit_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
MESSAGES_USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "output_tokens": 5,
    "output_tokens_details": {"thinking_tokens": 2},
}
DETAILS = [
    {"type": "reasoning.text", "text": "h", "signature": "s1", "index": 0, "format": "anthropic-claude-v1"},
    {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1},
    {"type": "reasoning.summary", "summary": "m"},
]
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "thinking", "thinking": "hm"},
    {"type": "text", "text": "so"},
]
SAID: list[dict[str, Any]] = [
    {"role": "assistant", "content": "so", "reasoning_content": "hm", "refusal": "no", "reasoning_details": DETAILS},
    {"role": "assistant", "content": "so", "reasoning": "hm", "tool_calls": [{"index": 0, **CALL}]},
    {"role": "assistant", "content": PARTS, "reasoning_details": DETAILS},
    {"role": "assistant", "content": {"a": 1}, "function_call": CALL["function"]},
]
CHAT_ANSWERS: list[dict[str, Any]] = [
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "g",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "native_finish_reason": "stop",
                "stop_reason": "END",
                "logprobs": None,
                "error": None,
                "message": said,
            }
        ],
        "usage": CHAT_USAGE,
        "error": None,
    }
    for said in SAID
]
MESSAGES_ANSWERS: list[dict[str, Any]] = [
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s1"},
            {"type": "redacted_thinking", "data": "d1"},
            {"type": "text", "text": "so", "citations": None},
            {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
        ],
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "explanation": "no"},
        "usage": MESSAGES_USAGE,
        "error": None,
    }
]
MESSAGES_STREAM: list[Any] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "c", "usage": MESSAGES_USAGE, "content": []}},
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "h", "signature": "s"},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s1"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "d1"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": "s"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "o"}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "tool_use", "id": "t", "name": "a", "input": {}},
    },
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    {"type": "content_block_stop", "index": 3},
    {
        "type": "content_block_start",
        "index": 4,
        "content_block": {"type": "tool_use", "id": "u", "name": "b", "input": {"a": 1}},
    },
    {"type": "content_block_stop", "index": 4},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "refusal", "stop_sequence": None, "stop_details": {"explanation": "no"}},
        "usage": MESSAGES_USAGE,
    },
    {"type": "message_stop"},
]
CHAT_STREAM: list[Any] = [
    *(
        {"id": "c1", "model": "g", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in (
            *SAID[:3],
            {"content": {"a": 1}},
            {"tool_calls": [{"index": 1, "id": "c.9", "function": {"name": "now", "arguments": ""}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
            {"tool_calls": [{"index": 2, "id": "c.8", "function": {"name": "now", "arguments": {"a": 1}}}]},
        )
    ),
    {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END", "error": None}]},
    {"id": "c1", "choices": [], "usage": CHAT_USAGE, "error": None},
]
ERRORS: list[dict[str, Any]] = [
    {"error": {"type": "overloaded_error", "message": "busy", "code": 5, "param": "p"}},
    {"choices": [{"index": 0, "error": {"type": "t", "message": "busy", "code": "c", "param": "p"}}]},
    {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
]

FUNCTION_STREAM: list[Any] = [
    {"id": "c1", "choices": [{"index": 0, "delta": SAID[3], "finish_reason": "function_call"}]},
]
REFUSALS: list[dict[str, Any]] = [
    *ERRORS,
    {"message": "busy", "type": "t", "code": 5, "param": "p"},
    {"detail": [{"loc": ["body", "n"], "msg": "too small", "type": "t"}]},
    {"error": "busy"},
]
OTHER_REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("completions", {"model": "m", "prompt": ["x"], "n": 1, "stop": ["x"], "logit_bias": {"5": 1}, "stream": False}),
    ("embeddings", {"model": "m", "input": ["x"], "dimensions": 5, "encoding_format": "float"}),
]
OTHER_ANSWERS: list[tuple[str, dict[str, Any]]] = [
    (
        "completions",
        {"id": "c", "model": "m", "choices": [{"text": "x", "finish_reason": "stop"}], "usage": CHAT_USAGE},
    ),
    ("embeddings", {"model": "m", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}}),
    ("messages/count_tokens", {"input_tokens": 5}),
]
