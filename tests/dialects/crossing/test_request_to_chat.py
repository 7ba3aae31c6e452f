"""Messages requests as Chat Completions requests."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from runestone.dialects.crossing.request_to_chat import request_to_chat
from runestone.errors import BadRequest

HELLO = {"role": "user", "content": "hello"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
CALL = {"id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
TOOL = {"name": "add", "input_schema": {"type": "object", "properties": {}}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def crossed(fields: dict[str, Any], **options: Any) -> dict[str, Any]:
    before = copy.deepcopy(fields)
    given = {"max_tokens": 10, "messages": [HELLO], **fields}
    body = request_to_chat(given, model="gpt-4o", **{"max_tokens_field": "max_completion_tokens", **options})
    assert fields == before, "the client's fields are not ours to change"
    return body


def messages(*turns: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = crossed({"messages": list(turns)}, **options)["messages"]
    return out


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"stop_sequences": ["END"]}, {"stop": ["END"]}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False}, {"stream": False}),
        ({"metadata": {"user_id": "ada"}}, {"user": "ada"}),
        ({"service_tier": "auto"}, {}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"cache_control": {"type": "ephemeral"}}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, {"reasoning_effort": "xhigh"}),
        ({"tools": [], "tool_choice": {"type": "auto"}}, {}),
    ],
)
def test_parameters(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the parameters of a request become."""
    assert crossed(fields) == {"model": "gpt-4o", "max_completion_tokens": 10, "messages": [HELLO]} | expected


def test_the_limit_has_the_name_the_provider_wants() -> None:
    """OpenAI's reasoning models know only the newer name, most others only the older."""
    assert crossed({}, max_tokens_field="max_tokens")["max_tokens"] == 10


def test_a_provider_without_stream_options_gets_none() -> None:
    """A quirk of the provider."""
    assert "stream_options" not in crossed({"stream": True}, stream_usage=False)


def test_a_user_longer_than_openai_takes_is_its_digest() -> None:
    """Claude Code's user_id has more than 64 signs; the same user stays the same."""
    user = crossed({"metadata": {"user_id": "u" * 150}})["user"]
    assert len(user) == 64
    assert user == crossed({"metadata": {"user_id": "u" * 150}})["user"]


@pytest.mark.parametrize("field", ["output_config", "output_format"])
@pytest.mark.parametrize(("schema", "strict"), [(CLOSED, True), ({"type": "object", "properties": {"a": {}}}, False)])
def test_a_schema_is_strict_where_openai_takes_it_so(field: str, schema: dict[str, Any], strict: bool) -> None:
    """The newer field and the older beta's."""
    given = {"type": "json_schema", "schema": schema}
    fields = {field: {"format": given}} if field == "output_config" else {field: given}
    assert crossed(fields)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": strict},
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_k": 5}, "top_k"),
        ({"mcp_servers": [{"name": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"context_management": {"edits": []}}, "context_management"),
        ({"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]}, "tools[1].type"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tool_choice": {"type": "odd"}}, "tool_choice.type"),
        ({"output_config": {"task_budget": {"total": 1}}}, "output_config.task_budget"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [HELLO, {"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[1].content[0].type",
        ),
        (
            {"messages": [HELLO, {"role": "assistant", "content": [{"type": "web_search_tool_result"}]}]},
            "messages[1].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [PDF | {"source": {"type": "url", "url": "https://x"}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [PDF | {"citations": {"enabled": True}}]}]},
            "messages[0].content[0].citations",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]}],
                    }
                ]
            },
            "messages[0].content[0].content[0].type",
        ),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [PNG | {"source": {"type": "file"}}]}]},
            "messages[0].content[0].source.type",
        ),
        ({"telepathy": True}, "telepathy"),
    ],
)
def test_what_cannot_cross_is_named(fields: dict[str, Any], param: str) -> None:
    """A refusal is a 400 with the path of the field."""
    with pytest.raises(BadRequest) as caught:
        crossed(fields)
    assert caught.value.param == param


# -- the conversation


def test_the_system_prompt_is_the_first_message() -> None:
    """Its blocks joined by line breaks, its cache marks dropped."""
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    assert crossed({"system": blocks})["messages"][0] == {"role": "system", "content": "a\nb"}
    assert crossed({"system": "a"})["messages"][0] == {"role": "system", "content": "a"}


def test_a_system_message_among_the_turns_stays_where_it_is() -> None:
    """Chat takes them anywhere."""
    assert messages(HELLO, {"role": "system", "content": "now in French"})[1] == {
        "role": "system",
        "content": "now in French",
    }


def test_results_and_words_of_one_turn_become_tool_messages_and_a_user_message() -> None:
    """OpenAI wants the results directly behind the calls, wherever they stood in the turn."""
    out = messages(
        HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "wait"}, USE, USE | {"id": "toolu_2"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and now?"},
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "3"}]},
            ],
        },
    )
    assert out[1:] == [
        {"role": "assistant", "content": "wait", "tool_calls": [CALL, CALL | {"id": "toolu_2"}]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "2"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "3"},
        {"role": "user", "content": "and now?"},
    ]


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ({}, ""),
        ({"content": ""}, ""),
        ({"content": "boom", "is_error": True}, "Error: boom"),
        ({"content": "Error: boom", "is_error": True}, "Error: boom"),
        ({"content": "fine", "is_error": False}, "fine"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
    ],
)
def test_tool_results(block: dict[str, Any], content: str) -> None:
    """Their text, and that they are errors."""
    result = {"type": "tool_result", "tool_use_id": "t", **block}
    assert messages({"role": "user", "content": [result]}) == [
        {"role": "tool", "tool_call_id": "t", "content": content}
    ]


def test_a_picture_in_a_tool_result_follows_in_a_user_message() -> None:
    """OpenAI's tool messages hold text only."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": [PNG]}
    assert messages({"role": "user", "content": [result]}) == [
        {"role": "tool", "tool_call_id": "t", "content": "The result follows in the next user message."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "From the result of tool call t:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (PNG, [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]),
        (
            PNG | {"source": {"type": "url", "url": "https://x/y.png"}},
            [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
        ),
        (
            PDF | {"title": "a.pdf"},
            [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}}],
        ),
        (
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
            [{"type": "text", "text": "T"}, {"type": "text", "text": "x"}],
        ),
    ],
)
def test_blocks_become_parts(block: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    """Images and documents."""
    assert messages({"role": "user", "content": [block]}) == [{"role": "user", "content": parts}]


def test_thinking_is_left_out_of_the_history() -> None:
    """Anthropic's, signed or sealed, says nothing to another vendor."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "so"},
    ]
    assert messages(HELLO, {"role": "assistant", "content": blocks})[1] == {"role": "assistant", "content": "so"}


def test_a_provider_that_demands_its_own_thinking_gets_it_back() -> None:
    """DeepSeek answers 400 when a turn with tool calls comes back without it; Anthropic's signed thinking is not its
    own.
    """
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, USE]}
    assert messages(HELLO, turn, reasoning_field="reasoning_content")[1]["reasoning_content"] == "hm"
    assert "reasoning_content" not in messages(HELLO, turn)[1]
    signed = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, USE]}
    assert "reasoning_content" not in messages(HELLO, signed, reasoning_field="reasoning_content")[1]


# -- tools


def test_tools_and_choices() -> None:
    """The client's own tools, the choice among them, and one call at a time."""
    tool = TOOL | {"type": "custom", "description": "adds", "strict": True, "cache_control": {"type": "ephemeral"}}
    body = crossed({"tools": [tool], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}})
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "add", "description": "adds", "parameters": TOOL["input_schema"], "strict": True},
        }
    ]
    assert body["tool_choice"] == "required"
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tool_choice(choice: dict[str, Any], expected: Any) -> None:
    """The other choices."""
    assert crossed({"tools": [TOOL], "tool_choice": choice})["tool_choice"] == expected
