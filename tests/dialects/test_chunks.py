"""A chat stream as chunks: what was read together is told together, and nothing of it is lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.dialects.chunks import Chunk, Chunks
from runestone.errors import StreamBroken

DONE = b"data: [DONE]\n\n"


def event(*choices: dict[str, Any], **more: object) -> bytes:
    return b"data: " + orjson.dumps({"id": "c", "choices": choices, **more}) + b"\n\n"


def says(text: str, index: int = 0, **more: object) -> bytes:
    return event({"index": index, "delta": {"content": text}, "finish_reason": None, **more})


def told(*blocks: bytes) -> list[dict[str, Any]]:
    chunks = Chunks()
    said = [chunk.payload() for block in blocks for chunk in chunks.read(block)]
    said += [chunk.payload() for chunk in chunks.finish()]
    if chunks.failure is not None:
        raise chunks.failure
    return said


def test_the_texts_of_one_read_are_one_chunk() -> None:
    """And those of the next read the next; numbered from 0."""
    assert told(says("a") + says("b") + says("c"), says("d"), says("e") + DONE) == [
        {"chunk": "abc", "index": 0},
        {"chunk": "d", "index": 1},
        {"chunk": "e", "index": 2},
    ]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b": comment\n\n",
        DONE,
        event({"index": 0, "delta": {"role": "assistant"}}),
        event({"index": 0, "delta": {"role": "assistant", "content": ""}}),
        event({"index": 0, "delta": {"role": "assistant", "content": None, "refusal": None, "tool_calls": None}}),
        event({"index": 0, "delta": {}, "finish_reason": "stop"}),
        event({"index": 0}),
        event({"index": 0, "delta": None}),
        event({"index": 0, "delta": "text"}),
        event(),
        b'data: {"choices":null}\n\n',
        b'data: {"choices":7}\n\n',
        b'data: {"choices":[null,7,"x",[]]}\n\n',
        b"data: 7\n\n",
        b"data: null\n\n",
        b"data: []\n\n",
        b'data: {"usage":null}\n\n',
        event({"index": 0, "delta": {"content": 7}}),
    ],
)
def test_what_says_nothing_makes_no_chunk(block: bytes) -> None:
    """Roles, ends, comments, counts, and what is not as it should be."""
    assert told(block) == []
    assert told(says("a"), block, says("b")) == [{"chunk": "a", "index": 0}, {"chunk": "b", "index": 1}]


CALL = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]}


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (CALL, ""),
        ({"role": "assistant", "content": None, **CALL}, ""),
        ({"content": "x", "reasoning_content": "y"}, "x"),
        ({"reasoning_content": "hm"}, ""),
        ({"role": "tool", "content": "x"}, "x"),
        ({"refusal": "no"}, ""),
        ({"audio": {"data": "AAAA"}}, ""),
        ({"content": ["not", "text"], "x": 1}, ""),
    ],
)
def test_more_than_text_is_told_whole_and_in_its_place(delta: dict[str, Any], text: str) -> None:
    """The text before it stands before it, that behind it behind it."""
    block = says("a") + says("b") + event({"index": 0, "delta": delta}) + says("c")
    assert told(block) == [
        {"chunk": "ab", "index": 0},
        {"chunk": text, "index": 1, "delta": delta},
        {"chunk": "c", "index": 2},
    ]


def test_other_choices_and_log_probabilities_are_told() -> None:
    """With the choice's number, and as they came."""
    logprobs = {"content": [{"token": "b", "logprob": -0.1}]}
    assert told(says("a") + says("z", 1) + says("b", logprobs=logprobs) + says("c", logprobs=None)) == [
        {"chunk": "a", "index": 0},
        {"chunk": "z", "index": 1, "choice": 1},
        {"chunk": "b", "index": 2, "logprobs": logprobs},
        {"chunk": "c", "index": 3},
    ]


def test_one_event_may_hold_several_choices() -> None:
    """Each is told."""
    both = event({"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}})
    assert told(both) == [{"chunk": "a", "index": 0}, {"chunk": "b", "index": 1, "choice": 1}]


def test_the_end_and_the_cost_are_remembered() -> None:
    """The first choice's reason, the last count there was."""
    chunks = Chunks()
    assert (chunks.finish_reason, chunks.usage) == (None, None)
    chunks.read(says("a", usage=None) + event({"index": 1, "delta": {}, "finish_reason": "length"}))
    assert chunks.finish_reason is None
    chunks.read(event({"index": 0, "delta": {"content": "last"}, "finish_reason": "tool_calls"}, usage={"n": 1}))
    chunks.read(event(usage={"n": 2}) + DONE)
    assert (chunks.finish_reason, chunks.usage) == ("tool_calls", {"n": 2})


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n", b""])
def test_the_last_event_may_end_as_it_likes(end: bytes) -> None:
    """One line break or none at the end of the stream loses no text."""
    assert told(says("a").rstrip() + end) == [{"chunk": "a", "index": 0}]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}',  # half of a pair, as some providers cut emoji
        b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"x"}',
    ],
    ids=["lone surrogate", "not UTF-8", "cut short"],
)
def test_what_cannot_be_read_is_not_passed_over_in_silence(broken: bytes) -> None:
    """An event that looks like a chunk and is none: either its text is told, or the stream is broken and says so; a
    whole answer with a hole in it is neither.
    """
    try:
        texts = [chunk["chunk"] for chunk in told(says("a"), b"data: " + broken + b"\n\n", says("b"))]
    except StreamBroken:
        return
    assert len("".join(texts)) > len("ab")


def test_what_came_before_a_broken_event_is_told() -> None:
    """In the same read too; what comes after it is not."""
    chunks = Chunks()
    (chunk,) = chunks.read(says("a") + says("b") + b'data: {"choices":[\n\n' + says("c"))
    assert chunk.text == "ab"
    assert chunks.failure is not None


def test_what_providers_write_beside_it_is_no_part_of_it() -> None:
    """Lines that are no JSON at all."""
    assert told(says("a") + b"data: OPENROUTER PROCESSING\n\n" + says("b") + DONE) == [{"chunk": "ab", "index": 0}]


PIECES = st.lists(
    st.one_of(
        st.text(max_size=6).map(lambda text: ("text", text)),
        st.text(max_size=3).map(lambda text: ("other", text)),
        st.just(("comment", "")),
        st.just(("call", "")),
    ),
    max_size=12,
)


def written(pieces: list[tuple[str, str]]) -> bytes:
    made = {
        "text": says,
        "other": lambda text: says(text, 1),
        "comment": lambda _: b": ping\r\n\r\n",
        "call": lambda _: event({"index": 0, "delta": CALL}),
    }
    return b"".join(made[kind](text) for kind, text in pieces)


@given(PIECES, st.lists(st.integers(0, 2000), max_size=10), st.booleans())
def test_wherever_reads_cut_it_nothing_is_lost(pieces: list[tuple[str, str]], cuts: list[int], crlf: bool) -> None:
    """The texts of each choice, joined, are what was written; tool calls are all there; numbers run from 0 without a
    gap; no chunk is empty; and no read makes two chunks of texts that stand side by side.
    """
    stream = written(pieces) + DONE
    stream = stream.replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n") if crlf else stream
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    chunks, said = Chunks(), []
    for start, end in pairwise(places):
        block = chunks.read(stream[start:end])
        assert not any(_is_plain(one) and _is_plain(two) for one, two in pairwise(block))
        said += block
    said += chunks.finish()
    assert [chunk.index for chunk in said] == list(range(len(said)))
    for choice, kind in ((0, "text"), (1, "other")):
        assert "".join(chunk.text for chunk in said if chunk.choice == choice) == "".join(
            text for name, text in pieces if name == kind
        )
    assert sum(chunk.delta is not None for chunk in said) == sum(name == "call" for name, _ in pieces)
    assert all(chunk.text or not _is_plain(chunk) for chunk in said)


def _is_plain(chunk: Chunk) -> bool:
    return chunk.delta is None and chunk.choice == 0 and chunk.logprobs is None
