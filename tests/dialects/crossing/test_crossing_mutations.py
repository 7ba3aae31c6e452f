"""Valid requests, answers and streams with one value at a time made wrong: the outcome is a result or one of our errors.

Rule: what is mutated is whole and valid, so that every wrong value arrives where it is read. The seeds written here hold
every field of the tables; where the recorded traffic lies beside the checkout, each shape in it is mutated too.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
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
from runestone.errors import BadRequest, ProviderFailed, StreamBroken

FOLDER = Path(os.environ.get("RUNESTONE_TRAFFIC") or Path(__file__).resolve().parents[4] / "shared" / "traffic")
FILE = FOLDER / "real_traffic.jsonl.gz"
LARGEST = 20_000
"""Characters of a recorded body that is mutated."""

Key = tuple[str | int, ...]

WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    5,
    -5,
    1.5,
    "",
    "x",
    [],
    [[]],
    ["x"],
    {},
    {"a": []},
    {"type": []},
    2**53,
    2**64 - 1,
    2**64,
]
NESTED = "[" * 200 + "]" * 200
"""Within what is read of a request."""
TOO_DEEP = "[" * 900 + "]" * 900
"""What is read of an answer, but not written."""
MARK = "@@mutated@@"

TOOL_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/c"}]}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"c": {"type": "array", "items": {"enum": [1, "x"]}}},
}
PNG = "data:image/png;base64,aGk="
CACHE = {"type": "ephemeral"}
CALL = {"id": "c.1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def harmless(table: Table, at: str) -> dict[str, Any]:
    """The refused fields of a place, with values that pass."""
    found = {}
    for name, field in table.items():
        place, _, last = name.rpartition(".")
        if place == at and field.harmless:
            found[last] = field.harmless[0]
    return found


CHAT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "max_tokens": 4000,
    "max_completion_tokens": 5000,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "stop": ["END"],
    "tools": [
        {
            "type": "function",
            "function": {"name": "add", "description": "adds", "parameters": TOOL_SCHEMA, "strict": True},
            "cache_control": CACHE,
        },
        {"type": "function", "function": {"name": "now"}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "add"}},
    "parallel_tool_calls": False,
    "reasoning_effort": "high",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"schema": TOOL_SCHEMA, "name": "n", "description": "d", "strict": True},
    },
    "user": "u",
    "safety_identifier": "s",
    "service_tier": "default",
    "seed": 1,
    "random_seed": 1,
    "metadata": {"a": "b"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"a": 1},
    "usage": {"include": True},
    **harmless(CHAT_FIELDS, ""),
    "messages": [
        {"role": "system", "content": "be", "name": "n", "cache_control": CACHE},
        {"role": "developer", "content": [{"type": "text", "text": "brief"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi", "cache_control": CACHE, "prompt_cache_breakpoint": True},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}, "cache_control": CACHE},
                {"type": "image_url", "image_url": "https://example.org/a.png"},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                    "cache_control": CACHE,
                },
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "so"},
                {"type": "refusal", "refusal": "no"},
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            ],
            "refusal": "never",
            "reasoning": "hm",
            "reasoning_content": "hm",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "h", "index": 0, "format": "anthropic-claude-v1"},
                {"type": "reasoning.text", "text": "m", "signature": "s1", "index": 0},
                {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1},
            ],
            "annotations": [],
            "prefix": True,
            "tool_calls": [{**CALL, "index": 0, "cache_control": CACHE}, {**CALL, "id": "c.2"}],
        },
        {"role": "tool", "tool_call_id": "c.1", "content": "2"},
        {"role": "tool", "tool_call_id": "c.2", "content": [{"type": "text", "text": "3"}]},
        {"role": "assistant", "content": "so "},
    ],
}
CHAT_REQUESTS: list[dict[str, Any]] = [
    CHAT,
    CHAT | {"tool_choice": "required", "reasoning": {"effort": "low", "exclude": True}},
    CHAT | {"reasoning": {"max_tokens": 2000, "enabled": True}, "stop": "END"},
    CHAT | {"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}},
]

SOURCE = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "system": [{"type": "text", "text": "be", "cache_control": CACHE, "citations": []}],
    "stream": True,
    "max_tokens": 4000,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop_sequences": ["END"],
    "tools": [
        {
            "type": "custom",
            "name": "add",
            "description": "adds",
            "input_schema": TOOL_SCHEMA,
            "strict": True,
            "cache_control": CACHE,
            "eager_input_streaming": True,
            **harmless(MESSAGES_FIELDS, "tools[]"),
        }
    ],
    "tool_choice": {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": TOOL_SCHEMA, "name": "n"}},
    "output_format": {"type": "json_schema", "schema": TOOL_SCHEMA, "name": "n"},
    "metadata": {"user_id": "u" * 70},
    "service_tier": "standard_only",
    "cache_control": CACHE,
    "diagnostics": {},
    "betas": ["b"],
    **harmless(MESSAGES_FIELDS, ""),
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi", "cache_control": CACHE, "citations": []},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    "cache_control": CACHE,
                },
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {
                    "type": "document",
                    "source": SOURCE,
                    "title": "t",
                    "context": "c",
                    "citations": {"enabled": False},
                    "cache_control": CACHE,
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t"},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "thinking", "thinking": "hm", "signature": "s1"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "so"},
                {
                    "type": "tool_use",
                    "id": "t1",
                    "name": "add",
                    "input": {"a": 1},
                    "cache_control": CACHE,
                    "caller": {"type": "direct"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "cache_control": CACHE,
                    "content": [
                        {"type": "text", "text": "2"},
                        {"type": "document", "source": SOURCE, "title": "t", "context": "c"},
                        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "t2", "content": "3"},
            ],
        },
        {"role": "system", "content": "and"},
        {"role": "assistant", "content": "so"},
    ],
}
MESSAGES_REQUESTS: list[dict[str, Any]] = [
    MESSAGES,
    MESSAGES | {"tool_choice": {"type": "any"}, "system": "be", "output_config": {}},
]

CHAT_USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_cache_hit_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
MESSAGES_USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "output_tokens": 5,
    "output_tokens_details": {"thinking_tokens": 2},
}
DETAILS = [
    {"type": "reasoning.text", "text": "h", "signature": "s1", "index": 0, "format": "anthropic-claude-v1"},
    {"type": "reasoning.encrypted", "data": "d1", "format": "anthropic-claude-v1", "index": 1},
    {"type": "reasoning.summary", "summary": "m"},
]
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "thinking", "thinking": "hm"},
    {"type": "text", "text": "so"},
]
SAID: list[dict[str, Any]] = [
    {"role": "assistant", "content": "so", "reasoning_content": "hm", "refusal": "no", "reasoning_details": DETAILS},
    {"role": "assistant", "content": "so", "reasoning": "hm", "tool_calls": [{"index": 0, **CALL}]},
    {"role": "assistant", "content": PARTS, "reasoning_details": DETAILS},
    {"role": "assistant", "content": {"a": 1}, "function_call": CALL["function"]},
]
CHAT_ANSWERS: list[dict[str, Any]] = [
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "g",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "native_finish_reason": "stop",
                "stop_reason": "END",
                "logprobs": None,
                "error": None,
                "message": said,
            }
        ],
        "usage": CHAT_USAGE,
        "error": None,
    }
    for said in SAID
]
MESSAGES_ANSWERS: list[dict[str, Any]] = [
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s1"},
            {"type": "redacted_thinking", "data": "d1"},
            {"type": "text", "text": "so", "citations": None},
            {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
        ],
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "explanation": "no"},
        "usage": MESSAGES_USAGE,
        "error": None,
    }
]
MESSAGES_STREAM: list[Any] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "c", "usage": MESSAGES_USAGE, "content": []}},
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "h", "signature": "s"},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s1"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "d1"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": "s"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "o"}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "tool_use", "id": "t", "name": "a", "input": {}},
    },
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    {"type": "content_block_stop", "index": 3},
    {
        "type": "content_block_start",
        "index": 4,
        "content_block": {"type": "tool_use", "id": "u", "name": "b", "input": {"a": 1}},
    },
    {"type": "content_block_stop", "index": 4},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "refusal", "stop_sequence": None, "stop_details": {"explanation": "no"}},
        "usage": MESSAGES_USAGE,
    },
    {"type": "message_stop"},
]
CHAT_STREAM: list[Any] = [
    *(
        {"id": "c1", "model": "g", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in (
            *SAID,
            {"tool_calls": [{"index": 1, "id": "c.9", "function": {"name": "now", "arguments": ""}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
            {"tool_calls": [{"index": 2, "id": "c.8", "function": {"name": "now", "arguments": {"a": 1}}}]},
        )
    ),
    {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END", "error": None}]},
    {"id": "c1", "choices": [], "usage": CHAT_USAGE, "error": None},
]
ERRORS: list[dict[str, Any]] = [
    {"error": {"type": "overloaded_error", "message": "busy", "code": 5, "param": "p"}},
    {"choices": [{"index": 0, "error": {"type": "t", "message": "busy", "code": "c", "param": "p"}}]},
    {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
]

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
            if like not in seen and len(key) < 12:
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


def call(operation: Operation, body: bytes) -> Call:
    fields = parse_object(body)
    client_dialect(operation).check(operation, fields)
    return Call(
        "id", operation, body, fields, "m", stream=False, caller=ANONYMOUS, headers={}, credential=None, started=0
    )


def request_outcome(operation: Operation, body: bytes) -> str:
    """ "crossed", or the param that was refused. Anything else raises."""
    try:
        asked = call(operation, body)
        for model in ("claude-sonnet-4-5", "claude-opus-4-7"):
            for traits in TARGETS:
                orjson.loads(passage(asked, model, traits, "up", 0).request())
        if operation is Operation.MESSAGES:
            counted_here(call(Operation.COUNT_TOKENS, body), TARGETS[1])
    except BadRequest as error:
        assert error.param or error.message.startswith("the body")
        return error.param or "body"
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
            assert not whole, error.message
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


SEEDS = [(Operation.CHAT, seed) for seed in CHAT_REQUESTS] + [(Operation.MESSAGES, seed) for seed in MESSAGES_REQUESTS]


@pytest.mark.parametrize(("operation", "seed"), SEEDS)
def test_a_request_with_one_wrong_value_crosses_or_is_refused(operation: Operation, seed: dict[str, Any]) -> None:
    """A client's mistake is a 400 with a param, never our own fault."""
    assert request_outcome(operation, json.dumps(seed).encode()) == "crossed"
    refused = set()
    for what, body in mutated(seed, places(seed), NESTED):
        try:
            refused.add(request_outcome(operation, body.encode()))
        except Exception as error:
            raise AssertionError(what) from error
    assert len(refused) > 30


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
        *((api, [first, error]) for api in ("chat", "messages") for error in ERRORS for first in (MESSAGES_STREAM[0],)),
    ],
)
def test_a_stream_with_one_wrong_value_crosses_or_fails(api: str, seed: list[Any]) -> None:
    """A provider's nonsense is a failure of the stream."""
    if seed in (MESSAGES_STREAM, CHAT_STREAM):
        read_stream(api, [json.dumps(event) for event in seed], whole=True)
    stream_mutations(api, seed, places(seed))


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
