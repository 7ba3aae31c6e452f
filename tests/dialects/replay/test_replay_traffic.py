"""Recorded answers and streams of real providers: what can be told in the other form is told exactly, and that is most.

Rule: what is refused is counted by its reason; a new reason, or many more of an old one, fails here.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from runestone.core.call import Operation
from runestone.dialects.replay.exact import Inexact
from runestone.dialects.replay.stream import as_stream, tell
from runestone.dialects.replay.whole import as_answer, has_usage, join, without_usage
from tests.dialects.replay.judges import events, folded_chat, folded_message, read_chat, read_message, written

FOLDER = Path(os.environ.get("RUNESTONE_TRAFFIC") or Path(__file__).resolve().parents[4] / "shared" / "traffic")
FILE = FOLDER / "real_traffic.jsonl.gz"
Exchange = tuple[Operation, bool, str, bytes]
OPERATIONS = {"chat": Operation.CHAT, "completions": Operation.COMPLETIONS, "messages": Operation.MESSAGES}

pytestmark = [
    pytest.mark.skipif(not FILE.is_file(), reason="the recorded traffic is not beside the checkout"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer"),  # Mistral's content is a list; the SDK carries it
]


@pytest.fixture(scope="module")
def traffic() -> list[Exchange]:
    """(operation, whether it is a stream, id, body) of what was answered."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [
            (OPERATIONS[exchange["api"]], exchange["stream"], exchange["id"], exchange["resp"].encode())
            for exchange in map(json.loads, lines)
            if exchange["api"] in OPERATIONS and exchange["status"] == 200
        ]


def recorded(traffic: list[Exchange], wanted: Operation, *, stream: bool) -> Iterator[tuple[str, bytes]]:
    for operation, is_stream, name, body in traffic:
        if operation is wanted and is_stream is stream:
            yield name, body


def say(line: str) -> None:
    print(f"\n{line}")  # noqa: T201 - how much was checked is what `pytest -s` is asked for here


def assert_sdk_agrees(operation: Operation, told: list[Any], answer: dict[str, Any], name: str) -> None:
    """The stream, folded by the vendor's SDK, is the answer, as far as the SDK folds it."""
    if operation is Operation.MESSAGES:
        assert folded_message(told) == read_message(answer), name
    elif operation is Operation.CHAT:
        chunks = [chunk for chunk in told if chunk is not None]
        if any("index" not in call for chunk in chunks for call in calls(chunk)):
            return  # Mistral's old streams, whole calls without an index: the SDK raises
        assert folded_by_openai(folded_chat(chunks)) == folded_by_openai(read_chat(answer)), name


def calls(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for choice in chunk["choices"]:
        yield from (choice.get("delta") or {}).get("tool_calls") or []


def folded_by_openai(answer: dict[str, Any]) -> Any:
    """What OpenAI's SDK joins. All else it takes from the first chunk, in which some servers know nothing yet; a role
    on every delta it adds up; and details of reasoning it tells apart by their index alone.
    """
    choices = []
    for choice in answer["choices"]:
        kept = {name: value for name, value in choice["message"].items() if name not in ("role", "reasoning_details")}
        logprobs = choice.get("logprobs", {})
        marks = [logprobs.get("content"), logprobs.get("refusal")]
        choices.append((choice["index"], choice.get("finish_reason"), marks, kept))
    return choices, answer["usage"]


WHOLE: dict[Operation, tuple[int, dict[str, int]]] = {
    Operation.CHAT: (
        830,
        {
            "a tool call has an index": 100,
            "a message and a delta": 5,  # Perplexity
            "no usage": 2,
            "not an answer": 2,
        },
    ),
    Operation.COMPLETIONS: (22, {"an object of another kind": 3}),
    Operation.MESSAGES: (445, {}),
}


@pytest.mark.parametrize("operation", WHOLE)
def test_every_recorded_answer_comes_back(traffic: list[Exchange], operation: Operation) -> None:
    """Told as a stream and joined again, it is the same JSON; of every fourth the SDK says so too."""
    refused: Counter[str] = Counter()
    told = 0
    for name, answer in recorded(traffic, operation, stream=False):
        try:
            stream = tell(operation, answer, include_usage=True)
        except Inexact as why:
            refused[str(why)] += 1
            continue
        back = as_answer(operation, stream)
        assert back is not None, name
        assert written(back) == written(answer), name
        if operation is not Operation.MESSAGES:
            assert has_usage(stream)
            assert without_usage(stream) == as_stream(operation, answer, include_usage=False), name
        if told % 4 == 0:  # its fold is quadratic
            assert_sdk_agrees(operation, events(stream), orjson.loads(answer), name)
        told += 1
    say(f"{operation.name} answers: told {told}, refused {dict(refused)}")
    least, allowed = WHOLE[operation]
    assert told >= least
    assert all(count <= allowed.get(why, 0) for why, count in refused.items()), refused


STREAMS: dict[Operation, tuple[int, dict[str, int]]] = {
    Operation.CHAT: (
        285,
        {
            "no usage": 60,
            "no end marker": 8,
            "a message in a chunk": 6,  # Perplexity
            "channel comes more than once": 5,  # Groq's gpt-oss: which of the model's channels a piece is from
            "id changes": 4,
            "items of reasoning_details have no index": 2,
            "name comes more than once": 2,
        },
    ),
    Operation.COMPLETIONS: (1, {"no usage": 8, "a chunk without choices": 2}),
    Operation.MESSAGES: (175, {}),
}


@pytest.mark.parametrize("operation", STREAMS)
def test_every_recorded_stream_is_what_the_sdk_makes_of_it(traffic: list[Exchange], operation: Operation) -> None:
    """Joined, it is what the vendor's SDK folds its events into; and told again and joined again it stays that."""
    refused: Counter[str] = Counter()
    joined = 0
    for name, stream in recorded(traffic, operation, stream=True):
        try:
            answer = join(operation, stream)
        except Inexact as why:
            refused[str(why)] += 1
            continue
        again = as_stream(operation, answer, include_usage=True)
        back = as_answer(operation, again) if again is not None else None
        assert back is not None, name
        assert written(back) == written(answer), name
        assert_sdk_agrees(operation, events(stream), orjson.loads(answer), name)
        joined += 1
    say(f"{operation.name} streams: joined {joined}, refused {dict(refused)}")
    least, allowed = STREAMS[operation]
    assert joined >= least
    assert all(count <= allowed.get(why, 0) for why, count in refused.items()), refused
