"""What the simulated model refuses, and the errors it gives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.providers.simulated.wire import SimulatedAnswer, answer, error_answer

USER = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
DEEP: dict[str, object] = {}
for _ in range(600):
    DEEP = {"a": DEEP}


def error_of(given: SimulatedAnswer) -> dict[str, object]:
    assert given.events is None
    error = json.loads(given.body)["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["message"]
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0].role"),
        ({"messages": [*USER, {"role": "user", "content": 3}]}, "messages[1].content"),
        ({"messages": [*USER, {"role": "user", "content": ["hi"]}]}, "messages[1].content"),
        ({"messages": [*USER, {"role": "tool", "content": "4"}]}, "messages[1].tool_call_id"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"seed": "x"}, "seed"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"stop": 3}, "stop"),
        ({"stop": ["a", 3]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": {}}, "tools"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [TOOL, {"type": "custom"}]}, "tools[1].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"functions": [{}]}, "functions"),
        ({"response_format": "json"}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": []}}}},
            "response_format.json_schema.schema",
        ),
        (
            {
                "tools": [TOOL, {"type": "function", "function": {"name": "g", "parameters": {"enum": []}}}],
                "tool_choice": {"type": "function", "function": {"name": "g"}},
            },
            "tools[1].function.parameters",
        ),
        ({"metadata": DEEP}, None),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_wrong_chat_field_is_named(fields: dict[str, object], param: str | None) -> None:
    """A wrong field is a 400 whose `param` is its path."""
    given = answer("chat/completions", {"model": "sim", "messages": USER, **fields}, created=1)
    assert given.status == 400
    error = error_of(given)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


@pytest.mark.parametrize(
    ("operation", "fields", "param"),
    [
        ("completions", {"prompt": 3}, "prompt"),
        ("completions", {"prompt": ["a", 3]}, "prompt[1]"),
        ("completions", {"prompt": ["a"] * 100, "n": 2}, "n"),
        ("completions", {"prompt": "a", "echo": 1}, "echo"),
        ("completions", {"prompt": "a", "best_of": 0}, "best_of"),
        ("completions", {"prompt": "a", "logprobs": 3}, "logprobs"),
        ("embeddings", {}, "input"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": ""}, "input"),
        ("embeddings", {"input": ["a", ""]}, "input[1]"),
        ("embeddings", {"input": ["a", 3]}, "input[1]"),
        ("embeddings", {"input": [[1], [-1]]}, "input[1]"),
        ("embeddings", {"input": ["a"] * 2049}, "input"),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("embeddings", {"input": "a", "dimensions": 4097}, "dimensions"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("embeddings", {"input": "a", "encoding_format": ["float"]}, "encoding_format"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_wrong_field_elsewhere_is_named(operation: str, fields: dict[str, object], param: str) -> None:
    """Completions and embeddings are as strict."""
    given = answer(operation, {"model": "sim", **fields}, created=1)
    assert given.status == 400
    assert error_of(given)["param"] == param


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "model", "messages", "prompt", "input", "n", "max_tokens", "stop", "seed", "temperature", "stream",
    "stream_options", "tools", "tool_choice", "response_format", "dimensions", "encoding_format", "echo",
]  # fmt: skip


@settings(max_examples=300)
@given(
    operation=st.sampled_from(["chat/completions", "completions", "embeddings"]),
    fields=st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4),
)
def test_no_request_raises(operation: str, fields: dict[str, object]) -> None:
    """Any JSON object gets an answer: 200, or 400 with OpenAI's error object."""
    base = {"model": "sim", "messages": USER, "prompt": "hi", "input": "hi"}
    given = answer(operation, {**base, **fields}, created=1)
    assert given.status in (200, 400)
    if given.status == 400:
        error_of(given)


def test_an_unknown_operation_is_not_found() -> None:
    """What the simulated provider does not serve is a 404."""
    assert answer("audio/speech", {}, created=1).status == 404


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 504, 529, 599])
def test_every_status_has_its_error(status: int) -> None:
    """An asked-for failure has the status and an error object of its family."""
    given = error_answer(status)
    assert given.status == status
    kind = error_of(given)["type"]
    assert (kind == "server_error") == (status >= 500)


@pytest.mark.parametrize(
    ("operation", "more", "param"),
    [
        ("embeddings", {"input": ["x"] * 2048, "dimensions": 4096}, "input"),
        (
            "chat/completions",
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"enum": ["a" * 20] * 10_000}},
                }
            },
            "response_format.json_schema.schema",
        ),
    ],
    ids=["embeddings", "schema"],
)
def test_work_without_end_is_refused(operation: str, more: dict[str, object], param: str) -> None:
    """One call must not keep the loop for seconds."""
    fields = {"model": "simulated", "messages": [{"role": "user", "content": "x"}], **more}
    refused = answer(operation, fields, created=1)
    assert refused.status == 400
    assert json.loads(refused.body)["error"]["param"] == param
