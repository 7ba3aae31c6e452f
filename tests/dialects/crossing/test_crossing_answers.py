"""Whole answers, both ways."""

from __future__ import annotations

from typing import Any

import pytest

from runestone.core.summary import Summary
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.errors import ProviderFailed


def message(*content: dict[str, Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 5}
    return {
        "id": "msg_1",
        "type": "message",
        "model": "c",
        "content": list(content),
        "stop_reason": stop,
        "usage": usage,
    } | more


def completion(finish: str | None = "stop", choice: dict[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    first = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": None} | said}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "chatcmpl-1", "model": "g", "choices": [first | (choice or {})], "usage": usage}


def to_chat(answer: dict[str, Any]) -> dict[str, Any]:
    return answer_to_chat(answer, created=1, summary=Summary())


def to_messages(answer: dict[str, Any]) -> dict[str, Any]:
    return answer_to_messages(answer, summary=Summary())


TEXT = {"type": "text", "text": "hi"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_a_plain_message_as_a_completion() -> None:
    """All of it."""
    summary = Summary()
    assert answer_to_chat(message(TEXT), created=1, summary=summary) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 1,
        "model": "c",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert summary == Summary(input_tokens=3, output_tokens=5, finish_reason="end_turn", response_id="msg_1", model="c")


@pytest.mark.parametrize(
    ("stop", "content", "finish"),
    [
        ("end_turn", TEXT, "stop"),
        ("stop_sequence", TEXT, "stop"),
        ("max_tokens", TEXT, "length"),
        ("model_context_window_exceeded", TEXT, "length"),
        ("tool_use", USE, "tool_calls"),
        ("tool_use", TEXT, "stop"),
        ("refusal", TEXT, "content_filter"),
        ("pause_turn", TEXT, "stop"),
        ("something_new", TEXT, "stop"),
    ],
)
def test_stop_reasons_to_chat(stop: str, content: dict[str, Any], finish: str) -> None:
    """By the table; clients act on tool_calls, so it needs a call."""
    assert to_chat(message(content, stop=stop))["choices"][0]["finish_reason"] == finish


def test_usage_to_chat_counts_the_cached_tokens_in() -> None:
    """prompt_tokens is everything that went in."""
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 100,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    assert to_chat(message(TEXT, usage=usage))["usage"] == {
        "prompt_tokens": 123,
        "completion_tokens": 5,
        "total_tokens": 128,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_thinking_to_chat_and_back() -> None:
    """What a client echoes is what Anthropic signed."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d1"},
        TEXT,
        USE,
    ]
    echoed = to_chat(message(*blocks, stop="tool_use"))["choices"][0]["message"]
    assert echoed["reasoning_content"] == "hm"
    fields = {"messages": [{"role": "user", "content": "x"}, echoed]}
    assert request_to_messages(fields, model="c", default_max_tokens=1)["messages"][1]["content"] == blocks


def test_only_calls_have_no_content() -> None:
    """null, as OpenAI writes it."""
    said = to_chat(message(USE, stop="tool_use"))["choices"][0]["message"]
    assert said["content"] is None
    assert said["tool_calls"] == [
        {"id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    ]


def test_a_refusals_explanation_is_the_refusal() -> None:
    """Where Anthropic gives one."""
    answer = message(stop="refusal", stop_details={"type": "refusal", "explanation": "too risky"})
    assert to_chat(answer)["choices"][0]["message"]["refusal"] == "too risky"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"content": "x", "stop_reason": "end_turn"},
        message(TEXT, stop_reason=None),
        message({"type": "tool_use", "id": "x"}),
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
    ],
)
def test_what_is_no_message_is_the_providers_failure(answer: dict[str, Any]) -> None:
    """Nothing is made up."""
    with pytest.raises(ProviderFailed):
        to_chat(answer)


def test_an_error_with_status_200_keeps_its_words() -> None:
    """Type, code and message are the provider's."""
    with pytest.raises(ProviderFailed) as caught:
        to_messages({"error": {"type": "rate_limit", "code": 429, "message": "slow down"}})
    assert (caught.value.type, caught.value.code, caught.value.message) == ("rate_limit", "429", "slow down")


def test_a_plain_completion_as_a_message() -> None:
    """All of it."""
    summary = Summary()
    assert answer_to_messages(completion(content="hi"), summary=summary) == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "g",
        "content": [{"type": "text", "text": "hi", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 5,
        },
    }
    assert summary == Summary(
        input_tokens=10, output_tokens=5, finish_reason="stop", response_id="chatcmpl-1", model="g"
    )


@pytest.mark.parametrize(
    ("answer", "stop"),
    [
        (completion("stop", content="x"), "end_turn"),
        (completion("length", content="x"), "max_tokens"),
        (completion("tool_calls", tool_calls=[CALL]), "tool_use"),
        (completion("stop", tool_calls=[CALL]), "tool_use"),
        (completion("tool_calls", content="x"), "end_turn"),
        (completion("content_filter", content="x"), "refusal"),
        (completion("stop", refusal="no"), "refusal"),
        (completion("stop", {"stop_reason": "END"}, content="x"), "stop_sequence"),
        (completion("stop", {"stop_reason": 2}, content="x"), "end_turn"),
        (completion("tool_calls", {"native_finish_reason": "max_output_tokens"}, content="x"), "max_tokens"),
        (completion("eos", content="x"), "end_turn"),
    ],
)
def test_finish_reasons_to_messages(answer: dict[str, Any], stop: str) -> None:
    """By the table, and by what is in the answer."""
    assert to_messages(answer)["stop_reason"] == stop


def test_usage_to_messages_takes_the_cached_tokens_out() -> None:
    """input_tokens is what was neither read from a cache nor written to one."""
    usage = {
        "prompt_tokens": 123,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert to_messages(completion(content="x") | {"usage": usage})["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 20,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_no_usage_is_zero_for_the_client_and_unknown_for_the_record() -> None:
    """Nothing is estimated."""
    summary = Summary()
    answer = completion(content="x") | {"usage": None}
    assert answer_to_messages(answer, summary=summary)["usage"]["input_tokens"] == 0
    assert summary.input_tokens is None


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "x"},
            ]
        },
    ],
)
def test_reasoning_becomes_an_unsigned_thinking_block(said: dict[str, Any]) -> None:
    """In every form chat providers write it, once."""
    content = to_messages(completion(**{"content": "x", **said}))["content"]
    assert content[0] == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert content[1]["text"] == "x"


def test_calls_survive_without_ids_and_with_objects_for_arguments() -> None:
    """Ids are made, and the same each time; an object is as good as its text."""
    calls = [
        {"function": {"name": "a", "arguments": {"x": 1}}},
        {"id": "", "function": {"name": "b", "arguments": ""}},
        {"id": "call_1", "function": {"name": "c", "arguments": "null"}},
    ]
    answer = completion("tool_calls", tool_calls=calls)
    uses = to_messages(answer)["content"]
    assert [(use["name"], use["input"]) for use in uses] == [("a", {"x": 1}), ("b", {}), ("c", {})]
    assert len({use["id"] for use in uses}) == 3
    assert uses == to_messages(answer)["content"]


def test_a_call_cut_by_the_token_limit_is_left_out() -> None:
    """There is nothing to call; the stop_reason says why."""
    cut = CALL | {"function": {"name": "add", "arguments": '{"a": '}}
    answer = to_messages(completion("length", tool_calls=[CALL, cut]))
    assert [block["name"] for block in answer["content"]] == ["add"]
    assert answer["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": []},
        {"choices": [None]},
        completion(None, content="x"),
        completion("", content="x"),
        completion("error", content="x"),
        completion("tool_calls", tool_calls=[{"id": "x"}]),
        completion("tool_calls", tool_calls=[CALL | {"function": {"name": "add", "arguments": "[1]"}}]),
        {"choices": [{"index": 0, "error": {"message": "boom"}, "finish_reason": "error"}]},
    ],
)
def test_what_is_no_completion_is_the_providers_failure(answer: dict[str, Any]) -> None:
    """Nothing is made up."""
    with pytest.raises(ProviderFailed):
        to_messages(answer)
