"""Chat Completions requests as Messages requests."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.errors import BadRequest

HELLO = {"role": "user", "content": "hello"}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
USE = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CHAIN = [HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]


def crossed(fields: dict[str, Any], model: str = "claude-opus-5") -> dict[str, Any]:
    before = copy.deepcopy(fields)
    body = request_to_messages(fields, model=model, default_max_tokens=4096)
    assert fields == before, "the client's fields are not ours to change"
    return body


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = crossed({"model": "m", "messages": list(messages)})["messages"]
    return out


def refused(fields: dict[str, Any], model: str = "claude-opus-5") -> str | None:
    with pytest.raises(BadRequest) as caught:
        crossed({"model": "m", "messages": [HELLO], **fields}, model)
    return caught.value.param


def test_the_least_request_gets_the_default_token_limit() -> None:
    """Anthropic demands max_tokens; OpenAI's clients rarely say it."""
    assert crossed({"model": "gpt-4o", "messages": [HELLO]}) == {
        "model": "claude-opus-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "hello"}],
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"user": "ada"}, {"metadata": {"user_id": "ada"}}),
        ({"safety_identifier": "ada"}, {"metadata": {"user_id": "ada"}}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "auto"}, {}),
        ({"seed": 1, "store": False, "n": 1, "logprobs": False, "presence_penalty": 0, "logit_bias": {}}, {}),
        ({"metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k"}, {}),
        ({"temperature": None, "tools": None, "stop": None, "response_format": None}, {}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"a": 1}},
                }
            },
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
        ),
    ],
)
def test_parameters(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the parameters of a request become."""
    least = {"model": "claude-opus-5", "max_tokens": 4096, "messages": [{"role": "user", "content": "hello"}]}
    assert crossed({"model": "m", "messages": [HELLO], **fields}) == least | expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"stop": " "}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "function", "function": {"name": "x", "odd": 1}}]}, "tools[1].function.odd"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [HELLO, {"role": "function", "name": "f", "content": "1"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "images": ["y"]}]}, "messages[0].images"),
        (
            {
                "messages": [
                    HELLO,
                    {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "{"}}]},
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            "messages[0].content[0].file.file_id",
        ),
        ({"messages": [*CHAIN, {"role": "tool", "content": "2"}]}, "messages[2].tool_call_id"),
    ],
)
def test_what_cannot_cross_is_named(fields: dict[str, Any], param: str) -> None:
    """A refusal is a 400 with the path of the field."""
    assert refused(fields) == param


# -- the conversation


def test_system_and_developer_messages_are_gathered_from_everywhere() -> None:
    """A system message in the middle of a conversation joins the others at the top, in order."""
    body = crossed(
        {
            "messages": [
                {"role": "system", "content": "one"},
                HELLO,
                {"role": "developer", "content": [{"type": "text", "text": "two"}]},
                {"role": "user", "content": "again"},
            ]
        }
    )
    assert body["system"] == [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "again"}]}
    ]


def test_one_system_message_is_a_string() -> None:
    """The plain case stays plain."""
    assert crossed({"messages": [{"role": "system", "content": "be brief"}, HELLO]})["system"] == "be brief"


def test_empty_and_blank_texts_are_left_out() -> None:
    """Anthropic refuses empty text blocks, and blank ones too."""
    said = [{"type": "text", "text": ""}, {"type": "text", "text": " \n"}, {"type": "text", "text": "x"}]
    assert turns({"role": "user", "content": said}, {"role": "user", "content": ""}) == [
        {"role": "user", "content": "x"}
    ]


def test_two_tool_results_in_a_row_become_one_user_turn_with_the_words_behind_them() -> None:
    """All results come first, whatever the user says follows in the same turn."""
    second = CALL | {"id": "call_2"}
    out = turns(
        HELLO,
        {"role": "assistant", "content": "wait", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        {"role": "user", "content": "and now?"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "3"}]},
    )
    assert out[1]["content"] == [{"type": "text", "text": "wait"}, USE, USE | {"id": "call_2"}]
    assert out[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "2"},
            {"type": "tool_result", "tool_use_id": "call_2", "content": "3"},
            {"type": "text", "text": "and now?"},
        ],
    }


def test_an_empty_tool_result_has_no_content() -> None:
    """Not an empty text block."""
    out = turns(*CHAIN, {"role": "tool", "tool_call_id": "call_1", "content": ""})
    assert out[-1]["content"] == [{"type": "tool_result", "tool_use_id": "call_1"}]


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [('{"a": 1}', {"a": 1}), ("", {}), (None, {}), ({"a": 1}, {"a": 1}), ("null", {})],
)
def test_arguments_become_an_object(arguments: Any, parsed: dict[str, Any]) -> None:
    """Empty arguments are a call without any."""
    call = CALL | {"function": {"name": "add", "arguments": arguments}}
    out = turns(HELLO, {"role": "assistant", "content": "", "tool_calls": [call]})
    assert out[1]["content"][0]["input"] == parsed


def test_ids_of_other_vendors_are_made_ones_that_anthropic_takes() -> None:
    """In the call and in its result alike."""
    call = CALL | {"id": "functions.add:0"}
    out = turns(
        HELLO,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.add:0", "content": "1"},
    )
    assert out[1]["content"][0]["id"] == out[2]["content"][0]["tool_use_id"] == "functions_add_0"


def test_a_prefill_loses_its_trailing_white_space() -> None:
    """Anthropic refuses a final assistant message that ends with it."""
    assert turns(HELLO, {"role": "assistant", "content": "The answer is: "})[1]["content"] == "The answer is:"


def test_a_refusal_in_the_history_is_its_text() -> None:
    """As a field or as a part."""
    expected = {"role": "assistant", "content": "no"}
    part = [{"type": "refusal", "refusal": "no"}]
    assert turns(HELLO, {"role": "assistant", "content": None, "refusal": "no"})[1] == expected
    assert turns(HELLO, {"role": "assistant", "content": part})[1] == expected


def test_an_echoed_sdk_message_crosses() -> None:
    """Clients send back what the SDK dumped, with nulls and empty lists."""
    echoed = {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "name": "bot",
    }
    assert turns(HELLO, echoed)[1] == {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ),
        (
            {"type": "image_url", "image_url": "data:image/jpg;base64,/9j/"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        ),
        (
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
        ),
    ],
)
def test_parts_become_blocks(part: dict[str, Any], block: dict[str, Any]) -> None:
    """Images, documents and cache marks."""
    assert turns({"role": "user", "content": [part]})[0]["content"] == [block]


# -- tools


def test_a_tool_without_parameters_gets_an_empty_schema() -> None:
    """Anthropic demands one."""
    tool = {"type": "function", "function": {"name": "now", "description": "the time", "strict": True}}
    assert crossed({"messages": [HELLO], "tools": [tool]})["tools"] == [
        {"name": "now", "description": "the time", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, {"type": "tool", "name": "add"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_tool_choice(fields: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """The choice among tools, and whether several may be called at once."""
    assert crossed({"messages": [HELLO], "tools": [TOOL], **fields}).get("tool_choice") == expected


def test_a_choice_among_no_tools_says_nothing() -> None:
    """Anthropic refuses tool_choice without tools."""
    assert "tool_choice" not in crossed({"messages": [HELLO], "tools": [], "tool_choice": "auto"})


# -- thinking


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("claude-opus-5", {"reasoning_effort": "high"}, ({"type": "adaptive"}, "high")),
        ("claude-sonnet-4-6", {"reasoning_effort": "minimal"}, ({"type": "adaptive"}, "low")),
        ("claude-opus-5", {"reasoning_effort": "none"}, ({"type": "disabled"}, None)),
        ("claude-sonnet-4-5", {"reasoning_effort": "medium"}, ({"type": "enabled", "budget_tokens": 5000}, None)),
        ("claude-sonnet-4-20250514", {"reasoning_effort": "low"}, ({"type": "enabled", "budget_tokens": 2000}, None)),
        (
            "claude-3-7-sonnet-latest",
            {"reasoning_effort": "minimal"},
            ({"type": "enabled", "budget_tokens": 1024}, None),
        ),
        ("claude-opus-5", {"reasoning": {"max_tokens": 2048}}, ({"type": "enabled", "budget_tokens": 2048}, None)),
        (
            "claude-opus-5",
            {"reasoning": {"effort": "low", "exclude": True}},
            ({"type": "adaptive", "display": "omitted"}, "low"),
        ),
        ("claude-opus-5", {"reasoning": {"enabled": False}}, ({"type": "disabled"}, None)),
        ("claude-opus-5", {"thinking": {"type": "disabled"}}, ({"type": "disabled"}, None)),
        ("claude-opus-5", {"thinking": {"type": "enabled"}}, ({"type": "adaptive"}, "medium")),
    ],
)
def test_how_much_to_think(model: str, fields: dict[str, Any], expected: tuple[Any, Any]) -> None:
    """An effort is adaptive thinking, on older models a share of max_tokens."""
    body = crossed({"messages": [HELLO], "max_tokens": 10_000, **fields}, model)
    assert (body["thinking"], body.get("output_config", {}).get("effort")) == expected


def test_a_limit_too_small_to_think_in_is_refused() -> None:
    """Anthropic's least budget is 1024, and it counts into max_tokens."""
    assert refused({"reasoning_effort": "low", "max_tokens": 1000}, "claude-haiku-4-5") == "reasoning_effort"


def test_signed_thinking_comes_back_as_it_was() -> None:
    """A client that echoes reasoning_details gives Anthropic its blocks, before the text and the call."""
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1},
    ]
    message = {"role": "assistant", "content": "so", "reasoning_content": "hm", "reasoning_details": details}
    assert turns(HELLO, message | {"tool_calls": [CALL]})[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d1"},
        {"type": "text", "text": "so"},
        USE,
    ]


def test_pieces_of_streamed_details_are_put_together() -> None:
    """Some clients collect the deltas of reasoning_details without joining them."""
    details = [
        {"type": "reasoning.text", "text": "h", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.text", "text": "m", "index": 0},
        {"type": "reasoning.text", "signature": "s1", "index": 0},
    ]
    out = turns(HELLO, {"role": "assistant", "content": "so", "reasoning_details": details})
    assert out[1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "s1"}


def test_other_vendors_reasoning_stays_behind() -> None:
    """Unsigned, or sealed by somebody else."""
    details = [
        {"type": "reasoning.text", "text": "hm", "format": "unknown", "index": 0},
        {"type": "reasoning.text", "text": "hm", "index": 1},
        {"type": "reasoning.encrypted", "data": "x", "format": "openai-responses-v1", "index": 2},
        {"type": "reasoning.summary", "summary": "hm", "index": 3},
    ]
    message = {"role": "assistant", "content": "so", "reasoning": "hm", "reasoning_details": details}
    assert turns(HELLO, message)[1] == {"role": "assistant", "content": "so"}


def test_many_tool_results_cost_no_more_than_their_number() -> None:
    """A conversation of 40,000 results is carried in linear time, in order, before what the user says."""
    results = [{"role": "tool", "tool_call_id": f"c{number}", "content": "x"} for number in range(40_000)]
    words = {"role": "user", "content": "and?"}
    before = time.process_time()
    body = request_to_messages({"model": "m", "messages": [words, *results]}, model="m", default_max_tokens=9)
    assert time.process_time() - before < 2.0
    (turn,) = body["messages"]
    assert [block["tool_use_id"] for block in turn["content"][:-1]] == [f"c{number}" for number in range(40_000)]
    assert turn["content"][-1] == {"type": "text", "text": "and?"}
