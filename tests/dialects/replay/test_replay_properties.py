"""For any answer: it is told and comes back the same, or it is refused. For any bytes: nothing is raised."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.core.call import Operation
from runestone.dialects.replay.exact import cut
from runestone.dialects.replay.stream import as_stream
from runestone.dialects.replay.whole import as_answer, has_usage, without_usage
from runestone.dialects.sse import encode
from tests.dialects.replay.answers import CHATS, COMPLETIONS, MESSAGES, chat, completion, message, tool_use
from tests.dialects.replay.judges import events, written

OPENAI = (Operation.CHAT, Operation.COMPLETIONS)
SEEDS = [
    (operation, orjson.dumps(answer))
    for operation, table in (
        (Operation.CHAT, CHATS),
        (Operation.COMPLETIONS, COMPLETIONS),
        (Operation.MESSAGES, MESSAGES),
    )
    for answer in table.values()
]
STREAMS = [
    (operation, stream)
    for operation, answer in SEEDS
    if (stream := as_stream(operation, answer, include_usage=True)) is not None
]
# Every member that means something here, so that values are found in wrong places too.
NAMES = sorted({word for _, answer in SEEDS for word in answer.decode().split('"')[1::2] if word.isidentifier()})
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2.5,
    "",
    "a",
    [],
    {},
    [[]],
    ["a"],
    [{"index": 0}],
    {"a": None},
    {"index": 1},
]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=90)
NULLABLE = st.none() | TEXT
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
UNKNOWN = st.dictionaries(st.sampled_from(["colour", "mood", "weight", "x_groq", "audio"]), JSON, max_size=3)


def members(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these members, each of which may be missing."""
    return st.fixed_dictionaries({}, optional=values)


FUNCTION = members(name=TEXT, arguments=TEXT)
CALL = members(id=TEXT, type=st.just("function"), function=FUNCTION, extra_content=JSON)
MARKS = members(content=st.none() | st.lists(JSON, max_size=3), refusal=st.none() | st.lists(JSON, max_size=3))
BESIDE = members(logprobs=st.none() | MARKS, stop_reason=JSON, finish_reason=st.sampled_from(["stop", "length"]))
DETAILS = st.lists(
    members(text=NULLABLE, summary=TEXT, signature=NULLABLE, data=TEXT, id=TEXT).map(
        lambda item: {"type": "t", **item}
    ),
    max_size=3,
).map(lambda items: [{**item, "index": index} for index, item in enumerate(items)])
MESSAGE = st.builds(
    lambda *parts: {name: value for part in parts for name, value in part.items()},
    members(
        content=NULLABLE,
        refusal=NULLABLE,
        reasoning=NULLABLE,
        reasoning_content=NULLABLE,
        annotations=st.none() | st.lists(OBJECT, max_size=2),
        reasoning_details=st.none() | DETAILS,
        function_call=st.none() | FUNCTION,
        tool_calls=st.none() | st.lists(CALL, max_size=3),
        choice=BESIDE,
    ),
    UNKNOWN,
)
BLOCK = st.one_of(
    members(citations=st.none() | st.lists(OBJECT, max_size=2)).flatmap(
        lambda more: TEXT.map(lambda text: {"type": "text", "text": text, **more})
    ),
    members(signature=NULLABLE).flatmap(
        lambda more: TEXT.map(lambda text: {"type": "thinking", "thinking": text, **more})
    ),
    st.builds(tool_use, TEXT, OBJECT, st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"])),
    UNKNOWN.map(lambda more: {"type": "redacted_thinking", **more}),
)
COUNTS = st.none() | st.integers(0, 2**53) | OBJECT


def assert_comes_back(operation: Operation, answer: dict[str, Any]) -> None:
    stream = as_stream(operation, orjson.dumps(answer), include_usage=True)
    assert stream is not None
    back = as_answer(operation, stream)
    assert back is not None
    assert written(back) == written(orjson.dumps(answer))
    if operation in OPENAI:
        assert has_usage(stream)
        assert without_usage(stream) == as_stream(operation, orjson.dumps(answer), include_usage=False)


@given(st.lists(MESSAGE, min_size=1, max_size=3), UNKNOWN)
@settings(max_examples=100)
def test_any_chat_answer_comes_back(messages: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """Whatever it says, and whatever it does not say."""
    assert_comes_back(Operation.CHAT, {**chat(*messages), **more})


@given(
    st.lists(st.builds(lambda text, more: {"text": text, **more}, NULLABLE, BESIDE), min_size=1, max_size=3), UNKNOWN
)
@settings(max_examples=60)
def test_any_completion_comes_back(choices: list[dict[str, Any]], more: dict[str, Any]) -> None:
    """Whatever it says, and whatever it does not say."""
    assert_comes_back(Operation.COMPLETIONS, {**completion(*choices), **more})


@given(
    st.lists(BLOCK, max_size=4),
    members(stop_sequence=NULLABLE, stop_details=JSON, container=JSON, context_management=JSON, mood=JSON),
    members(input_tokens=COUNTS, cache_read_input_tokens=COUNTS, server_tool_use=COUNTS, iterations=JSON, x=JSON),
    st.integers(0, 2**53),
)
@settings(max_examples=100)
def test_any_message_comes_back(
    content: list[dict[str, Any]], more: dict[str, Any], usage: dict[str, Any], output: int
) -> None:
    """Whatever it says, and whatever it does not say."""
    assert_comes_back(Operation.MESSAGES, message(*content, **more, usage={**usage, "output_tokens": output}))


def broken(value: Any, chance: random.Random) -> Any:
    """The value with something in it changed: another value, another name, one gone, one twice."""
    value = deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        place, key = value, None
        while isinstance(place, dict | list) and place and (key is None or chance.random() < 0.8):
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.2:
                break
            place, key = place[key], None
        if key is None:
            continue
        how = chance.randrange(5)
        if how == 0:
            del place[key]
        elif how == 1 and isinstance(place, dict):
            place[chance.choice(NAMES)] = deepcopy(chance.choice([place[key], chance.choice(ODD)]))
        elif how == 2 and isinstance(place, list):
            place.insert(key, deepcopy(chance.choice([place[key], chance.choice(ODD)])))
        else:
            place[key] = deepcopy(chance.choice(ODD))
    return value


def test_a_broken_answer_comes_back_or_is_refused() -> None:
    """Members of other types, in other places, missing, twice: what is told is told exactly."""
    chance = random.Random(7)
    told = 0
    for round_ in range(2_000):
        operation, seed = SEEDS[round_ % len(SEEDS)]
        answer = orjson.dumps(broken(orjson.loads(seed), chance))
        stream = as_stream(operation, answer, include_usage=True)
        plain = as_stream(operation, answer, include_usage=False)
        if stream is None:
            continue
        told += 1
        back = as_answer(operation, stream)
        assert back is not None, answer
        assert written(back) == written(answer)
        if operation in OPENAI:
            assert without_usage(stream) == plain
    assert told > 1_000


def test_a_broken_stream_is_joined_or_refused() -> None:
    """Events changed, lost, doubled or out of order: where an answer comes of it, that is told and joined exactly."""
    chance = random.Random(8)
    joined = 0
    for round_ in range(2_000):
        operation, seed = STREAMS[round_ % len(STREAMS)]
        parsed = events(seed)
        at = chance.randrange(len(parsed))
        how = chance.randrange(4)
        if how == 0:
            del parsed[at]
        elif how == 1:
            parsed.insert(chance.randrange(len(parsed)), parsed[at])
        else:
            parsed[at] = broken(parsed[at], chance)
        stream = b"".join(encode(b"[DONE]" if data is None else orjson.dumps(data)) for data in parsed)
        has_usage(stream)
        without_usage(stream)
        answer = as_answer(operation, stream)
        if answer is None:
            continue
        joined += 1
        again = as_stream(operation, answer, include_usage=True)
        if again is not None:
            back = as_answer(operation, again)
            assert back is not None, stream
            assert written(back) == written(answer)
    assert joined > 500


@given(st.sampled_from(list(Operation)), st.binary(max_size=60) | JSON.map(orjson.dumps), st.booleans())
@settings(max_examples=100)
def test_any_bytes_are_refused(operation: Operation, data: bytes, include_usage: bool) -> None:
    """No answer, no stream, and no exception."""
    assert as_stream(operation, data, include_usage=include_usage) is None
    assert as_answer(operation, data) is None
    assert as_answer(operation, encode(data.replace(b"\n", b"").replace(b"\r", b""))) is None
    without_usage(data)
    assert not has_usage(data)


@given(TEXT.map(lambda text: text * 7))
def test_a_text_that_is_cut_is_that_text(text: str) -> None:
    """Nothing is lost between two pieces; none is empty, and only the last is short."""
    parts = list(cut(text))
    assert "".join(parts) == text
    assert all(parts)
    assert all(len(part) >= 32 for part in parts[:-1])
