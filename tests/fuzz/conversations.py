"""Sound requests and answers of both dialects, with anything in them that may stand there.

Rule: everything here is what a vendor's own client sends or its server answers; what is made wrong is made so by
strategies.spoiled. Texts may be blank, strange, or look like something else.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import strategies as st

from tests.fuzz.strategies import JSON, TEXT

WORDS = st.sampled_from(
    [
        "",
        " ",
        "\n",
        "so",
        "hi ",
        "[DONE]",
        "data: [DONE]",
        'event: error\ndata: {"error":1}',
        "\u2028",
        "👩‍👩‍👧",
        "error: x",
    ]
)
SAID = WORDS | TEXT
IDS = st.sampled_from(["c1", "c.1", "functions.get:0", "toolu_01", "é", "a/b"]) | st.text(min_size=1, max_size=5)
FUNCTIONS = st.sampled_from(["add", "now", "message_stop", "[DONE]"])
INPUT = st.sampled_from(
    [{}, {"a": 1}, {"": None}, {"type": "message_stop"}, {"a": [1.5, {"b": "\u2028"}]}]
) | st.dictionaries(TEXT, JSON, max_size=2)
NUMBER = st.floats(0, 1)
SCHEMA = st.sampled_from(
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
        {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "object", "properties": {}}}},
        {},
    ]
)
CACHE = st.just({"type": "ephemeral"})
URL = "https://example.org/a.png"
PNG = "data:image/png;base64,aGk="


def some(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these members; a value that is no strategy is itself."""
    return st.fixed_dictionaries(_strategies(required), optional=_strategies(optional))


def _strategies(members: dict[str, Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in members.items()}


def turns(turn: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """A conversation; most have neighbours that are one turn to the other dialect."""
    return st.lists(turn, min_size=1, max_size=2) | st.lists(turn, min_size=3, max_size=5)


# -- chat

_TEXT_PART = some({"type": "text", "text": SAID}, {"cache_control": CACHE})
_IMAGE_PART = some(
    {"type": "image_url", "image_url": some({"url": st.sampled_from([URL, PNG])}, {"detail": "low"})}, {}
)
_FILE_PART = some(
    {
        "type": "file",
        "file": some(
            {"file_data": st.sampled_from(["data:application/pdf;base64,aGk=", "data:text/plain;base64,aGk="])},
            {"filename": SAID},
        ),
    },
    {},
)
_CALL = some(
    {
        "id": IDS,
        "type": "function",
        "function": some({"name": FUNCTIONS, "arguments": INPUT.map(lambda given: orjson.dumps(given).decode())}, {}),
    },
    {},
)
_DETAIL = st.one_of(
    some({"type": "reasoning.text", "text": SAID, "signature": "s1", "index": st.integers(0, 1)}, {}),
    some({"type": "reasoning.text", "text": SAID, "index": st.integers(0, 1)}, {"format": "anthropic-claude-v1"}),
    some({"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 2}, {}),
)
CHAT_TURN = st.one_of(
    some({"role": st.sampled_from(["system", "developer"]), "content": SAID | st.lists(_TEXT_PART, max_size=2)}, {}),
    some(
        {"role": "user", "content": SAID | st.lists(_TEXT_PART | _IMAGE_PART | _FILE_PART, min_size=1, max_size=3)},
        {"name": "n", "cache_control": CACHE},
    ),
    some(
        {"role": "assistant", "content": st.none() | SAID | st.lists(_TEXT_PART, min_size=1, max_size=2)},
        {
            "tool_calls": st.lists(_CALL, min_size=1, max_size=2),
            "refusal": SAID,
            "reasoning_content": SAID,
            "reasoning_details": st.lists(_DETAIL, max_size=3),
        },
    ),
    some({"role": "tool", "tool_call_id": IDS, "content": SAID | st.lists(_TEXT_PART, min_size=1, max_size=2)}, {}),
)
CHAT_REQUEST = some(
    {"model": "m", "messages": turns(CHAT_TURN)},
    {
        "stream": st.booleans(),
        "stream_options": some({}, {"include_usage": st.booleans()}),
        "max_tokens": st.integers(1, 2**60),
        "max_completion_tokens": st.integers(1, 9000),
        "temperature": NUMBER,
        "top_p": NUMBER,
        "stop": st.just("END") | st.lists(SAID, max_size=2),
        "tools": st.lists(
            some(
                {"type": "function", "function": some({"name": FUNCTIONS}, {"parameters": SCHEMA, "strict": True})}, {}
            ),
            max_size=2,
        ),
        "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "add"}}]),
        "parallel_tool_calls": st.booleans(),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
        "response_format": st.just({"type": "text"})
        | some({"type": "json_schema", "json_schema": some({"name": "n", "schema": SCHEMA}, {"strict": True})}, {}),
        "user": SAID,
        "seed": 1,
        "n": 1,
    },
)


# -- messages

_TEXT_BLOCK = some({"type": "text", "text": SAID}, {"cache_control": CACHE})
_IMAGE_BLOCK = some(
    {
        "type": "image",
        "source": st.sampled_from(
            [{"type": "base64", "media_type": "image/png", "data": "aGk="}, {"type": "url", "url": URL}]
        ),
    },
    {},
)
_PDF = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
_DOCUMENT_BLOCK = some(
    {
        "type": "document",
        "source": st.just(_PDF)
        | some({"type": "text", "media_type": "text/plain", "data": SAID}, {})
        | some({"type": "content", "content": SAID | st.lists(_TEXT_BLOCK | _IMAGE_BLOCK, max_size=2)}, {}),
    },
    {"title": SAID, "context": SAID},
)
_RESULT = some(
    {"type": "tool_result", "tool_use_id": IDS},
    {"content": SAID | st.lists(_TEXT_BLOCK | _IMAGE_BLOCK | _DOCUMENT_BLOCK, max_size=3), "is_error": st.booleans()},
)
_USE = some({"type": "tool_use", "id": IDS, "name": FUNCTIONS, "input": INPUT}, {})
THINKING = st.one_of(
    some({"type": "thinking", "thinking": SAID, "signature": st.sampled_from(["", "s1", "s2"])}, {}),
    some({"type": "redacted_thinking", "data": st.sampled_from(["d1", "d2"])}, {}),
)
MESSAGES_TURN = st.one_of(
    some(
        {
            "role": "user",
            "content": SAID | st.lists(_TEXT_BLOCK | _IMAGE_BLOCK | _DOCUMENT_BLOCK | _RESULT, min_size=1, max_size=4),
        },
        {},
    ),
    some({"role": "assistant", "content": SAID | st.lists(_TEXT_BLOCK | _USE | THINKING, min_size=1, max_size=4)}, {}),
    some({"role": "system", "content": SAID | st.lists(_TEXT_BLOCK, max_size=2)}, {}),
)
MESSAGES_REQUEST = some(
    {"model": "m", "max_tokens": st.integers(1, 2**60), "messages": turns(MESSAGES_TURN)},
    {
        "system": SAID | st.lists(_TEXT_BLOCK, max_size=2),
        "stream": st.booleans(),
        "temperature": NUMBER,
        "top_p": NUMBER,
        "stop_sequences": st.lists(SAID, max_size=2),
        "tools": st.lists(some({"name": FUNCTIONS, "input_schema": SCHEMA}, {"description": SAID}), max_size=2),
        "tool_choice": some(
            {"type": st.sampled_from(["auto", "any", "none"])}, {"disable_parallel_tool_use": st.booleans()}
        )
        | st.just({"type": "tool", "name": "add"}),
        "thinking": st.sampled_from([{"type": "adaptive"}, {"type": "disabled"}])
        | some({"type": "enabled", "budget_tokens": st.integers(1024, 2**60)}, {}),
        "output_config": some({}, {"effort": st.sampled_from(["low", "max"]), "format": st.none()}),
        "metadata": some({}, {"user_id": SAID | st.just("u" * 70)}),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
    },
)


# -- answers

COUNT = st.integers(0, 2**40)
CHAT_USAGE = some(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    {
        "prompt_tokens_details": some({}, {"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "completion_tokens_details": some({}, {"reasoning_tokens": COUNT}),
    },
)
MESSAGES_USAGE = some(
    {"input_tokens": COUNT, "output_tokens": COUNT},
    {"cache_read_input_tokens": COUNT, "cache_creation_input_tokens": COUNT},
)
CHAT_MESSAGE = some(
    {"role": "assistant", "content": st.none() | SAID},
    {
        "refusal": st.none() | SAID,
        "reasoning_content": SAID,
        "reasoning_details": st.lists(_DETAIL, max_size=3),
        "tool_calls": st.lists(_CALL, max_size=3),
    },
)


def _completion(message: dict[str, Any], finish: str, usage: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "g",
        "choices": [choice],
        "usage": usage,
    }


CHAT_ANSWER = st.builds(
    _completion,
    CHAT_MESSAGE,
    st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call", "model_length", "new"]),
    CHAT_USAGE,
)


def _message(content: list[dict[str, Any]], stop: str, usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": "END" if stop == "stop_sequence" else None,
        "usage": usage,
    }


ANSWERED = st.one_of(
    some({"type": "text", "text": SAID}, {}),
    THINKING,
    _USE,
    some({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": INPUT}, {}),
)
MESSAGES_ANSWER = st.builds(
    _message,
    st.lists(ANSWERED, max_size=4),
    st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "new"]),
    MESSAGES_USAGE,
)
