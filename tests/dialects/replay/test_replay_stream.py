"""A whole answer as a stream: the SDKs read the same of both, and it looks as the vendor's own does."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import orjson
import pytest

from runestone.core.call import Operation
from runestone.dialects.replay.exact import Inexact
from runestone.dialects.replay.stream import as_stream, tell
from runestone.dialects.replay.whole import as_answer, has_usage, without_usage
from tests.dialects.replay.answers import (
    CALLS,
    CHATS,
    CITATIONS,
    COMPLETIONS,
    DETAILS,
    INPUT,
    LONG,
    MESSAGES,
    OPENAI,
    TEXT,
    chat,
    completion,
    mark,
    message,
    tool_use,
)
from tests.dialects.replay.judges import events, folded_chat, folded_message, read_chat, read_message

ALL = [
    pytest.param(operation, answer, id=f"{operation.name} {name}")
    for operation, table in (
        (Operation.CHAT, CHATS),
        (Operation.COMPLETIONS, COMPLETIONS),
        (Operation.MESSAGES, MESSAGES),
    )
    for name, answer in table.items()
]
# What OpenAI's SDK does not fold: members of a choice, logprobs of reasoning, two details of one index; and it names
# the object where the server does not.
BEYOND_OPENAI = {"members nobody knows", "logprobs of all there is", "reasoning with details", "a bare server"}


def told(operation: Operation, answer: Any, *, include_usage: bool = True) -> list[Any]:
    return events(tell(operation, orjson.dumps(answer), include_usage=include_usage))


def deltas(answer: Any, choice: int = 0) -> list[dict[str, Any]]:
    chunks = told(Operation.CHAT, answer)[:-2]
    return [said["delta"] for chunk in chunks for said in chunk["choices"] if said["index"] == choice]


@pytest.mark.parametrize(("operation", "answer"), ALL)
def test_there_and_back_is_the_same_answer(operation: Operation, answer: dict[str, Any]) -> None:
    """The stream of an answer is joined to that answer, to the last null."""
    stream = as_stream(operation, orjson.dumps(answer), include_usage=True)
    assert stream is not None
    back = as_answer(operation, stream)
    assert back is not None
    assert orjson.loads(back) == answer


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # of Mistral's content, a list, which the SDK carries
@pytest.mark.parametrize("name", [name for name in CHATS if name not in BEYOND_OPENAI])
def test_openais_sdk_folds_the_stream_into_the_answer(name: str) -> None:
    """Choices, parallel calls, reasoning, logprobs, refusals, annotations, audio, usage: its readers see the same of
    both.
    """
    chunks = told(Operation.CHAT, CHATS[name])
    assert folded_chat(chunks[:-1]) == read_chat(CHATS[name])


@pytest.mark.parametrize("name", MESSAGES)
def test_anthropics_sdk_folds_the_stream_into_the_answer(name: str) -> None:
    """Text, thinking and its signature, calls, citations, searches, stop sequences, containers, usage: its readers see
    the same of both.
    """
    assert folded_message(told(Operation.MESSAGES, MESSAGES[name])) == read_message(MESSAGES[name])


def test_a_chat_stream_looks_as_openai_writes_it() -> None:
    """Role first, text in pieces of a few dozen characters, the finish reason in a delta of its own, usage in a chunk
    of its own, null before, and the end marker.
    """
    answer = chat(OPENAI, system_fingerprint="fp", service_tier="default", citations=["u"])
    *chunks, usage, end = told(Operation.CHAT, answer)
    assert end is None
    shared = {name: answer[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    shared["object"] = "chat.completion.chunk"
    assert usage == {**shared, "choices": [], "usage": answer["usage"]}
    opening = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
    choice = {"index": 0, "delta": opening, "logprobs": None, "finish_reason": None}
    assert chunks[0] == {**shared, "citations": ["u"], "choices": [choice], "usage": None}
    texts = [chunk["choices"][0]["delta"].pop("content") for chunk in chunks[1:-1]]
    assert "".join(texts) == LONG
    assert len(texts) > 3
    assert all(32 <= len(text) <= 64 for text in texts[:-1])
    choice["delta"] = {}
    assert chunks[1:-1] == [{**shared, "choices": [choice], "usage": None}] * len(texts)
    assert chunks[-1] == {**shared, "choices": [{**choice, "finish_reason": "stop"}], "usage": None}


@pytest.mark.parametrize(
    ("operation", "answer"), [(Operation.CHAT, chat(OPENAI, OPENAI)), (Operation.COMPLETIONS, completion(TEXT))]
)
def test_usage_is_told_to_those_who_ask(operation: Operation, answer: dict[str, Any]) -> None:
    """Without `include_usage` no chunk has a word of it, and the stream is the one with it, without it."""
    counted = tell(operation, orjson.dumps(answer), include_usage=True)
    plain = tell(operation, orjson.dumps(answer), include_usage=False)
    assert has_usage(counted)
    assert not has_usage(plain)
    assert b"usage" not in plain
    assert without_usage(counted) == plain
    assert as_answer(operation, plain) is None


def test_an_answer_without_usage_is_told_to_those_who_do_not_ask() -> None:
    """No usage is no reason not to tell the text; it is one not to tell the usage."""
    answer = orjson.dumps({**chat(OPENAI), "usage": None})
    assert as_stream(Operation.CHAT, answer, include_usage=True) is None
    stream = as_stream(Operation.CHAT, answer, include_usage=False)
    assert stream is not None
    assert stream.endswith(b"data: [DONE]\n\n")


def test_calls_come_with_an_index_and_their_arguments_in_pieces() -> None:
    """Id, type and name once, arguments empty at first: what is appended piece by piece is what was called."""
    parts = [delta["tool_calls"][0] for delta in deltas(CHATS["parallel tool calls"]) if "tool_calls" in delta]
    for index, given in groupby(parts, key=lambda part: part["index"]):
        opening, *pieces = given
        expected = CALLS[index]
        assert opening == {"index": index, **expected, "function": {**expected["function"], "arguments": ""}}
        assert all(piece.keys() == {"index", "function"} for piece in pieces)
        assert all(piece["function"].keys() == {"arguments"} for piece in pieces)
        assert "".join(piece["function"]["arguments"] for piece in pieces) == expected["function"]["arguments"]


def test_logprobs_stay_beside_their_text() -> None:
    """A content with logprobs comes in one delta with all of them: cut, they would belong to other words."""
    answer = CHATS["logprobs"]
    choices = [chunk["choices"][0] for chunk in told(Operation.CHAT, answer)[:-2]]
    (marked,) = [choice for choice in choices if choice["logprobs"]]
    assert marked["delta"] == {"content": LONG}
    assert marked["logprobs"] == answer["choices"][0]["logprobs"]


def test_reasoning_comes_before_the_answer() -> None:
    """A reader sees thoughts as thoughts, in pieces, before the first word of the answer."""
    kinds = [name for delta in deltas(CHATS["reasoning_content"]) for name in delta]
    assert [name for name, _ in groupby(kinds)] == ["role", "content", "reasoning_content", "content"]
    assert kinds.count("reasoning_content") > 3


def test_a_message_stream_looks_as_anthropic_writes_it() -> None:
    """Event names are types; `message_start` knows the input and not the end; blocks open, tell, close; the end comes
    with the whole usage.
    """
    answer = message({**TEXT, "citations": CITATIONS}, tool_use("a", INPUT), stop_sequence="x", stop_details=None)
    stream = tell(Operation.MESSAGES, orjson.dumps(answer), include_usage=False)
    found = events(stream)
    names = [line[7:].decode() for line in stream.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"] for event in found]
    assert [name for name, _ in groupby(names)] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_stop") * 2,
        "message_delta",
        "message_stop",
    ]
    start = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    assert found[0] == {"type": "message_start", "message": {**start, "usage": {**answer["usage"], "output_tokens": 1}}}
    assert found[1]["content_block"] == {"type": "text", "text": "", "citations": []}
    kinds = [event["delta"]["type"] for event in found if event["type"] == "content_block_delta"]
    assert [kind for kind, _ in groupby(kinds)] == ["citations_delta", "text_delta", "input_json_delta"]
    assert kinds.count("text_delta") > 3
    assert kinds.count("input_json_delta") > 3
    counted = {name: value for name, value in answer["usage"].items() if value is not None}
    assert found[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": "x", "stop_details": None},
        "usage": counted,
    }
    assert found[-1] == {"type": "message_stop"}


INDEXED = {**CALLS[0], "index": 0}
CHOICE = chat(OPENAI)["choices"][0]
BIG = b'{"n": 123456789012345678901234}'
REFUSED: list[tuple[str, Operation, Any]] = [
    ("not JSON", Operation.CHAT, b"{"),
    ("not an object", Operation.CHAT, []),
    ("not an answer", Operation.CHAT, {"error": {"message": "no"}}),
    ("not an answer", Operation.CHAT, {**chat(OPENAI), "error": {"message": "no"}}),
    ("not an answer", Operation.CHAT, chat()),
    ("not an answer", Operation.CHAT, message(TEXT)),
    ("no usage", Operation.CHAT, {**chat(OPENAI), "usage": {}}),
    ("usage is no object", Operation.CHAT, {**chat(OPENAI), "usage": 5}),
    ("padding", Operation.CHAT, {**chat(OPENAI), "obfuscation": "x"}),
    ("another kind", Operation.CHAT, {**chat(OPENAI), "object": "chat.completion.chunk"}),
    ("every chunk", Operation.CHAT, {**chat(OPENAI), "id": "x" * 3000}),
    ("not in order", Operation.CHAT, {**chat(OPENAI), "choices": [{**CHOICE, "index": 1}]}),
    ("not in order", Operation.CHAT, {**chat(OPENAI), "choices": [{**CHOICE, "index": False}]}),
    ("not finished", Operation.CHAT, {**chat(OPENAI), "choices": [{**CHOICE, "finish_reason": None}]}),
    ("no object", Operation.CHAT, {**chat(OPENAI), "choices": [{**CHOICE, "logprobs": []}]}),
    ("and a delta", Operation.CHAT, {**chat(OPENAI), "choices": [{**CHOICE, "delta": {}}]}),
    ("not a message", Operation.CHAT, {**chat(OPENAI), "choices": [{**CHOICE, "message": {"content": "x"}}]}),
    ("no text", Operation.CHAT, chat({"content": {"title": "x"}})),
    ("an index", Operation.CHAT, chat({"content": None, "tool_calls": [INDEXED]})),
    ("no list", Operation.CHAT, chat({"content": None, "tool_calls": {"a": 1}})),
    ("no text", Operation.CHAT, chat({"content": None, "tool_calls": [{"function": {"arguments": {"a": 1}}}]})),
    ("index twice", Operation.CHAT, chat({"content": None, "reasoning_details": [{"index": 0, "text": "a"}] * 2})),
    ("comes more than once", Operation.CHAT, chat({"content": None, "reasoning_details": [DETAILS[1]] * 2})),
    ("have no index", Operation.CHAT, chat({"content": None, "reasoning_details": [DETAILS[0], {"text": "x"}]})),
    ("more digits", Operation.CHAT, orjson.dumps(chat(OPENAI, x=1)).replace(b'"x":1', b'"x":' + BIG)),
    ("no text", Operation.COMPLETIONS, completion({"text": 5})),
    ("no text", Operation.COMPLETIONS, completion({})),
    ("another kind", Operation.COMPLETIONS, {**completion(TEXT), "object": "text.completion"}),
    ("not a message", Operation.MESSAGES, chat(OPENAI)),
    ("not a message", Operation.MESSAGES, {"type": "error", "error": {}}),
    ("not finished", Operation.MESSAGES, message(TEXT, stop_reason=None)),
    ("no usage", Operation.MESSAGES, message(TEXT, usage={"input_tokens": 1})),
    ("no known kind", Operation.MESSAGES, message({"type": "fallback", "to": {"model": "other"}})),
    ("no known kind", Operation.MESSAGES, message({"text": "x"})),
    ("without text", Operation.MESSAGES, message({"type": "text"})),
    ("without thinking", Operation.MESSAGES, message({"type": "thinking", "thinking": "x", "signature": 5})),
    ("no object", Operation.MESSAGES, message(tool_use("a", [1]))),
    (
        "more digits",
        Operation.MESSAGES,
        orjson.dumps(message(tool_use("a", 5))).replace(b'"input":5', b'"input":' + BIG),
    ),
    ("not streamed", Operation.EMBEDDINGS, {"data": []}),
    ("not streamed", Operation.COUNT_TOKENS, {"input_tokens": 1}),
]


@pytest.mark.parametrize(
    ("why", "operation", "answer"), REFUSED, ids=[f"{row[0]} {n}" for n, row in enumerate(REFUSED)]
)
def test_what_no_stream_can_tell_is_not_told(why: str, operation: Operation, answer: Any) -> None:
    """An answer that would come out as another one is refused, with the reason."""
    data = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    with pytest.raises(Inexact, match=why):
        tell(operation, data, include_usage=True)
    assert as_stream(operation, data, include_usage=True) is None


@pytest.mark.parametrize("depth", [254, 500, 1000, 5000])
@pytest.mark.parametrize("operation", [Operation.CHAT, Operation.MESSAGES])
def test_what_is_nested_deeper_than_json_is_written_is_not_told(operation: Operation, depth: int) -> None:
    """A tower of brackets is refused, not a crash; neither as an answer nor inside a stream."""
    answer = orjson.dumps(chat(OPENAI, x=1) if operation is Operation.CHAT else message(TEXT, x=1))
    deep = answer.replace(b'"x":1', b'"x":' + b"[" * depth + b"]" * depth)
    assert as_stream(operation, deep, include_usage=True) is None
    stream = tell(operation, answer, include_usage=True)
    told = stream.replace(b'"x":1', b'"x":' + b"[" * depth + b"]" * depth)
    assert told != stream
    assert as_answer(operation, told) is None


def test_a_long_answer_takes_its_time_once() -> None:
    """Two hundred kilobytes of text and as many of marks are told and joined before anything here runs out of time."""
    marks = {"content": [mark("x")] * 3_000, "refusal": None}
    answer = orjson.dumps(chat({"content": LONG * 800}, {"content": LONG, "choice": {"logprobs": marks}}))
    stream = as_stream(Operation.CHAT, answer, include_usage=True)
    assert stream is not None
    back = as_answer(Operation.CHAT, stream)
    assert back is not None
    assert orjson.loads(back) == orjson.loads(answer)
