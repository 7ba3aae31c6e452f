"""A batch as bytes: what is asked is read or refused with the field's name, what is answered cannot be forged."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.core.call import Operation
from runestone.dialects.passage import ANTHROPIC, OPENAI
from runestone.dialects.sse import Decoder, Event
from runestone.edge.batch_lines import (
    Batch,
    Line,
    answered,
    broken,
    chunks,
    events,
    last_event,
    read_batch,
    refusal,
    whole,
)
from runestone.errors import BadRequest, MethodNotAllowed, NotFound, ProviderRefused, RunestoneError, StreamBroken

BODY: dict[str, Any] = {"model": "m", "messages": []}
LINE = Line(0, "a", "/v1/chat/completions", "POST", BODY)


def read(*requests: object, **more: object) -> Batch:
    return read_batch({"requests": list(requests), **more}, 5)


def test_what_is_not_said_is_the_usual() -> None:
    """A line needs nothing but its body: it is a chat, and named by its place; null stands for "not given"."""
    batch = read({"body": BODY}, {"custom_id": None, "url": None, "method": None, "body": BODY}, stream=None)
    assert [line.custom_id for line in batch.lines] == ["0", "1"]
    assert [line.asked() for line in batch.lines] == [(Operation.CHAT, BODY)] * 2
    assert (batch.concurrency, batch.stream) == (5, False)


def test_names_that_mean_nothing_here_are_passed_over() -> None:
    """Lines written for OpenAI's batches can be sent as they are."""
    batch = read({"body": BODY, "priority": 1}, completion_window="24h", metadata={})
    assert len(batch.lines) == 1


@pytest.mark.parametrize(
    ("url", "operation"),
    [
        ("/v1/chat/completions", Operation.CHAT),
        ("/v1/embeddings", Operation.EMBEDDINGS),
        ("/v1/completions", Operation.COMPLETIONS),
        ("/v1/messages", Operation.MESSAGES),
        ("/chat/completions", Operation.CHAT),
        ("/embeddings", Operation.EMBEDDINGS),
        ("/completions", Operation.COMPLETIONS),
    ],
)
def test_what_can_be_asked(url: str, operation: Operation) -> None:
    """The endpoints of models, with /v1 or, as everywhere, without."""
    assert read({"url": url, "body": BODY}).lines[0].asked()[0] is operation


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"url": "/v1/batch", "body": BODY}, NotFound),
        ({"url": "/v1/messages/count_tokens", "body": BODY}, NotFound),
        ({"url": "/admin/providers", "body": BODY}, NotFound),
        ({"url": "https://example.org/v1/chat/completions", "body": BODY}, NotFound),
        ({"method": "GET", "body": BODY}, MethodNotAllowed),
        ({"method": "post", "body": BODY}, MethodNotAllowed),
        ({}, BadRequest),
        ({"body": None}, BadRequest),
        ({"body": "{}"}, BadRequest),
        ({"body": [BODY]}, BadRequest),
    ],
)
def test_a_wrong_line_fails_alone(line: object, error: type[RunestoneError]) -> None:
    """The batch is read; what is wrong with the line comes when its turn does."""
    batch = read(line, {"body": BODY})
    with pytest.raises(error):
        batch.lines[0].asked()
    assert batch.lines[1].asked() == (Operation.CHAT, BODY)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no requests": ({}, "requests"),
    "requests null": ({"requests": None}, "requests"),
    "requests empty": ({"requests": []}, "requests"),
    "requests object": ({"requests": {}}, "requests"),
    "too many": ({"requests": [{"body": BODY}] * 1001}, "requests"),
    "line null": ({"requests": [{"body": BODY}, None]}, "requests[1]"),
    "line string": ({"requests": ["x"]}, "requests[0]"),
    "id number": ({"requests": [{"custom_id": 7, "body": BODY}]}, "requests[0].custom_id"),
    "id empty": ({"requests": [{"custom_id": "", "body": BODY}]}, "requests[0].custom_id"),
    "id long": ({"requests": [{"body": BODY}, {"custom_id": "x" * 201}]}, "requests[1].custom_id"),
    "id twice": ({"requests": [{"custom_id": "a"}, {}, {"custom_id": "a"}]}, "requests[2].custom_id"),
    "id of a place": ({"requests": [{"custom_id": "1"}, {}]}, "requests[1].custom_id"),
    "url number": ({"requests": [{"url": 1}]}, "requests[0].url"),
    "method list": ({"requests": [{"method": ["POST"]}]}, "requests[0].method"),
    "concurrency zero": ({"requests": [{}], "max_concurrency": 0}, "max_concurrency"),
    "concurrency large": ({"requests": [{}], "max_concurrency": 101}, "max_concurrency"),
    "concurrency boolean": ({"requests": [{}], "max_concurrency": True}, "max_concurrency"),
    "concurrency fraction": ({"requests": [{}], "max_concurrency": 1.5}, "max_concurrency"),
    "stream string": ({"requests": [{}], "stream": "yes"}, "stream"),
    "stream within": ({"requests": [{}, {"body": {"stream": True}}]}, "requests[1].body.stream"),
}


@pytest.mark.parametrize(("fields", "param"), WRONG.values(), ids=WRONG)
def test_a_wrong_batch_is_refused_whole(fields: dict[str, Any], param: str) -> None:
    """Before anything begins, and the field is named."""
    with pytest.raises(BadRequest) as caught:
        read_batch(fields, 5)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


def test_the_bounds_are_within() -> None:
    """1,000 lines, names of 200 characters, 1 and 100 at a time."""
    assert len(read(*[{"body": BODY}] * 1000).lines) == 1000
    assert read({"custom_id": "x" * 200}, max_concurrency=100).concurrency == 100
    assert read({}, max_concurrency=1).concurrency == 1


def test_a_providers_bytes_are_not_written_again() -> None:
    """The answer stands in the line as it came, spaces and all; as an event its line breaks become spaces."""
    body = b'{\r\n  "a": 1.0,\n  "b": "\\n\xc3\xa9"\n}'
    line = answered(LINE, "r-0", 200, body)
    assert body in line
    assert body in whole("r", [line], 0)
    event = events([line])
    assert event.count(b"\n") == 2
    assert event.endswith(b"\n\n")
    assert orjson.loads(event[6:]) == orjson.loads(line)


def test_the_whole_says_how_many() -> None:
    """In the order given, with the counts."""
    said = orjson.loads(whole("r", [answered(LINE, "r-0", 200, b"{}"), answered(LINE, "r-1", 400, b"{}")], 1))
    assert said == {
        "object": "batch",
        "id": "r",
        "data": [
            {
                "custom_id": "a",
                "index": 0,
                "response": {"status_code": status, "request_id": f"r-{at}", "body": {}},
                "error": None,
            }
            for at, status in enumerate((200, 400))
        ],
        "counts": {"total": 2, "succeeded": 1, "failed": 1},
    }


def test_events_of_a_stream_keep_their_names() -> None:
    """The name where there is one; the end marker is none of a line's events."""
    events = [Event("message_start", b'{"type": "message_start"}'), Event("", b"[DONE]"), Event("", b"{}")]
    first, second = (orjson.loads(chunk) for chunk in chunks(LINE, events))
    assert first == {"custom_id": "a", "index": 0, "event": "message_start", "chunk": {"type": "message_start"}}
    assert second == {"custom_id": "a", "index": 0, "chunk": {}}


@pytest.mark.parametrize("data", [b"hello", b'{}, "index": 7', b'{"a": 1}} {', b"\xff", b"", b'{"a":\n1', b"NaN"])
def test_what_is_not_json_cannot_change_its_line(data: bytes) -> None:
    """An event that is no JSON is told as text, in a line that is still ours."""
    (chunk,) = chunks(LINE, [Event("", data)])
    assert orjson.loads(chunk) == {"custom_id": "a", "index": 0, "chunk": data.decode("utf-8", "replace")}


@pytest.mark.parametrize(("body", "kept"), [(b'{"x": 1}', True), (b"{not json", False), (b'{}, "index": 7', False)])
def test_a_refusal_is_the_providers_own_if_it_can_be_read(body: bytes, kept: bool) -> None:
    """Otherwise it is written in the dialect of the line."""
    refused = ProviderRefused("no", status=422, type="t")
    refused.body = body
    said = refusal(OPENAI, "r-0", refused)
    assert (said == body) is kept
    assert isinstance(orjson.loads(said), dict)


@pytest.mark.parametrize(
    ("dialect", "names"), [(OPENAI, {"message", "type", "param", "code"}), (ANTHROPIC, {"type", "message"})]
)
def test_a_stream_that_broke_off_has_no_response(dialect: Any, names: set[str]) -> None:
    """Its last line holds the error as its dialect writes it."""
    said = orjson.loads(broken(LINE, "r-0", dialect, StreamBroken("cut")))
    assert said["response"] is None
    assert said["error"].keys() == names
    assert said["error"]["message"] == "cut"


def test_the_wait_is_told_where_it_is_known() -> None:
    """What stands in Retry-After of an answer alone."""
    assert orjson.loads(answered(LINE, "r-0", 429, b"{}", 30))["response"]["retry_after"] == 30
    assert "retry_after" not in orjson.loads(answered(LINE, "r-0", 429, b"{}"))["response"]


def test_the_end_is_the_usual_one() -> None:
    """What clients of event streams wait for."""
    assert [event.data for event in Decoder().feed(last_event())] == [b"[DONE]"]
