"""Values of the wrong type, one case each: a 400 that names the field, or the provider's failure."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.core.summary import Summary
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.request_to_chat import request_to_chat
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.dialects.crossing.stream_to_chat import StreamToChat
from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.errors import BadRequest, ProviderFailed

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
DEEP: Any = orjson.loads("[" * 900 + "]" * 900)
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "x"}}


def asking(**block: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [block]}]}


def echoing(**detail: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": "x", "reasoning_details": [detail]}]}


def schema(**schema: Any) -> dict[str, Any]:
    return ASK | {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


FILE = "data:text/plain;base64,é"
SCHEMA = "output_config.format.schema"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (ASK | {"tool_choice": {"type": []}}, "tool_choice.type"),
        (ASK | {"tool_choice": {"type": "any", "name": "x", "disable_parallel_tool_use": "x"}},
         "tool_choice.disable_parallel_tool_use"),
        (schema(type="object", required=[[]]), f"{SCHEMA}.required"),
        (schema(type="object", required=5), f"{SCHEMA}.required"),
        (schema(type="object", properties=5), f"{SCHEMA}.properties"),
        (schema(anyOf=[{"type": "object", "required": {}}]), f"{SCHEMA}.anyOf[0].required"),
        (schema(properties={"a": {"required": 5}}), f"{SCHEMA}.properties.a.required"),
        (asking(type="tool_result", tool_use_id="t", content=[DOCUMENT | {"context": 5}]),
         "messages[0].content[0].content[0].context"),
        (asking(**DOCUMENT, title=5), "messages[0].content[0].title"),
        (asking(type=[]), "messages[0].content[0].type"),
        (ASK | {"stop_sequences": 0}, "stop_sequences"),
        (ASK | {"metadata": {"user_id": []}}, "metadata.user_id"),
        (ASK | {"tools": [{"name": "a", "input_schema": {}, "strict": "x"}]}, "tools[0].strict"),
    ],
)  # fmt: skip
def test_a_messages_request_with_a_wrong_value_is_refused(fields: dict[str, Any], param: str) -> None:
    """A 400 with its path, never our own fault and nothing lost in silence."""
    with pytest.raises(BadRequest) as caught:
        request_to_chat(fields, model="m", max_tokens_field="max_tokens")
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (ASK | {"reasoning": {"effort": {}}}, "reasoning.effort"),
        (ASK | {"reasoning": {"effort": ""}}, "reasoning.effort"),
        (ASK | {"reasoning": {"enabled": "x"}}, "reasoning.enabled"),
        (echoing(type="reasoning.text", text=5), "messages[0].reasoning_details[0].text"),
        (echoing(type="reasoning.text", signature=5), "messages[0].reasoning_details[0].signature"),
        (echoing(type="reasoning.encrypted", data=5, format="anthropic"), "messages[0].reasoning_details[0].data"),
        (asking(type="file", file={"file_data": FILE}), "messages[0].content[0].file.file_data"),
        (asking(type={"a": 1}), "messages[0].content[0].type"),
        (ASK | {"user": []}, "user"),
        (ASK | {"tools": [{"function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
    ],
)
def test_a_chat_request_with_a_wrong_value_is_refused(fields: dict[str, Any], param: str) -> None:
    """A 400 with its path, never our own fault and nothing lost in silence."""
    with pytest.raises(BadRequest) as caught:
        request_to_messages(fields, model="claude-opus-4-7", default_max_tokens=9)
    assert caught.value.param == param


def test_names_that_look_like_keywords_are_no_schema() -> None:
    """A property, a definition and a default may be called "required"; what they hold is not read as one."""
    given = {
        "type": "object",
        "properties": {"required": {"type": "string", "default": {"required": 5}}},
        "required": ["required"],
        "additionalProperties": False,
        "$defs": {"properties": {"type": "string"}, "required": {"type": "integer"}},
    }
    body = request_to_chat(schema(**given), model="m", max_tokens_field="max_tokens")
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": given, "strict": True}


def test_a_document_written_out_in_blocks_crosses() -> None:
    """Its texts become texts."""
    source = {"type": "content", "content": [{"type": "text", "text": "x"}]}
    body = request_to_chat(asking(type="document", source=source), model="m", max_tokens_field="max_tokens")
    assert body["messages"] == [{"role": "user", "content": "x"}]


def chat(**said: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "finish_reason": "stop", "message": said, "delta": said}]}


@pytest.mark.parametrize(
    "answer",
    [
        chat(content=[{"type": "thinking", "thinking": 5}]),
        chat(content=[{"type": "text", "text": 5}]),
        chat(content=5),
        chat(content={"a": DEEP}),
        {"choices": [{"finish_reason": "error"}], "x": DEEP},
        {"error": {"message": DEEP}},
        {"error": DEEP},
    ],
)
def test_a_chat_answer_with_a_wrong_value_is_the_providers_failure(answer: dict[str, Any]) -> None:
    """As a whole and as a stream."""
    with pytest.raises(ProviderFailed):
        answer_to_messages(answer, summary=Summary())
    stream = StreamToMessages(model="m", ends_with_done=False)
    stream.feed(data(answer))
    assert isinstance(stream.failure, ProviderFailed)
    with pytest.raises(ProviderFailed):
        stream.finish()


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": 5},
        {"type": "thinking", "thinking": {"a": []}},
        {"type": "thinking", "thinking": "hm", "signature": 5},
        {"type": "redacted_thinking", "data": []},
        {"type": "tool_use", "id": "t", "name": 5, "input": {}},
        {"type": "tool_use", "id": "t", "name": "a", "input": 5},
    ],
)
def test_a_messages_answer_with_a_wrong_value_is_the_providers_failure(block: dict[str, Any]) -> None:
    """As a whole and as a stream."""
    with pytest.raises(ProviderFailed):
        answer_to_chat({"content": [block], "stop_reason": "end_turn"}, created=1, summary=Summary())
    stream = StreamToChat(created=1, include_usage=True)
    stream.feed(data({"type": "message_start", "message": {"id": "m"}}))
    stream.feed(data({"type": "content_block_start", "index": 0, "content_block": block}))
    assert isinstance(stream.failure, ProviderFailed)


def data(event: dict[str, Any]) -> bytes:
    return b"data: " + as_json(event).encode() + b"\n\n"


def as_json(value: Any) -> str:
    """JSON that may be nested deeper than what is written elsewhere."""
    if isinstance(value, dict):
        return "{" + ",".join(f'"{name}":{as_json(inner)}' for name, inner in value.items()) + "}"
    if value is DEEP:
        return "[" * 900 + "]" * 900
    if isinstance(value, list):
        return "[" + ",".join(map(as_json, value)) + "]"
    return orjson.dumps(value).decode()


@pytest.mark.parametrize("wrong", [5, [], {"a": 1}, "", None, True])
def test_ids_and_models_are_texts(wrong: Any) -> None:
    """Whatever a provider sends, the record and the client read a text."""
    summary = Summary()
    message = {"id": wrong, "model": wrong, "content": [], "stop_reason": "end_turn"}
    first = answer_to_chat(message, created=1, summary=summary)
    assert first["id"] == summary.response_id
    assert str(first["id"]).startswith("chatcmpl-")
    assert (first["model"], summary.model) == ("", None)
    second = answer_to_messages(chat(content="x") | {"id": wrong, "model": wrong}, summary=summary)
    assert str(second["id"]).startswith("msg_")
    assert (second["model"], summary.model) == ("", None)
    to_chat, to_messages = StreamToChat(created=1, include_usage=True), StreamToMessages(model="m", ends_with_done=True)
    to_chat.feed(data({"type": "message_start", "message": message}))
    to_messages.feed(data(chat(content="x") | {"id": wrong, "model": wrong}))
    assert str(to_chat.summary.response_id).startswith("chatcmpl-")
    assert str(to_messages.summary.response_id).startswith("msg_")
    assert to_chat.summary.model is to_messages.summary.model is None
