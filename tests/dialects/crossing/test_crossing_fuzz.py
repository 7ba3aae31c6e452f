"""Whatever a provider or a client sends, the crossing answers, or fails with one of our own errors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.core.summary import Summary
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS
from runestone.dialects.crossing.request_to_chat import request_to_chat
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.dialects.crossing.stream_to_chat import StreamToChat
from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.errors import BadRequest, ProviderError, ProviderFailed

WORDS = sorted(
    {
        word
        for name in (*CHAT_FIELDS, *MESSAGES_FIELDS)
        for word in name.replace("[", ".").replace("]", "").split(".")
        if word
    }
    | {"user", "assistant", "tool", "delta", "message", "choices", "finish_reason", "stop_reason", "index", "usage"}
    | {"content_block", "message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"}
    | {"text_delta", "input_json_delta", "partial_json", "thinking_delta", "signature", "tool_use", "stop", "length"}
    | {"reasoning_details", "reasoning.text", "reasoning.encrypted", "data", "input", "error", "prompt_tokens"}
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats(0, 2) | st.sampled_from(WORDS) | st.text(max_size=3)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)
OBJECT = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=6)
FLAT = st.dictionaries(
    st.sampled_from(["type", "role", "content", "text", "id", "tool_calls", "function"]), JSON, max_size=4
)


@given(fields=OBJECT, messages=st.lists(FLAT, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_request_crosses_or_is_refused_by_name(fields: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """A client's mistake is a 400 with a param, never our own fault."""
    fields["messages"] = messages
    for cross in (
        lambda: request_to_messages(fields, model="claude-sonnet-4-5", default_max_tokens=4096),
        lambda: request_to_chat(fields, model="m", max_tokens_field="max_tokens", reasoning_field="reasoning_content"),
    ):
        refusal = None
        try:
            json.dumps(cross())
        except BadRequest as error:
            refusal = error
        assert refusal is None or refusal.param


@given(answer=OBJECT, choice=OBJECT, message=OBJECT)
@settings(max_examples=100, deadline=None)
def test_any_answer_crosses_or_is_the_providers_failure(
    answer: dict[str, Any], choice: dict[str, Any], message: dict[str, Any]
) -> None:
    """A provider's nonsense is a 502."""
    chat = answer | {"choices": [choice | {"message": message, "finish_reason": "stop"}]}
    for cross in (
        lambda: answer_to_chat(
            answer | {"content": [choice, message], "stop_reason": "end_turn"}, created=1, summary=Summary()
        ),
        lambda: answer_to_messages(chat, summary=Summary()),
    ):
        with suppress(ProviderFailed):
            json.dumps(cross())


@given(events=st.lists(OBJECT, max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_stream_crosses_or_fails(events: list[dict[str, Any]]) -> None:
    """A provider's nonsense is a failure of the stream; what was given before it is whole events."""
    kinds = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
    messages = [{"type": kind, "message": {}, "index": 0} | event for kind, event in zip(kinds, events, strict=False)]
    chat = [{"id": "x", "choices": [{"index": 0, "delta": event}]} for event in events]
    for stream, sent in (
        (StreamToChat(created=1, include_usage=True), messages),
        (StreamToMessages(model="m", ends_with_done=False), chat),
        (StreamToMessages(model="m", ends_with_done=False), events),
    ):
        out = b"".join(stream.feed(b"data: " + json.dumps(event).encode() + b"\n\n") for event in sent)
        assert not out or out.endswith(b"\n\n")
        with suppress(ProviderError):
            stream.finish()
