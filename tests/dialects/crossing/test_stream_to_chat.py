"""A Messages stream as a Chat Completions stream: fed whole, event by event, and cut short at each event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runestone.dialects.crossing.stream_to_chat import StreamToChat
from runestone.errors import ProviderFailed, StreamBroken


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def start(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, **change: Any) -> bytes:
    return event("content_block_delta", index=index, delta=change)


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


BEGIN = event(
    "message_start",
    message={
        "id": "msg_1",
        "model": "c",
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1},
    },
)
END = [
    event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 9}),
    event("message_stop"),
]
TEXT = [start(0, type="text", text=""), delta(0, type="text_delta", text="hi"), stop(0)]
EVERYTHING = [
    BEGIN,
    event("ping"),
    start(0, type="thinking", thinking="", signature=""),
    delta(0, type="thinking_delta", thinking="h"),
    delta(0, type="thinking_delta", thinking="m"),
    delta(0, type="signature_delta", signature="s1"),
    stop(0),
    start(1, type="redacted_thinking", data="d1"),
    stop(1),
    start(2, type="text", text=""),
    delta(2, type="text_delta", text="so"),
    delta(2, type="citations_delta", citation={}),
    stop(2),
    start(3, type="server_tool_use", id="srv", name="web_search", input={}),
    delta(3, type="input_json_delta", partial_json='{"q": 1}'),
    stop(3),
    start(4, type="tool_use", id="toolu_1", name="add", input={}),
    delta(4, type="input_json_delta", partial_json=""),
    delta(4, type="input_json_delta", partial_json='{"a"'),
    delta(4, type="input_json_delta", partial_json=": 1}"),
    stop(4),
    start(5, type="tool_use", id="toolu_2", name="now", input={}),
    stop(5),
    event("event_of_tomorrow"),
    event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
    event("message_stop"),
]


def stream(*, include_usage: bool = True) -> StreamToChat:
    return StreamToChat(created=1, include_usage=include_usage)


def run(*events: bytes, include_usage: bool = True) -> list[Any]:
    crossing = stream(include_usage=include_usage)
    return chunks(crossing.feed(b"".join(events)) + crossing.finish())


def chunks(data: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def deltas(given: list[Any]) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in given if chunk != "[DONE]" and chunk["choices"]]


def test_a_plain_answer() -> None:
    """Role first, text, finish_reason, usage, [DONE]; the head of every chunk is the same."""
    head = {"id": "msg_1", "object": "chat.completion.chunk", "created": 1, "model": "c"}
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 9,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    plain = {"index": 0, "logprobs": None, "finish_reason": None}
    assert run(BEGIN, *TEXT, *END) == [
        head | {"choices": [plain | {"delta": {"role": "assistant", "content": ""}}], "usage": None},
        head | {"choices": [plain | {"delta": {"content": "hi"}}], "usage": None},
        head | {"choices": [plain | {"delta": {}, "finish_reason": "stop"}], "usage": None},
        head | {"choices": [], "usage": usage},
        "[DONE]",
    ]


def test_a_client_that_did_not_ask_gets_no_usage() -> None:
    """Neither the chunk nor the field; the summary has it all the same."""
    given = run(BEGIN, *TEXT, *END, include_usage=False)
    assert all("usage" not in chunk for chunk in given)
    assert all(chunk == "[DONE]" or chunk["choices"] for chunk in given)


def test_everything_at_once() -> None:
    """Thinking with its seal, text, two calls; server tools and citations left out."""
    assert deltas(run(*EVERYTHING)) == [
        {"role": "assistant", "content": ""},
        {
            "reasoning_content": "h",
            "reasoning_details": [{"type": "reasoning.text", "text": "h", "index": 0, "format": "anthropic-claude-v1"}],
        },
        {"reasoning_content": "m", "reasoning_details": [{"type": "reasoning.text", "text": "m", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "s1", "index": 0}]},
        {
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1}
            ]
        },
        {"content": "so"},
        {
            "tool_calls": [
                {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]


def test_event_by_event_is_the_same_as_whole() -> None:
    """Where blocks are cut does not matter."""
    one, whole = stream(), stream()
    pieces = b"".join(one.feed(each) for each in EVERYTHING) + one.finish()
    assert pieces == whole.feed(b"".join(EVERYTHING)) + whole.finish()
    assert one.summary == whole.summary


@pytest.mark.parametrize("cut", range(len(EVERYTHING)))
def test_a_stream_cut_short_has_no_end(cut: int) -> None:
    """Whatever came last: no [DONE], and finish raises."""
    crossing = stream()
    assert b"[DONE]" not in crossing.feed(b"".join(EVERYTHING[:cut]))
    with pytest.raises(StreamBroken):
        crossing.finish()


def test_an_error_event_ends_the_stream() -> None:
    """What came before it is still given, nothing after it is."""
    crossing = stream()
    error = event("error", error={"type": "overloaded_error", "message": "busy"})
    out = crossing.feed(b"".join((BEGIN, *TEXT, error, *TEXT, *END)))
    assert deltas(chunks(out)) == [{"role": "assistant", "content": ""}, {"content": "hi"}]
    assert isinstance(crossing.failure, ProviderFailed)
    assert (crossing.failure.type, crossing.failure.message) == ("overloaded_error", "busy")
    assert crossing.feed(END[1]) == b""
    with pytest.raises(ProviderFailed):
        crossing.finish()


@pytest.mark.parametrize(
    "bad",
    [b"data: {oops\n\n", b"data: [1]\n\n", delta(7, type="text_delta", text="x"), event("message_stop"), BEGIN],
)
def test_what_cannot_be_understood_breaks_the_stream(bad: bytes) -> None:
    """Not JSON, no object, a delta from nowhere, an end without a reason, a second beginning."""
    crossing = stream()
    crossing.feed(BEGIN + bad + END[0] + END[1])
    with pytest.raises(StreamBroken):
        crossing.finish()


def test_started_is_the_first_token() -> None:
    """Not the role, not the beginning of a text block."""
    crossing = stream()
    crossing.feed(BEGIN + TEXT[0])
    assert not crossing.started
    crossing.feed(TEXT[1])
    assert crossing.started


def test_usage_of_the_end_has_the_last_word_but_zeros_do_not() -> None:
    """Some compatible servers fill the last usage with zeros."""
    crossing = stream()
    zeros = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 0, "output_tokens": 2})
    crossing.feed(b"".join((BEGIN, *TEXT, zeros, END[1])))
    assert (crossing.summary.input_tokens, crossing.summary.output_tokens) == (7, 2)


def test_an_input_that_comes_with_the_start_is_the_arguments() -> None:
    """As some compatible servers send it."""
    use = start(0, type="tool_use", id="t", name="add", input={"a": 1})
    assert deltas(run(BEGIN, use, stop(0), *END))[2] == {
        "tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]
    }
