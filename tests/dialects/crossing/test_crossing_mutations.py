"""Valid requests, answers and streams with one value at a time made wrong: a result comes out, or one of our errors.

Rule: what is mutated is whole and valid, so that every wrong value arrives where it is read. The seeds (seeds.py) hold
every field of the tables; where the recorded traffic lies beside the checkout, each shape in it is mutated too.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import pytest

from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.dialects.body import parse_object
from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS, Table
from runestone.dialects.dialect import Passage
from runestone.dialects.passage import DIALECTS, Traits, client_dialect, counted_here, passage
from runestone.dialects.relay import AnthropicRelay, OpenAIRelay
from runestone.errors import BadRequest, ProviderFailed, StreamBroken
from tests.dialects.crossing.seeds import (
    CHAT_ANSWERS,
    CHAT_REQUESTS,
    CHAT_STREAM,
    ERRORS,
    FUNCTION_STREAM,
    MESSAGES_ANSWERS,
    MESSAGES_REQUESTS,
    MESSAGES_STREAM,
    OTHER_ANSWERS,
    OTHER_REQUESTS,
    REFUSALS,
)

FOLDER = Path(os.environ.get("RUNESTONE_TRAFFIC") or Path(__file__).resolve().parents[4] / "shared" / "traffic")
FILE = FOLDER / "real_traffic.jsonl.gz"
LARGEST = 20_000
"""Characters of a recorded body that is mutated."""

DEEPEST = 8
"""Steps to a place in a recorded body; further in are schemas, one like the other."""

Key = tuple[str | int, ...]

WRONG: list[Any] = [
    None,
    True,
    5,
    -5,
    1.5,
    "",
    "x",
    [],
    [[]],
    {},
    {"a": []},
    {"type": []},
    2**64,
]
NESTED = "[" * 200 + "]" * 200
"""Within what is read of a request."""
TOO_DEEP = "[" * 900 + "]" * 900
"""What is read of an answer, but not written."""
MARK = "@@mutated@@"

# -- mutations


def places(value: Any, at: Key = ()) -> Iterator[Key]:
    """The keys of everything in `value`, itself left out."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*at, key)
        yield from places(item, (*at, key))


def put(value: Any, key: Key, new: Any) -> Any:
    """`value` with another value at `key`; nothing else is copied."""
    if not key:
        return new
    copy = value.copy()
    copy[key[0]] = put(value[key[0]], key[1:], new)
    return copy


def drop(value: Any, key: Key) -> Any:
    """`value` without what stands at `key`."""
    copy = value.copy()
    if len(key) == 1:
        del copy[key[0]]
    else:
        copy[key[0]] = drop(value[key[0]], key[1:])
    return copy


def mutated(seed: Any, keys: Iterator[Key], deep: str) -> Iterator[tuple[str, str]]:
    """What was done to `seed`, and the JSON that came of it."""
    for key in keys:
        yield f"no {key}", json.dumps(drop(seed, key))
        text = json.dumps(put(seed, key, MARK))
        for wrong in WRONG:
            yield f"{key} = {wrong!r}", text.replace(f'"{MARK}"', json.dumps(wrong))
        for name, nested in (("nested", deep), ("a text of something nested", json.dumps('{"a": ' + TOO_DEEP + "}"))):
            yield f"{key} = {name}", text.replace(f'"{MARK}"', nested)


def new_shapes(seeds: Iterator[Any]) -> Iterator[tuple[Any, Iterator[Key]]]:
    """Each seed with those of its places whose like (indices do not count) no earlier one has."""
    seen: set[Key] = set()
    for seed in seeds:
        fresh = []
        for key in places(seed):
            like = (*("[]" if isinstance(step, int) else step for step in key), shape_of(seed, key))
            if like not in seen and len(key) <= DEEPEST:
                seen.add(like)
                fresh.append(key)
        if fresh:
            yield seed, iter(fresh)


def shape_of(seed: Any, key: Key) -> str:
    """The type of the object a place is in, which says how it is read."""
    for step in key[:-1]:
        seed = seed[step]
    kind = seed.get("type") or seed.get("role") if isinstance(seed, dict) else None
    return str(kind)[:40]


def recorded(api: str, part: str, *, stream: bool) -> Iterator[Any]:
    """Recorded bodies: parsed requests, answers, or the list of a stream's events."""
    if not FILE.is_file():
        return
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        for line in lines:
            exchange = json.loads(line)
            text = exchange[part]
            if exchange["api"] != api or exchange["stream"] is not stream or not text or exchange["status"] != 200:
                continue
            try:
                if isinstance(text, str) and len(text) > LARGEST:
                    continue
                if stream and part == "resp":
                    found = [event[5:].strip() for event in text.split("\n") if event.startswith("data:")]
                    yield [json.loads(event) for event in found if event != "[DONE]"]
                else:
                    value = json.loads(text) if isinstance(text, str) else text
                    if isinstance(value, dict) and len(json.dumps(value)) <= LARGEST:
                        yield value
            except json.JSONDecodeError:
                continue  # some recordings kept a part of the body


# -- outcomes

ALL = frozenset(operation.value for operation in Operation)
TARGETS = [
    Traits(dialect="anthropic", operations=ALL),
    Traits(dialect="openai", operations=ALL, reasoning_field="reasoning_content"),
]


CLAUDES = [("claude-sonnet-4-5", TARGETS[0]), ("claude-opus-4-7", TARGETS[0])]
"""One that knows a thinking budget only, and one that takes an effort."""


def call(operation: Operation, body: bytes) -> Call:
    fields = parse_object(body)
    client_dialect(operation).check(operation, fields)
    return Call(
        "id", operation, body, fields, "m", stream=False, caller=ANONYMOUS, headers={}, credential=None, started=0
    )


def request_outcome(operation: Operation, body: bytes) -> str:
    """The word crossed, or what was refused: its param, or the body as such. Anything else raises."""
    try:
        asked = call(operation, body)
        crossings = CLAUDES if operation is Operation.CHAT else [("m", TARGETS[1])]
        for model, traits in crossings:
            orjson.loads(passage(asked, model, traits, "up", 0).request())
        if operation is Operation.MESSAGES:
            counted_here(call(Operation.COUNT_TOKENS, body), TARGETS[1])
    except BadRequest as error:
        return error.param or ("the body" if error.message.startswith("the body") else "")
    return "crossed"


ASKED = {
    operation: call(operation, b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}')
    for operation in (Operation.CHAT, Operation.MESSAGES)
}


def passages(api: str) -> Iterator[Callable[[], Passage]]:
    """The crossing and the relay that read answers of an API."""
    traits = TARGETS[0] if api == "messages" else TARGETS[1]
    for asked in ASKED.values():
        yield lambda asked=asked: passage(asked, "m", traits, "up", 0)  # type: ignore[misc]


def summary_is_sound(given: Passage) -> bool:
    summary = given.summary
    texts = (summary.response_id, summary.model, summary.finish_reason)
    counts = (summary.input_tokens, summary.output_tokens, summary.cached_tokens, summary.cache_write_tokens)
    return all(text is None or (type(text) is str and text) for text in texts) and all(
        count is None or (type(count) is int and 0 <= count < 2**55) for count in (*counts, summary.reasoning_tokens)
    )


def read_answer(api: str, body: bytes) -> None:
    for make in passages(api):
        given = make()
        try:
            orjson.loads(given.answer(body))
        except ProviderFailed as error:
            DIALECTS["openai"].error(error, "r")
            DIALECTS["anthropic"].error(error, "r")
        assert summary_is_sound(given)


def read_stream(api: str, events: list[str], *, whole: bool = False) -> None:
    end = "" if api == "messages" else "data: [DONE]\n\n"
    data = "".join(f"data: {event}\n\n" for event in events) + end
    for make in passages(api):
        given = make()
        try:
            out = given.feed(data.encode())
            assert not out or out.endswith(b"\n\n")
            if given.failure is not None:
                raise given.failure
            given.finish()
        except (ProviderFailed, StreamBroken) as error:
            if whole:
                raise AssertionError from error
            DIALECTS["openai"].error_event(error, "r")
            DIALECTS["anthropic"].error_event(error, "r")
        assert summary_is_sound(given)


# -- what is written here


@pytest.mark.parametrize(("table", "seeds"), [(CHAT_FIELDS, CHAT_REQUESTS), (MESSAGES_FIELDS, MESSAGES_REQUESTS)])
def test_the_seeds_hold_every_field(table: Table, seeds: list[dict[str, Any]]) -> None:
    """Every row that is not refused outright stands in a request below, so that its value is mutated."""
    text = json.dumps(seeds)
    for name, field in table.items():
        if field.fate == "refused" and not field.harmless:
            continue
        last = name.rpartition(".")[2]
        kind = last.removeprefix("content[").removesuffix("]") if last.startswith("content[") else None
        assert (f'"type": "{kind}"' if kind else f'"{last}": ') in text or last == "include_reasoning", name


BASES = {Operation.CHAT: CHAT_REQUESTS[0], Operation.MESSAGES: MESSAGES_REQUESTS[0]}
SEEDS = [(Operation.CHAT, seed) for seed in CHAT_REQUESTS] + [(Operation.MESSAGES, seed) for seed in MESSAGES_REQUESTS]


@pytest.mark.parametrize(("operation", "seed"), SEEDS)
def test_a_request_with_one_wrong_value_crosses_or_is_refused(operation: Operation, seed: dict[str, Any]) -> None:
    """A client's mistake is a 400 with a param, never our own fault."""
    assert request_outcome(operation, json.dumps(seed).encode()) == "crossed"
    refused: set[str] = set()
    base = BASES[operation]
    own = (key for key in places(seed) if seed is base or seed[key[0]] != base.get(key[0]))
    for what, body in mutated(seed, own, NESTED):
        try:
            refused.add(request_outcome(operation, body.encode()))
        except Exception as error:
            raise AssertionError(what) from error
    assert len(refused) > (30 if seed is base else 1)
    assert "" not in refused, "a refusal names its param"


@pytest.mark.parametrize(
    ("api", "seed"),
    [("chat", seed) for seed in (*CHAT_ANSWERS, *ERRORS)]
    + [("messages", seed) for seed in (*MESSAGES_ANSWERS, *ERRORS)],
)
def test_an_answer_with_one_wrong_value_crosses_or_is_the_providers_failure(api: str, seed: dict[str, Any]) -> None:
    """A provider's nonsense is a 502."""
    for what, body in mutated(seed, places(seed), TOO_DEEP):
        try:
            read_answer(api, body.encode())
        except Exception as error:
            raise AssertionError(what) from error


@pytest.mark.parametrize(
    ("api", "seed"),
    [
        ("messages", MESSAGES_STREAM),
        ("chat", CHAT_STREAM),
        ("chat", FUNCTION_STREAM),
        *((api, [first, error]) for api in ("chat", "messages") for error in ERRORS for first in (MESSAGES_STREAM[0],)),
    ],
)
def test_a_stream_with_one_wrong_value_crosses_or_fails(api: str, seed: list[Any]) -> None:
    """A provider's nonsense is a failure of the stream."""
    if seed in (MESSAGES_STREAM, CHAT_STREAM, FUNCTION_STREAM):
        read_stream(api, [json.dumps(event) for event in seed], whole=True)
    stream_mutations(api, seed, places(seed))


@pytest.mark.parametrize(("operation", "seed"), OTHER_REQUESTS)
def test_other_requests_with_one_wrong_value(operation: str, seed: dict[str, Any]) -> None:
    """What is only relayed is checked, and sent or refused."""
    for what, body in mutated(seed, places(seed), NESTED):
        try:
            passage(call(Operation(operation), body.encode()), "m", TARGETS[1], "up", 0).request()
        except BadRequest:
            continue
        except Exception as error:
            raise AssertionError(what) from error


@pytest.mark.parametrize(("operation", "seed"), OTHER_ANSWERS)
def test_other_answers_with_one_wrong_value(operation: str, seed: dict[str, Any]) -> None:
    """What is only relayed is looked at for the record, or is the provider's failure."""
    dialect = client_dialect(Operation(operation))
    relay = AnthropicRelay if dialect.name == "anthropic" else partial(OpenAIRelay, ends_with_done=True)
    for what, body in mutated(seed, places(seed), TOO_DEEP):
        given = relay(dialect, Operation(operation), b"")
        try:
            given.answer(body.encode())
        except ProviderFailed:
            continue
        except Exception as error:
            raise AssertionError(what) from error
        assert summary_is_sound(given), what


@pytest.mark.parametrize("seed", REFUSALS)
def test_a_refusal_with_one_wrong_value_is_a_refusal(seed: dict[str, Any]) -> None:
    """However a provider writes its error, the client reads one."""
    for _, body in mutated(seed, places(seed), TOO_DEEP):
        for dialect in DIALECTS.values():
            refusal = dialect.read_error(429, body.encode())
            assert refusal.message
            assert orjson.loads(dialect.error(refusal, "r"))


def stream_mutations(api: str, seed: list[Any], keys: Iterator[Key]) -> None:
    texts = [json.dumps(event) for event in seed]
    for key in keys:
        at = key[0]
        assert isinstance(at, int)
        if len(key) == 1:
            for event in (*map(json.dumps, WRONG), TOO_DEEP):
                read_stream(api, [*texts[:at], event, *texts[at + 1 :]])
            continue
        for what, event in mutated(seed[at], iter([key[1:]]), TOO_DEEP):
            try:
                read_stream(api, [*texts[:at], event, *texts[at + 1 :]])
            except Exception as error:
                raise AssertionError(f"event {at}: {what}") from error


# -- what was recorded

with_traffic = pytest.mark.skipif(not FILE.is_file(), reason="the recorded traffic is not beside the checkout")


@with_traffic
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_recorded_requests_with_one_wrong_value(api: str) -> None:
    """Each place of the requests real clients sent, once."""
    operation = Operation.CHAT if api == "chat" else Operation.MESSAGES
    seeds = chain(recorded(api, "req", stream=False), recorded(api, "req", stream=True))
    checked = 0
    for seed, keys in new_shapes(
        seed for seed in seeds if request_outcome(operation, json.dumps(seed).encode()) == "crossed"
    ):
        for what, body in mutated(seed, keys, NESTED):
            try:
                request_outcome(operation, body.encode())
            except Exception as error:
                raise AssertionError(what) from error
            checked += 1
    assert checked > 500


@with_traffic
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_recorded_answers_with_one_wrong_value(api: str) -> None:
    """Each place of the answers providers gave, once."""
    checked = 0
    for seed, keys in new_shapes(recorded(api, "resp", stream=False)):
        for what, body in mutated(seed, keys, TOO_DEEP):
            try:
                read_answer(api, body.encode())
            except Exception as error:
                raise AssertionError(what) from error
            checked += 1
    assert checked > 500


@with_traffic
@pytest.mark.parametrize("api", ["chat", "messages"])
def test_recorded_streams_with_one_wrong_value(api: str) -> None:
    """Each place of the streams providers gave, once."""
    for seed, keys in new_shapes(seed[:40] for seed in recorded(api, "resp", stream=True)):
        stream_mutations(api, seed, keys)
