"""For any events a provider sends, chopped anywhere and cut anywhere: the client reads whole events of its dialect, in
the order that the dialect demands and the same ones however they were chopped; and either the end, and its vendor's SDK
has fallen over nothing on the way, or a ProviderError is raised that can be told. An end (finish_reason, [DONE];
message_delta, message_stop) is written only when the provider's own came, and a stream without its end never ends well.
Nothing else is raised.

For any sound answer: told as a stream it crosses to what it crosses to as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import assume, event, given
from hypothesis import strategies as st

from runestone.core.call import Operation
from runestone.core.summary import Summary
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.stream_to_chat import StreamToChat
from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.dialects.replay.stream import as_stream
from runestone.dialects.sse import Decoder
from runestone.errors import ProviderError
from tests.dialects.crossing.seeds import CHAT_STREAM, ERRORS, FUNCTION_STREAM, MESSAGES_STREAM
from tests.dialects.replay.judges import events as data_of
from tests.dialects.replay.judges import folded_chat, folded_message
from tests.fuzz.conversations import CHAT_ANSWER, MESSAGES_ANSWER
from tests.fuzz.effort import effort
from tests.fuzz.judges import Told, judge_chat_stream, judge_messages_stream
from tests.fuzz.strategies import DEEP, JSON, ODD, cuts, spoiled, streams
from tests.fuzz.test_crossing_answers_fuzz import assert_can_be_told, assert_sound

DONE = b"data: [DONE]\n\n"
VALUES = ODD | DEEP | JSON | st.sampled_from([1, 2, 3, "tool_use", "text", "stop", "error", "[DONE]", "now"])
BROKEN = st.sampled_from([b"{", b"NaN", b"[DONE] ", b"", b'{"a":"\\ud83d"}', b"\xff", b"[DONE]"])


def _events_of(operation: Operation, answer: dict[str, Any]) -> list[Any]:
    """A sound answer as the events of a stream."""
    stream = as_stream(operation, orjson.dumps(answer), include_usage=True)
    assume(stream is not None)
    return [json.loads(found.data) for found in Decoder().feed(stream or b"") if found.data != b"[DONE]"]


@st.composite
def events(draw: st.DrawFn, seeds: list[list[Any]], operation: Operation, sound: st.SearchStrategy[Any]) -> list[Any]:
    """Those of a stream: as they should be, wrong in places, out of order, or with bytes that are no JSON between."""
    how = draw(st.integers(0, 5))
    if how == 0:
        return _events_of(operation, draw(sound))
    if how == 1:
        pool = [found for seed in seeds for found in seed] + ERRORS
        return draw(st.lists(st.sampled_from(pool), max_size=8))
    found = _events_of(operation, draw(sound)) if how == 2 else draw(st.sampled_from(seeds))
    found = draw(spoiled([found], VALUES))
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(found)))
        found = [*found[:at], draw(BROKEN | st.sampled_from(ERRORS)), *found[at:]]
    return found


MESSAGES = events([MESSAGES_STREAM], Operation.MESSAGES, MESSAGES_ANSWER)
CHAT = events([CHAT_STREAM, FUNCTION_STREAM], Operation.CHAT, CHAT_ANSWER)

Crossing = StreamToChat | StreamToMessages


def run(crossing: Crossing, parts: list[bytes]) -> tuple[bytes, ProviderError | None]:
    """What the client reads, and how it ends."""
    out = []
    for part in parts:
        out.append(crossing.feed(part))
        if crossing.failure is not None:
            assert crossing.feed(b"data: {}\n\n") == b"", "more after a failure"
            break
    try:
        if crossing.failure is not None:
            raise crossing.failure
        out.append(crossing.finish())
    except ProviderError as error:
        assert_can_be_told(error)
        assert_sound(crossing.summary)
        return b"".join(out), error
    assert crossing.complete
    assert_sound(crossing.summary)
    return b"".join(out), None


def read(stream: bytes) -> list[Any]:
    """The events, as far as they can be read."""
    decoder = Decoder()
    found = []
    for said in [*decoder.feed(stream), *decoder.finish()]:
        try:
            found.append(said.data if said.data == b"[DONE]" else orjson.loads(said.data))
        except orjson.JSONDecodeError:
            found.append(None)
    return found


def check(make: Callable[[], Crossing], judge: Callable[[bytes], Told], stream: bytes, parts: list[bytes]) -> Told:
    """What holds of every stream; what it told."""
    out, failure = run(make(), [stream])
    chopped, other = run(make(), parts)
    assert chopped == out, "it depends on the pieces"
    assert (failure is None) is (other is None)
    told = judge(out)
    assert told.is_over is (failure is None)
    if failure is None:  # the vendors' own clients fall over nothing in it, while they read along
        said = [data for data in data_of(out) if data is not None]
        (folded_chat if judge is judge_chat_stream else folded_message)(said)
    event("whole" if failure is None else "broken")
    return told


@given(st.data(), st.booleans())
@effort(70)
def test_any_messages_stream_crosses_or_fails(data: st.DataObject, include_usage: bool) -> None:
    """To chunks, whose end is the message's."""
    stream = data.draw(MESSAGES.flatmap(streams))
    if data.draw(st.booleans()):
        stream = stream[: data.draw(st.integers(0, len(stream)))]
    told = check(
        lambda: StreamToChat(created=1, include_usage=include_usage), judge_chat_stream, stream, data.draw(cuts(stream))
    )
    kinds = [found.get("type") for found in read(stream) if isinstance(found, dict)]
    assert told.finish is None or "message_delta" in kinds, "an invented finish_reason"
    assert not told.is_over or "message_stop" in kinds, "an invented [DONE]"
    assert (told.usage is not None) is (told.is_over and include_usage)


@given(st.data(), st.booleans())
@effort(70)
def test_any_chat_stream_crosses_or_fails(data: st.DataObject, ends_with_done: bool) -> None:
    """To events, whose end is that of the chunks."""
    end = data.draw(st.sampled_from([DONE, DONE, b""]))
    stream = data.draw(CHAT.flatmap(lambda found: streams(found, end=end)))
    if data.draw(st.booleans()):
        stream = stream[: data.draw(st.integers(0, len(stream)))]
    told = check(
        lambda: StreamToMessages(model="m", ends_with_done=ends_with_done),
        judge_messages_stream,
        stream,
        data.draw(cuts(stream)),
    )
    chunks = read(stream)
    finished = [
        choice
        for chunk in chunks
        if isinstance(chunk, dict) and isinstance(chunk.get("choices"), list)
        for choice in chunk["choices"]
        if isinstance(choice, dict) and choice.get("finish_reason")
    ]
    assert told.finish is None or finished, "an invented stop_reason"
    assert not told.is_over or b"[DONE]" in chunks or not ends_with_done, "an invented message_stop"
    for _, _, arguments in told.calls if told.is_over else ():
        assert arguments == "" or told.finish == "max_tokens" or _is_object(arguments), arguments


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


# -- a stream and the whole of it


@given(MESSAGES_ANSWER)
@effort(60)
def test_a_message_crosses_alike_as_a_stream_and_as_a_whole(answer: dict[str, Any]) -> None:
    """The same words, thoughts, calls, end and tokens."""
    stream = as_stream(Operation.MESSAGES, orjson.dumps(answer), include_usage=True)
    assume(stream is not None)
    out, failure = run(StreamToChat(created=1, include_usage=True), [stream or b""])
    assert failure is None
    told = judge_chat_stream(out)
    crossed = answer_to_chat(answer, created=1, summary=Summary())
    (choice,) = crossed["choices"]
    said = choice["message"]
    assert told.text == (said["content"] or "")
    assert told.thought == said.get("reasoning_content", "")
    calls = [
        (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in said.get("tool_calls", ())
    ]
    assert [(identity, name, json.loads(arguments)) for identity, name, arguments in told.calls] == [
        (identity, name, json.loads(arguments)) for identity, name, arguments in calls
    ]
    assert told.finish == choice["finish_reason"]
    assert told.usage == crossed["usage"]


@given(CHAT_ANSWER)
@effort(60)
def test_a_completion_crosses_alike_as_a_stream_and_as_a_whole(answer: dict[str, Any]) -> None:
    """The same words, thoughts, calls, end and tokens."""
    said = answer["choices"][0]["message"]
    assume("reasoning_content" not in said or "reasoning_details" not in said)  # servers tell both in one delta
    stream = as_stream(Operation.CHAT, orjson.dumps(answer), include_usage=True)
    assume(stream is not None)
    out, failure = run(StreamToMessages(model="m", ends_with_done=True), [stream or b""])
    assert failure is None
    told = judge_messages_stream(out)
    crossed = answer_to_messages(answer, summary=Summary())
    content = crossed["content"]
    assert told.text == "".join(block["text"] for block in content if block["type"] == "text")
    assert told.thought == "".join(block["thinking"] for block in content if block["type"] == "thinking")
    assert [(identity, name, json.loads(arguments or "{}")) for identity, name, arguments in told.calls] == [
        (block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"
    ]
    assert len(told.calls) == len(said.get("tool_calls") or ())
    assert told.finish == crossed["stop_reason"]
    assert told.usage == crossed["usage"]


@given(CHAT.flatmap(streams), MESSAGES.flatmap(streams))
@effort(40)
def test_a_stream_cut_at_each_event_says_no_more_than_the_whole(chat: bytes, messages: bytes) -> None:
    """What a cut stream tells is where the whole one begins, and no cut ends well before the provider's end."""
    for make, stream in (
        (lambda: StreamToChat(created=1, include_usage=True), messages),
        (lambda: StreamToMessages(model="m", ends_with_done=True), chat + DONE),
    ):
        marks = [at for at in range(len(stream)) if stream[at - 2 : at] == b"\n\n"]
        told = [make().feed(stream[:mark]) for mark in [*marks, len(stream)]]
        assert all(longer.startswith(shorter) for shorter, longer in pairwise(told))
