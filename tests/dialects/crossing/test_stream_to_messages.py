"""A Chat Completions stream as a Messages stream: fed whole, event by event, and cut short at each event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.errors import ProviderError, ProviderFailed, StreamBroken

DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}
    data = {"id": "chatcmpl-1", "model": "g", "choices": [choice], **more}
    return f"data: {json.dumps(data)}\n\n".encode()


def call(index: int | None = 0, made: str | None = None, name: str | None = None, arguments: Any = None) -> bytes:
    given: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if index is not None:
        given["index"] = index
    if made is not None:
        given["id"] = made
    return chunk({"tool_calls": [given]})


USAGE = chunk(
    choices=[], usage={"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
)
ROLE = chunk({"role": "assistant", "content": ""})
END = [chunk(finish="stop"), USAGE, DONE]
EVERYTHING = [
    b": keep-alive\n\n",
    ROLE,
    chunk({"reasoning_content": "h"}),
    chunk({"reasoning_content": "m", "content": None}),
    chunk({"content": "so"}),
    call(0, "call_1", "add", ""),
    call(0, None, None, '{"a"'),
    call(0, None, None, ": 1}"),
    call(1, "call_2", "now", "{}"),
    chunk(finish="tool_calls"),
    USAGE,
    DONE,
]


def stream(*, ends_with_done: bool = True) -> StreamToMessages:
    return StreamToMessages(model="fallback", ends_with_done=ends_with_done)


def events(data: bytes) -> list[dict[str, Any]]:
    found = []
    for text in data.decode().split("\n\n"):
        if text:
            name, _, rest = text.partition("\n")
            found.append(json.loads(rest.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


def run(*given: bytes, ends_with_done: bool = True) -> list[dict[str, Any]]:
    crossing = stream(ends_with_done=ends_with_done)
    return events(crossing.feed(b"".join(given)) + crossing.finish())


def blocks(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks, put together; checks that one is open at a time and that indexes count up."""
    found: list[dict[str, Any]] = []
    is_open = False
    for event in given:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(found)
            found.append(event["content_block"] | {"json": ""})
            is_open = True
        elif event["type"] == "content_block_delta":
            assert is_open
            assert event["index"] == len(found) - 1
            change, block = event["delta"], found[-1]
            for target, source in (("text", "text"), ("thinking", "thinking"), ("json", "partial_json")):
                block[target] = block.get(target, "") + change.get(source, "")
            block["signature"] = change.get("signature", block.get("signature"))
        elif event["type"] == "content_block_stop":
            assert is_open
            is_open = False
    assert not is_open
    return found


def told(*given: bytes) -> list[tuple[str, str]]:
    """Kind and content of every block."""
    found = []
    for block in blocks(run(*given)):
        content = {"text": block.get("text"), "thinking": block.get("thinking"), "tool_use": block["json"]}
        name = block.get("name") or block["type"]
        found.append((name, content.get(block["type"]) or ""))
    return found


def test_a_plain_answer() -> None:
    """All of it."""
    assert run(ROLE, chunk({"content": "hi"}), *END) == [
        {
            "type": "message_start",
            "message": {
                "id": "chatcmpl-1",
                "type": "message",
                "role": "assistant",
                "model": "g",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 0, "output_tokens": 0},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4,
                "output_tokens": 5,
            },
        },
        {"type": "message_stop"},
    ]


def test_everything_at_once() -> None:
    """Thinking, text and two calls, each a block."""
    expected = [("thinking", "hm"), ("text", "so"), ("add", '{"a": 1}'), ("now", "{}")]
    assert told(*EVERYTHING) == expected
    assert run(*EVERYTHING)[-2]["delta"]["stop_reason"] == "tool_use"


def test_event_by_event_is_the_same_as_whole() -> None:
    """Where blocks are cut does not matter."""
    one, whole = stream(), stream()
    pieces = b"".join(one.feed(each) for each in EVERYTHING) + one.finish()
    assert pieces == whole.feed(b"".join(EVERYTHING)) + whole.finish()
    assert one.summary == whole.summary


@pytest.mark.parametrize("cut", range(len(EVERYTHING)))
def test_a_stream_cut_short_has_no_end(cut: int) -> None:
    """Whatever came last: no message_delta, no message_stop, and finish raises."""
    crossing = stream()
    out = crossing.feed(b"".join(EVERYTHING[:cut]))
    assert b"message_delta" not in out
    assert b"message_stop" not in out
    with pytest.raises(StreamBroken):
        crossing.finish()


def test_a_provider_without_done_ends_with_its_finish_reason_and_a_clean_close() -> None:
    """A quirk; the usage may still come after the reason."""
    given = run(ROLE, chunk({"content": "hi"}), chunk(finish="stop"), USAGE, ends_with_done=False)
    assert given[-2]["usage"]["output_tokens"] == 5
    crossing = stream(ends_with_done=False)
    crossing.feed(ROLE + chunk({"content": "hi"}))
    with pytest.raises(StreamBroken):
        crossing.finish()


def test_done_without_a_finish_reason_is_no_end() -> None:
    """A reason is never invented."""
    crossing = stream()
    assert b"message_stop" not in crossing.feed(ROLE + chunk({"content": "hi"}) + DONE)
    with pytest.raises(StreamBroken):
        crossing.finish()


# -- calls


def test_interleaved_calls_are_written_one_after_the_other() -> None:
    """OpenAI numbers them, Anthropic has one block open at a time."""
    given = (
        call(0, "a", "first", '{"x"'),
        call(1, "b", "second", '{"y"'),
        call(0, None, None, ":1}"),
        call(1, None, None, ":2}"),
    )
    assert told(*given, *END) == [("first", '{"x":1}'), ("second", '{"y":2}')]


def test_calls_in_order_are_not_held_up() -> None:
    """The second call's pieces go out as they come once the first is whole."""
    crossing = stream()
    crossing.feed(call(0, "a", "first", '{"x":1}'))
    out = crossing.feed(call(1, "b", "second", '{"y"'))
    assert [event["type"] for event in events(out)] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


def test_text_behind_an_unfinished_call_waits() -> None:
    """Order is kept, nothing is lost."""
    given = (
        call(0, "a", "first", '{"x"'),
        chunk({"content": "t"}),
        chunk({"content": "u"}),
        call(0, None, None, ":1}"),
    )
    assert told(*given, *END) == [("first", '{"x":1}'), ("text", "tu")]


@pytest.mark.parametrize(
    "given",
    [
        [
            chunk(
                {
                    "tool_calls": [
                        {"function": {"name": "a", "arguments": "{}"}},
                        {"function": {"name": "b", "arguments": "{}"}},
                    ]
                }
            )
        ],
        [call(None, "x", "a", "{}"), call(None, "y", "b", "{}")],
        [call(None, "x", "a", ""), call(None, "x", None, "{}"), call(None, "y", "b", ""), call(None, None, None, "{}")],
        [call(0, "x", "a", "{}"), call(0, "y", "b", "{}")],
        [call(0, None, "a", {}), call(1, None, "b", {})],
        [call(0, "x", None, None), call(0, None, "a", None), call(0, None, None, "{}"), call(1, "y", "b", "{}")],
        [call(3, "x", "a", "{}"), call(5, "y", "b", "{}")],
    ],
    ids=[
        "whole in one chunk",
        "no index",
        "no index, in pieces",
        "all 0",
        "objects, no id",
        "late name",
        "odd numbers",
    ],
)
def test_two_calls_however_they_are_written(given: list[bytes]) -> None:
    """Every server has its own way; two calls with two ids come out."""
    found = blocks(run(*given, *END))
    assert [(block["name"], json.loads(block["json"] or "{}")) for block in found] == [("a", {}), ("b", {})]
    assert len({block["id"] for block in found if block["id"]}) == 2


def test_null_for_arguments_is_none_at_all() -> None:
    """Groq's way to call a function without parameters."""
    assert told(call(0, "a", "now", "null"), call(1, "b", "then", "{}"), *END) == [("now", ""), ("then", "{}")]


def test_a_call_without_a_name_breaks_the_stream() -> None:
    """There is nothing to call."""
    crossing = stream()
    crossing.feed(call(0, "a", None, "{}") + b"".join(END))
    with pytest.raises(StreamBroken):
        crossing.finish()


# -- what servers do


@pytest.mark.parametrize(
    "given",
    [
        [ROLE, chunk({"content": "hi"}), *END],
        [chunk({"content": "hi"}, finish="stop", usage={"prompt_tokens": 10, "completion_tokens": 5}), DONE],
        [chunk({"content": "h"}, usage={"prompt_tokens": 10, "completion_tokens": 1}), chunk({"content": "i"}), *END],
        [chunk({"content": "hi"}, finish=""), *END],
        [chunk(choices=None), chunk({"content": "hi"}), *END],
        [
            chunk(choices=[]),
            chunk(choices=[{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]),
            USAGE,
            DONE,
        ],
        [chunk({"content": "hi"}), chunk(choices=[{"index": 1, "delta": {"content": "other"}}]), *END],
        [chunk({"content": [{"type": "text", "text": "hi"}]}), *END],
        [chunk({"content": "hi", "tool_calls": None, "reasoning": None, "refusal": None}), *END],
        [chunk({"content": "hi"}).replace(b"\n", b"\r\n"), *END],
    ],
)
def test_a_text_however_it_is_written(given: list[bytes]) -> None:
    """Usage early, late or on every chunk; null choices; whole messages; other choices; parts; CRLF."""
    found = run(*given)
    assert [block["text"] for block in blocks(found)] == ["hi"]
    assert found[-2]["usage"]["output_tokens"] == 5
    assert found[-1] == {"type": "message_stop"}


def test_a_chunk_without_a_head_does_not_begin_the_message() -> None:
    """Azure's first chunk has neither id nor model."""
    filtered = chunk(choices=[], id="", model="", prompt_filter_results=[])
    assert run(filtered, chunk({"content": "hi"}), *END)[0]["message"]["id"] == "chatcmpl-1"


def test_a_model_nobody_names_is_the_one_that_was_asked() -> None:
    """The fallback of the constructor."""
    assert run(chunk({"content": "hi"}, model=None), *END)[0]["message"]["model"] == "fallback"


def test_a_refusal_is_a_text_and_a_reason() -> None:
    """OpenAI finishes refusals with stop."""
    found = run(chunk({"refusal": "no"}), *END)
    assert [block["text"] for block in blocks(found)] == ["no"]
    assert found[-2]["delta"]["stop_reason"] == "refusal"


def test_anthropics_seal_passes_through_openrouter() -> None:
    """A signature and an encrypted block arrive where Anthropic puts them."""
    detail = {"format": "anthropic-claude-v1", "index": 0}
    text = {"type": "reasoning.text", "text": "hm"} | detail
    found = blocks(
        run(
            chunk({"reasoning": "hm", "reasoning_details": [text]}),
            chunk({"reasoning_details": [{"type": "reasoning.text", "signature": "s1"} | detail]}),
            chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "d1"} | detail]}),
            chunk({"content": "so"}),
            *END,
        )
    )
    assert [block["type"] for block in found] == ["thinking", "redacted_thinking", "text"]
    assert (found[0]["thinking"], found[0]["signature"], found[1]["data"]) == ("hm", "s1", "d1")


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        (b"data: {oops\n\n", StreamBroken),
        (b"data: 5\n\n", StreamBroken),
        (b'data: {"error": {"type": "t", "code": 502, "message": "boom"}}\n\n', ProviderFailed),
        (b'event: error\ndata: {"message": "boom"}\n\n', ProviderFailed),
        (chunk(finish="error"), ProviderFailed),
        (chunk(choices=[{"index": 0, "error": {"message": "boom"}}]), ProviderFailed),
    ],
)
def test_a_failure_in_the_stream(bad: bytes, failure: type[ProviderError]) -> None:
    """What came before it is still given, nothing after it is, and finish raises it."""
    crossing = stream()
    out = crossing.feed(ROLE + chunk({"content": "hi"}) + bad + chunk({"content": "more"}) + b"".join(END))
    assert events(out)[-1]["delta"]["text"] == "hi"
    assert isinstance(crossing.failure, failure)
    assert crossing.feed(DONE) == b""
    with pytest.raises(failure):
        crossing.finish()


def test_an_error_keeps_its_type_code_and_message() -> None:
    """The client reads the provider's words."""
    crossing = stream()
    crossing.feed(b'data: {"error": {"type": "t", "code": 502, "message": "boom"}}\n\n')
    assert crossing.failure is not None
    assert (crossing.failure.type, crossing.failure.code, crossing.failure.message) == ("t", "502", "boom")


def test_started_is_the_first_token() -> None:
    """Not the role."""
    crossing = stream()
    crossing.feed(ROLE)
    assert not crossing.started
    crossing.feed(chunk({"content": "hi"}))
    assert crossing.started
