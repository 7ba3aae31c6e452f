"""For any stream a provider sends, chopped anywhere and cut anywhere, where client and provider speak the same dialect:
the client reads the provider's own bytes, every one and no other. A stream ends well only if its own end marker has
come, whatever its texts say, and whether it does, does not depend on the pieces it came in. Nothing but a ProviderError
is raised.

What else reads such a stream (the messages of a WebSocket, the search for an error, a continuation, a replay) reads it
or says that it cannot: it raises nothing but what it documents, and what it writes can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from runestone.core.call import Operation
from runestone.dialects.beginning import begins_with_error, find_error
from runestone.dialects.chunks import Chunk, Chunks
from runestone.dialects.continuation import continuation
from runestone.dialects.pace import tokens_in
from runestone.dialects.passage import ANTHROPIC, OPENAI
from runestone.dialects.relay import AnthropicRelay, OpenAIRelay, Relay
from runestone.dialects.replay.whole import as_answer, has_usage, without_usage
from runestone.dialects.sse import Cutter, Decoder, encode
from runestone.errors import ProviderError, StreamBroken
from tests.dialects.crossing.seeds import CHAT_STREAM, MESSAGES_STREAM
from tests.fuzz.effort import effort
from tests.fuzz.strategies import cuts, streams
from tests.fuzz.test_crossing_answers_fuzz import assert_can_be_told, assert_sound
from tests.fuzz.test_crossing_streams_fuzz import CHAT, DONE, MESSAGES


def short(text: str, **more: Any) -> dict[str, Any]:
    """A chunk that ends with its text, as terse servers write it."""
    return {"choices": [{"index": 0, **more, "delta": {"content": text}}]}


TERSE = st.lists(
    st.sampled_from(
        [
            short("[DONE]"),
            short("data: [DONE]"),
            short("hi"),
            {"choices": [{"text": "[DONE]"}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
            {"error": {"message": "busy"}},
        ]
    ),
    max_size=12,
)
NAMED = st.lists(
    st.sampled_from(
        [
            {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "message_stop"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "message_stop"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
            {"type": "ping"},
            {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
            {"type": "message_stop"},
        ]
    ),
    max_size=12,
)


@st.composite
def told(draw: st.DrawFn, found: st.SearchStrategy[list[Any]], end: bytes) -> bytes:
    """A stream, whole or cut."""
    stream = draw(found.flatmap(lambda said: streams(said, end=end)))
    return stream[: draw(st.integers(0, len(stream)))] if draw(st.integers(0, 2)) == 0 else stream


CHAT_TOLD = told(CHAT | TERSE | TERSE, DONE) | told(TERSE, b"")
MESSAGES_TOLD = told(MESSAGES | NAMED | NAMED, b"")


def run(relay: Relay, parts: list[bytes]) -> tuple[bytes, ProviderError | None, list[bytes]]:
    """As the gateway pulls: what the client reads, how it ends, and the events there were when `complete` was said."""
    cutter, out, early = Cutter(), b"", None
    for part in parts:
        block = cutter.feed(part)
        if block:
            out += relay.feed(block)
            if relay.complete and early is None:
                early = [found.data for found in Decoder().feed(out)]
    if cutter.tail:
        out += relay.feed(cutter.tail)
    try:
        out += relay.finish()
    except ProviderError as error:
        assert_can_be_told(error)
        return out, error, early or []
    finally:
        assert_sound(relay.summary)
    return out, None, early or []


def check(make: Callable[[], Relay], stream: bytes, parts: list[bytes], is_end: Callable[[bytes], bool]) -> None:
    """What holds of every relayed stream."""
    out, failure, early = run(make(), parts)
    assert out == stream
    whole, other, _ = run(make(), [stream])
    assert whole == stream
    assert (failure is None) is (other is None), "how it ends depends on the pieces"
    assert not early or any(map(is_end, early)), "it was taken for complete before its end marker"
    found = Decoder()
    data = [said.data for said in [*found.feed(stream), *found.finish()]]
    assert failure is not None or any(map(is_end, data)), "it ended well without its end marker"
    event("whole" if failure is None else "broken")


@given(CHAT_TOLD.flatmap(lambda stream: st.tuples(st.just(stream), cuts(stream))))
@effort(120)
def test_a_chat_stream_passes_as_it_is(chopped: tuple[bytes, list[bytes]]) -> None:
    """Its end is [DONE], as an event of its own."""
    stream, parts = chopped
    check(
        lambda: OpenAIRelay(OPENAI, Operation.CHAT, b"", ends_with_done=True),
        stream,
        parts,
        lambda data: data == b"[DONE]",
    )


@given(MESSAGES_TOLD.flatmap(lambda stream: st.tuples(st.just(stream), cuts(stream))))
@effort(120)
def test_a_messages_stream_passes_as_it_is(chopped: tuple[bytes, list[bytes]]) -> None:
    """Its end is an event of the type message_stop."""
    stream, parts = chopped
    check(
        lambda: AnthropicRelay(ANTHROPIC, Operation.MESSAGES, b""),
        stream,
        parts,
        lambda data: _loaded(data).get("type") == "message_stop",
    )


def _loaded(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


@given(CHAT_TOLD.flatmap(lambda stream: st.tuples(st.just(stream), cuts(stream))))
@effort(80)
def test_a_websockets_messages_can_be_written(chopped: tuple[bytes, list[bytes]]) -> None:
    """Chunks are numbered without a gap, and each can be written; or the stream is broken."""
    _, parts = chopped
    chunks, said = Chunks(), list[Chunk]()
    for part in parts:
        said += chunks.read(part)
        if chunks.failure is not None:
            break
    else:
        said += chunks.finish()
    assert [chunk.index for chunk in said] == list(range(len(said)))
    for chunk in said:
        orjson.loads(orjson.dumps(chunk.payload()))
    orjson.dumps({"usage": chunks.usage, "finish_reason": chunks.finish_reason})


@given(CHAT_TOLD | MESSAGES_TOLD)
@effort(80)
def test_an_error_is_found_where_it_is(stream: bytes) -> None:
    """What stands before it, and what begins with it, are the events there are."""
    begins_with_error(stream)
    assert tokens_in(stream) >= 0
    broken = find_error(stream)
    if broken is not None:
        assert broken.message
        assert Decoder().feed(broken.before) + Decoder().feed(broken.rest) == Decoder().feed(stream)
        assert find_error(broken.before) is None


FIELDS: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "prompt": "so",
    "messages": [{"role": "user", "content": "hi"}],
}


@given(st.data(), st.sampled_from([Operation.CHAT, Operation.COMPLETIONS, Operation.MESSAGES]))
@effort(100)
def test_what_is_gone_on_with_is_whole_events(data: st.DataObject, operation: Operation) -> None:
    """Whatever was said, and whatever the next target says: a request that can be sent, events that can be read, or a
    StreamBroken.
    """
    kind = MESSAGES_TOLD if operation is Operation.MESSAGES else CHAT_TOLD
    plain = [*CHAT_STREAM, *MESSAGES_STREAM[:1], short("so "), short("hi")]
    first = data.draw(kind | st.lists(st.sampled_from(plain), max_size=3).flatmap(streams))
    how = continuation(operation, FIELDS, data.draw(cuts(first)))
    if how is None:
        event("cannot")
        return
    event("goes on")
    orjson.dumps(how.fields)
    decoder = Decoder()
    out = []
    try:
        for said in decoder.feed(data.draw(kind)):
            out += how.joiner.feed(said)
    except StreamBroken as error:
        assert_can_be_told(error)
    for part in out:
        assert part.endswith(b"\n\n")


@given(CHAT_TOLD | MESSAGES_TOLD, st.sampled_from([Operation.CHAT, Operation.COMPLETIONS, Operation.MESSAGES]))
@effort(80)
def test_a_replay_is_exact_or_none(stream: bytes, operation: Operation) -> None:
    """A stream without its end is no answer; what is an answer can be written; usage is taken out or left."""
    answer = as_answer(operation, stream)
    has_usage(stream)
    without = without_usage(stream)
    if answer is not None:
        event("an answer")
        orjson.loads(answer)
        found = Decoder()
        ends = [said.data for said in [*found.feed(stream), *found.finish()]]
        assert b"[DONE]" in ends or any(_loaded(data).get("type") == "message_stop" for data in ends)
        assert without is None or as_answer(operation, without + encode(b"{}")) is None


@pytest.mark.parametrize("operation", list(Operation))
def test_nothing_said_is_nothing_heard(operation: Operation) -> None:
    """An empty stream is broken, and no answer."""
    assert as_answer(operation, b"") is None
    relay = OpenAIRelay(OPENAI, operation, b"", ends_with_done=True)
    with pytest.raises(StreamBroken):
        relay.finish()
