"""The same dialect on both sides: what passes is not touched, and what a record needs is seen, however the stream is
cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from runestone.core.call import Operation
from runestone.core.summary import Summary
from runestone.dialects.passage import ANTHROPIC, OPENAI
from runestone.dialects.relay import AnthropicRelay, OpenAIRelay, Relay
from runestone.errors import ProviderFailed, StreamBroken

DONE = b"data: [DONE]\n\n"
Cut = Callable[[list[bytes]], list[bytes]]


def chunk(**fields: Any) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"id": "c-1", "model": "m-1", **fields})


def delta(content: str | None = None, *, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    body = ({"content": content} if content is not None else {}) | more
    return chunk(choices=[{"index": index, "delta": body, "finish_reason": finish}])


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CHAT = [
    delta("", role="assistant"),
    *(delta(f"w{n} ") for n in range(30)),
    delta(finish="stop"),
    chunk(choices=[], usage=USAGE),
    DONE,
]
CHAT_SUMMARY = Summary(
    input_tokens=10,
    output_tokens=3,
    cached_tokens=4,
    reasoning_tokens=2,
    finish_reason="stop",
    response_id="c-1",
    model="m-1",
)
START = event(
    "message_start",
    message={
        "id": "msg-1",
        "model": "c-1",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1},
    },
)
END = [
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}),
    event("message_stop"),
]
MESSAGES = [
    START,
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("ping"),
    *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"w{n} "}) for n in range(30)),
    event("content_block_stop", index=0),
    *END,
]
MESSAGES_SUMMARY = Summary(
    input_tokens=7, output_tokens=9, cached_tokens=2, finish_reason="end_turn", response_id="msg-1", model="c-1"
)


def openai(*, ends_with_done: bool = True, choices: int = 1) -> OpenAIRelay:
    return OpenAIRelay(OPENAI, Operation.CHAT, b"{}", ends_with_done=ends_with_done, choices=choices)


def anthropic() -> AnthropicRelay:
    return AnthropicRelay(ANTHROPIC, Operation.MESSAGES, b"{}")


def whole(events: list[bytes]) -> list[bytes]:
    return [b"".join(events)]


def pairs(events: list[bytes]) -> list[bytes]:
    return [b"".join(events[at : at + 2]) for at in range(0, len(events), 2)]


def crlf(events: list[bytes]) -> list[bytes]:
    return [event.replace(b"\n", b"\r\n") for event in events]


every_cut = pytest.mark.parametrize("cut", [whole, list, pairs, crlf], ids=["one block", "one event", "pairs", "crlf"])


def run(relay: Relay, blocks: list[bytes]) -> Relay:
    for block in blocks:
        assert relay.feed(block) == block
    assert relay.finish() == b""
    return relay


@every_cut
@pytest.mark.parametrize(
    ("relay", "events", "summary"),
    [(openai, CHAT, CHAT_SUMMARY), (anthropic, MESSAGES, MESSAGES_SUMMARY)],
    ids=["openai", "anthropic"],
)
def test_a_complete_stream_passes_and_is_summarised(
    relay: Callable[[], Relay], events: list[bytes], summary: Summary, cut: Cut
) -> None:
    """The same bytes go out, nothing is added at the end, and the record is complete."""
    done = run(relay(), cut(events))
    assert (done.summary, done.failure, done.started) == (summary, None, True)


@every_cut
@pytest.mark.parametrize(
    ("relay", "events"),
    [
        (openai, CHAT[:-1]),
        (openai, CHAT[:1]),
        (openai, []),
        (openai, [delta("data: [DONE]")]),
        (anthropic, MESSAGES[:-1]),
        (anthropic, MESSAGES[:1]),
        (anthropic, []),
    ],
)
def test_a_stream_without_its_end_is_broken(relay: Callable[[], Relay], events: list[bytes], cut: Cut) -> None:
    """A clean end of the connection is no end of the answer: what was cut short is never called complete."""
    with pytest.raises(StreamBroken, match="before its end marker"):
        run(relay(), cut(events))


@every_cut
@pytest.mark.parametrize(
    ("relay", "events"),
    [(openai, CHAT[:-2]), (anthropic, MESSAGES[:-1])],
    ids=["openai", "anthropic"],
)
def test_a_broken_stream_still_says_what_it_was(relay: Callable[[], Relay], events: list[bytes], cut: Cut) -> None:
    """The record of a cut stream has the answer's id, model and finish reason, as far as they had come."""
    broken = relay()
    with pytest.raises(StreamBroken):
        run(broken, cut(events))
    assert broken.summary.response_id
    assert broken.summary.model
    assert broken.summary.finish_reason


@every_cut
@pytest.mark.parametrize(
    ("relay", "events", "message"),
    [
        (openai, [*CHAT[:5], b'data: {"error":{"message":"overloaded","code":502}}\n\n'], "overloaded"),
        (openai, [*CHAT[:5], b'data: {"error":{"message":"overloaded"},"choices":[]}\n\n', DONE], "overloaded"),
        (openai, [b'data: {"error":"no memory"}\n\n', DONE], "no memory"),
        (anthropic, [*MESSAGES[:5], event("error", error={"type": "overloaded_error", "message": "busy"})], "busy"),
        (anthropic, [event("error", error={"type": "overloaded_error", "message": "busy"})], "busy"),
    ],
)
def test_an_error_inside_the_stream_is_the_streams_failure(
    relay: Callable[[], Relay], events: list[bytes], message: str, cut: Cut
) -> None:
    """The provider's own event has told the client already: the failure says so, and is not told twice."""
    failed = relay()
    with pytest.raises(StreamBroken, match=message) as caught:
        run(failed, cut(events))
    assert caught.value.told
    assert failed.failure is caught.value


@every_cut
def test_where_done_is_not_said_a_finish_reason_is_the_end(cut: Cut) -> None:
    """A provider with that quirk ends well when every choice has finished, with or without usage behind it."""
    for events in (CHAT[:-1], CHAT[:-2], CHAT):
        assert run(openai(ends_with_done=False), cut(events)).summary.finish_reason == "stop"


@every_cut
def test_every_choice_must_finish(cut: Cut) -> None:
    """Two answers were asked for: one finish reason is half an end."""
    events = [delta("a"), delta("b", index=1), delta(finish="stop"), delta(index=1, finish="length")]
    with pytest.raises(StreamBroken):
        run(openai(ends_with_done=False, choices=2), cut(events[:-1]))
    assert run(openai(ends_with_done=False, choices=2), cut(events)).summary.finish_reason == "stop"


@every_cut
def test_the_finish_reason_is_the_first_choices(cut: Cut) -> None:
    """As with whole answers: one record, one reason."""
    events = [delta(finish="stop"), delta(index=1, finish="length"), DONE]
    assert run(openai(choices=2), cut(events)).summary.finish_reason == "stop"


def test_the_finish_reasons_of_many_choices_are_all_seen() -> None:
    """More choices than the relay remembers events: the first one's reason, and the usage, are in the record."""
    events = [*(delta(index=n, finish="stop" if n == 0 else "length") for n in range(20)), *CHAT[-2:]]
    summary = run(openai(choices=20), events).summary
    assert (summary.finish_reason, summary.output_tokens) == ("stop", 3)


@pytest.mark.parametrize(
    "last",
    [b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b": bye\n\ndata: [DONE]\n\n\n\n"],
)
def test_the_end_may_be_written_in_any_way(last: bytes) -> None:
    """Vendors differ in blanks and line breaks."""
    assert run(openai(), [*CHAT[:-1], last]).summary == CHAT_SUMMARY


@pytest.mark.parametrize(
    ("relay", "quiet", "content"),
    [
        (openai, [delta("", role="assistant"), b": ping\n\n"], delta("a")),
        (openai, [delta("", role="assistant")], delta(reasoning_content="hm")),
        (openai, [delta("", role="assistant")], delta(tool_calls=[{"index": 0}])),
        (openai, [], chunk(choices=[{"index": 0, "text": "a"}])),
        (openai, [], b'data: {"choices": [{"delta": {"content" : "a"}}]}\n\n'),
        (
            anthropic,
            [START, event("ping")],
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}),
        ),
        (anthropic, [START], event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "a"})),
    ],
)
def test_the_first_content_starts_it(relay: Callable[[], Relay], quiet: list[bytes], content: bytes) -> None:
    """Time to first token is measured at content: heads, roles and pings are none."""
    started = relay()
    for block in quiet:
        started.feed(block)
        assert not started.started
    started.feed(content)
    assert started.started


@pytest.mark.parametrize("relay", [openai, anthropic])
@pytest.mark.parametrize(
    "odd",
    [
        b"5",
        b"[]",
        b"null",
        b"not json",
        b'{"choices":5}',
        b'{"choices":[5]}',
        b'{"choices":{"a":1}}',
        b'{"choices":[{"index":0,"finish_reason":{"a":1}}]}',
        b'{"id":5,"model":[1],"usage":[1]}',
        b'{"usage":{"prompt_tokens":"x","prompt_tokens_details":5}}',
        b'{"usage":{"prompt_tokens":-5,"completion_tokens":18446744073709551615}}',
        b'{"type":[1],"message":5,"delta":5}',
        b'{"type":"message_start","message":{"id":5,"model":[1],"usage":5}}',
        b'{"type":"message_delta","delta":{"stop_reason":{"a":1}},"usage":{"output_tokens":"x"}}',
    ],
)
@pytest.mark.parametrize("ends_with_done", [True, False])
def test_odd_events_pass_and_are_not_believed(relay: Callable[[], Relay], odd: bytes, ends_with_done: bool) -> None:
    """What is no object of the dialect is left to the client; a record holds texts and true counts, or nothing."""
    given = openai(ends_with_done=ends_with_done) if relay is openai else relay()
    finish, last = [delta(finish="stop"), DONE] if relay is openai else END
    event = b': "finish_reason" "message_start"\ndata: %b\n\n' % odd
    summary = run(given, [event, finish, event, last]).summary
    texts = (summary.response_id, summary.model, summary.finish_reason)
    counts = (summary.input_tokens, summary.output_tokens, summary.cached_tokens)
    assert all(text is None or type(text) is str for text in texts)
    assert all(count is None or (type(count) is int and 0 <= count < 2**53) for count in counts)


@pytest.mark.parametrize(
    ("relay", "answer", "summary"),
    [
        (
            openai,
            {"id": "c-1", "model": "m-1", "choices": [{"finish_reason": "stop"}], "usage": USAGE},
            CHAT_SUMMARY,
        ),
        (openai, {"choices": []}, Summary()),
        (
            anthropic,
            {
                "id": "msg-1",
                "model": "c-1",
                "content": [],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 9},
            },
            MESSAGES_SUMMARY,
        ),
    ],
)
def test_a_whole_answer_passes_and_is_summarised(
    relay: Callable[[], Relay], answer: dict[str, Any], summary: Summary
) -> None:
    """The provider's own bytes, blanks and unknown fields included."""
    body = orjson.dumps(answer | {"x_unknown": 1}, option=orjson.OPT_INDENT_2)
    passed = relay()
    assert passed.answer(body) == body
    assert passed.summary == summary


@pytest.mark.parametrize("relay", [openai, anthropic])
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"object":"list"}', b'{"error":{"message":"no"}}', b"\xff"]
)
def test_what_is_no_answer_is_the_providers_failure(relay: Callable[[], Relay], body: bytes) -> None:
    """A 200 that holds something else is a 502, and may be tried elsewhere."""
    with pytest.raises(ProviderFailed) as caught:
        relay().answer(body)
    assert caught.value.retryable


def test_an_error_in_the_guise_of_an_answer_is_told() -> None:
    """A 200 with an error object: the message comes through."""
    with pytest.raises(ProviderFailed, match="no memory"):
        openai().answer(b'{"error":{"message":"no memory"}}')


def test_the_request_is_what_was_handed_in() -> None:
    """A relay writes nothing of its own."""
    body = b' { "model": "m" }'
    assert OpenAIRelay(OPENAI, Operation.CHAT, body, ends_with_done=True).request() is body
