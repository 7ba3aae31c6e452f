"""Warming up: a line of JSON lies where a later call finds it, and what is wrong with a line is said by its number."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.config.units import parse_duration
from runestone.core.answer import Answer
from runestone.core.cache import Cache
from runestone.core.call import ANONYMOUS, Call, Caller, Operation
from runestone.core.directives import Directives
from runestone.core.names import Listing, Names
from runestone.core.reply import Reply
from runestone.errors import NotStored
from runestone.gateway import warm
from runestone.gateway.cache import Freshness, FromCache, Keys, Tally
from runestone.gateway.items import ItemsFromCache
from runestone.gateway.pipeline import compose
from runestone.gateway.playback import Playback
from runestone.gateway.store import Terms
from runestone.gateway.warm import MAX_ERRORS, Warmed, Warmup
from runestone.gateway.warm_line import MAX_LINE, Reader, Who

NAMES = Names({}, {}, [Listing("up", ("m",)), Listing("theirs", ("t",)), Listing("closed", ("c",), closed=True)])
TEAM, OTHER = Caller(name="team", tenant="house"), Caller(name="other")
KEYS = {"team": TEAM, "mate": Caller(name="mate", tenant="house"), "other": OTHER}
PRIVATE = frozenset({"theirs"})

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {**CHAT, "max_tokens": 9}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
SAID = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE], "usage": USAGE}
TEXT = {"object": "text_completion", "choices": [{"index": 0, "text": "hello", "finish_reason": "stop"}]}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "model": "m",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
VECTORS = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": place, "embedding": [0.5, place]} for place in range(2)],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


def event(data: object, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {orjson.dumps(data).decode()}\n\n"


DELTA = event({"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None}]})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
COUNTED = event({"choices": [], "usage": USAGE})
DONE = "data: [DONE]\n\n"
STREAM = DELTA + FINISH + DONE
WITH_USAGE = DELTA + FINISH + COUNTED + DONE
START = event({"type": "message_start", "message": {"id": "m1", "model": "m", "usage": {"input_tokens": 3}}})
STOP = event({"type": "message_stop"}, "message_stop")


class Bench:
    """A cache with everything around it, and clients who may only hear what is kept."""

    def __init__(self, scope: Any = "key", *, is_open: bool = True, ttl: float = 300.0, **terms: Any) -> None:
        self.answers: Cache[Answer] = Cache(max_size=100, max_bytes=10**7)
        freshness = Freshness(ttl=ttl)
        self.terms = Terms(freshness=freshness, max_entry=terms.pop("max_entry", 10_000), **terms)
        keys = Keys(NAMES, scope, PRIVATE)
        who = Who(keys=KEYS, scope=scope, is_open=is_open)
        reader = Reader(names=NAMES, private=PRIVATE, who=who, max_entry=self.terms.max_entry, duration=parse_duration)
        self.warmup = Warmup(self.answers, keys, self.terms, reader)
        self.tally = Tally()
        self.stages = (
            FromCache(
                self.answers,
                keys,
                freshness,
                tally=self.tally,
                playback=lambda answer, sent, within: Playback(answer, sent, 0.0, within),
                refresh=lambda call, _: None,
            ),
            ItemsFromCache(self.answers, keys, freshness, tally=self.tally),
        )

    async def warm(self, *lines: object) -> dict[str, Any]:
        warmed = Warmed()
        await self.warmup([line if isinstance(line, bytes) else orjson.dumps(line) for line in lines], warmed)
        return warmed.result()

    async def ask(
        self,
        fields: dict[str, Any],
        operation: Operation = Operation.CHAT,
        caller: Caller = ANONYMOUS,
        headers: dict[str, str] | None = None,
    ) -> bytes | None:
        """What is kept for this call, None when nothing is."""
        only = Directives(only_if_cached=True)
        stream = fields.get("stream") is True
        call = Call("id", operation, b"", fields, "m", stream, caller, headers or {}, None, perf_counter())
        call.model, call.directives = fields["model"], only

        async def nobody(call: Call) -> Reply:
            raise AssertionError("only-if-cached asks nobody")

        try:
            reply = await compose(self.stages, nobody)(call)
        except NotStored:
            return None
        if reply.blocks is None:
            return reply.body
        return b"".join([block async for block in blocks_of(reply)])


async def blocks_of(reply: Reply) -> Any:
    assert reply.blocks is not None
    while block := await reply.blocks.next():
        yield block


KEPT = {
    "chat": ({"request": CHAT, "response": SAID}, CHAT, Operation.CHAT, SAID),
    "named endpoint": (
        {"endpoint": "/v1/chat/completions", "request": CHAT, "response": SAID},
        *(CHAT, Operation.CHAT, SAID),
    ),
    "other order, another user": (
        {"request": {**dict(reversed(CHAT.items())), "user": "u"}, "response": SAID},
        *({**CHAT, "user": "somebody", "metadata": {}}, Operation.CHAT, SAID),
    ),
    "no kind": ({"request": CHAT, "response": {"choices": [CHOICE]}}, CHAT, Operation.CHAT, {"choices": [CHOICE]}),
    "completions": (
        {"endpoint": "/v1/completions", "request": {"model": "m", "prompt": "hi"}, "response": TEXT},
        *({"model": "m", "prompt": "hi"}, Operation.COMPLETIONS, TEXT),
    ),
    "messages": (
        {"endpoint": "/v1/messages", "request": MESSAGES, "response": MESSAGE},
        *(MESSAGES, Operation.MESSAGES, MESSAGE),
    ),
    "one text": (
        {
            "endpoint": "/v1/embeddings",
            "request": {"model": "m", "input": ["a"]},
            "response": {**VECTORS, "data": VECTORS["data"][:1]},
        },
        *({"model": "m", "input": "a"}, Operation.EMBEDDINGS, {**VECTORS, "data": VECTORS["data"][:1]}),
    ),
    "two texts": (
        {"endpoint": "/v1/embeddings", "request": {"model": "m", "input": ["a", "b"]}, "response": VECTORS},
        *({"model": "m", "input": ["a", "b"]}, Operation.EMBEDDINGS, VECTORS),
    ),
}


@pytest.mark.parametrize(("line", "asked", "operation", "answer"), KEPT.values(), ids=KEPT)
async def test_a_later_call_finds_the_answer(line: object, asked: Any, operation: Operation, answer: object) -> None:
    """Under the fingerprint it has by itself, byte for byte as JSON says it; nobody is counted as having asked."""
    bench = Bench()
    assert await bench.warm(line) == {"stored": 1, "errors": []}
    heard = await bench.ask(asked, operation)
    assert heard is not None
    assert orjson.loads(heard) == answer
    assert (bench.tally.misses, bench.tally.hits) == (0, len(asked["input"]) if "input" in asked else 1)


async def test_embeddings_are_kept_item_by_item() -> None:
    """Any of them, alone or among others, in any order."""
    bench = Bench()
    request = {"model": "m", "input": ["a", "b"]}
    await bench.warm({"endpoint": "/v1/embeddings", "request": request, "response": VECTORS})
    heard = await bench.ask({"model": "m", "input": "b"}, Operation.EMBEDDINGS)
    assert [one["embedding"] for one in orjson.loads(heard or b"")["data"]] == [[0.5, 1]]
    heard = await bench.ask({"model": "m", "input": ["b", "a"]}, Operation.EMBEDDINGS)
    assert [one["embedding"] for one in orjson.loads(heard or b"")["data"]] == [[0.5, 1], [0.5, 0]]
    assert await bench.ask({"model": "m", "input": "c"}, Operation.EMBEDDINGS) is None


@pytest.mark.parametrize(
    ("request_", "stream", "asked"),
    [
        (CHAT, STREAM, {"stream": True}),
        ({**CHAT, "stream": True}, STREAM, {"stream": True}),
        (CHAT, WITH_USAGE, {"stream": True, "stream_options": {"include_usage": True}}),
        ({**CHAT, "stream_options": {"include_usage": True}}, WITH_USAGE, {"stream_options": {"include_usage": True}}),
        (CHAT, STREAM.replace("\n", "\r\n"), {"stream": True}),
        (CHAT, ": comment\n\n" + STREAM, {"stream": True}),
    ],
)
async def test_streams_are_kept_in_the_form_they_have(request_: Any, stream: str, asked: dict[str, Any]) -> None:
    """With usage or without, whatever the question says of it."""
    bench = Bench()
    assert await bench.warm({"request": request_, "stream": stream}) == {"stored": 1, "errors": []}
    assert await bench.ask({**CHAT, "stream": True, **asked}) == stream.encode()


async def test_what_a_stream_says_of_itself_is_known() -> None:
    """The summary, for records and metrics."""
    bench = Bench()
    delta = event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}})
    await bench.warm(
        {"request": CHAT, "stream": WITH_USAGE},
        {"request": {**CHAT, "seed": 1}, "response": SAID},
        {"endpoint": "/v1/messages", "request": MESSAGES, "stream": START + delta + STOP},
    )
    told = [entry.value.summary for _, entry in bench.answers.items()]
    assert [(said.input_tokens, said.output_tokens, said.finish_reason) for said in told] == [
        (3, 2, "stop"),
        (3, 2, "stop"),
        (3, 2, "end_turn"),
        (3, 2, "end_turn"),
    ]


async def test_messages_are_found_with_and_without_the_version_every_sdk_sends() -> None:
    """anthropic-version is part of a question; a line that names headers means just those."""
    line = {"endpoint": "/v1/messages", "request": MESSAGES, "response": MESSAGE}
    asked = (MESSAGES, Operation.MESSAGES, ANONYMOUS)
    usual, other = {"anthropic-version": "2023-06-01"}, {"anthropic-version": "2024-01-01"}
    bench = Bench()
    await bench.warm(line)
    found = [await bench.ask(*asked, headers) is not None for headers in ({}, usual, other)]
    assert found == [True, True, False]
    bench = Bench()
    assert await bench.warm({**line, "headers": {"Anthropic-Version": "2024-01-01"}}) == {"stored": 1, "errors": []}
    found = [await bench.ask(*asked, headers) is not None for headers in ({}, usual, other)]
    assert found == [False, False, True]


@pytest.mark.parametrize(
    ("scope", "line", "who"),
    [
        ("key", {}, [ANONYMOUS]),
        ("key", {"key": "team"}, [TEAM]),
        ("key", {"key": "team", "tenant": "house"}, [TEAM]),
        ("tenant", {"key": "team"}, [TEAM, KEYS["mate"]]),
        ("tenant", {"tenant": "house"}, [TEAM, KEYS["mate"]]),
        ("tenant", {"key": "other"}, [OTHER]),
        ("tenant", {}, [ANONYMOUS]),
        ("global", {}, [ANONYMOUS, TEAM, KEYS["mate"], OTHER]),
        ("global", {"tenant": "house"}, [ANONYMOUS, TEAM, KEYS["mate"], OTHER]),
    ],
)
async def test_a_line_says_whose_the_answer_is(scope: str, line: dict[str, str], who: list[Caller]) -> None:
    """As the scope has it; nobody else hears it."""
    bench = Bench(scope)
    assert (await bench.warm({"request": CHAT, "response": SAID, **line}))["stored"] == 1
    everybody = [ANONYMOUS, *KEYS.values()]
    assert [caller for caller in everybody if await bench.ask(CHAT, caller=caller) is not None] == who


async def test_ttl_and_tags_are_those_of_the_line() -> None:
    """And where it has none, the configured time and no tags; the owner is the key."""
    bench = Bench(ttl=50.0)
    await bench.warm(
        {"request": CHAT, "response": SAID, "ttl": "1h", "tags": ["faq", "v,1"], "key": "team"},
        {"request": CHAT, "response": SAID},
    )
    entries = [entry for _, entry in bench.answers.items()]
    assert [round(entry.expires - entry.stored) for entry in entries] == [3600, 50]
    assert [(entry.owner, entry.tags, entry.model) for entry in entries] == [
        ("team", ("faq", "v,1"), "m"),
        ("anonymous", (), "m"),
    ]
    assert entries[0].value.target is None, "nobody knows who answered"


async def test_a_later_line_takes_the_place_of_an_earlier_one() -> None:
    """Of what was kept by a call too: who warms up wants just this answer."""
    bench = Bench()
    other = {**SAID, "id": "c2"}
    assert await bench.warm({"request": CHAT, "response": SAID}, {"request": CHAT, "response": other}) == {
        "stored": 2,
        "errors": [],
    }
    assert orjson.loads(await bench.ask(CHAT) or b"") == other
    assert len(bench.answers) == 1


TOOLS = {**SAID, "choices": [{"index": 0, "message": {"tool_calls": [{"id": "t"}]}, "finish_reason": "tool_calls"}]}
FILTERED = {**SAID, "choices": [{**CHOICE, "finish_reason": "content_filter"}]}
LINE = {"request": CHAT, "response": SAID}
EMBED = {"endpoint": "/v1/embeddings", "request": {"model": "m", "input": ["a", "b"]}, "response": VECTORS}
NOT_KEPT = "is not kept: it calls tools (cache.store_tool_calls), was stopped by a filter, or is too large"
NOT_THIS = "is not what this endpoint answers"
MEMBERS = "is unknown; a line has endpoint, request, response, stream, key, tenant, headers, ttl, tags"
WRONG: list[tuple[Any, str]] = [
    (b"{", "it is not JSON: unexpected end of data at line 1, column 2"),
    (b"[]", "it must be a JSON object"),
    (b'{"request": {}, "request": {}}', "the name 'request' stands twice in one object"),
    (b'{"request": {"model": "m", "model": "m"}, "response": {}}', "the name 'model' stands twice in one object"),
    (b"[" * 1000, "it is not JSON"),
    (b"\xff", "it is not JSON"),
    (b" " * MAX_LINE + b"{}", f"it is longer than {MAX_LINE} bytes"),
    ({**LINE, "respnse": 1}, f"respnse: {MEMBERS}"),
    ({**LINE, "x\n\u202e": 1}, f"x\\n\\u202e: {MEMBERS}"),
    ({**LINE, "endpoint": "/v1/messages/count_tokens"}, "endpoint: must be one of /v1/chat/completions, "),
    ({**LINE, "endpoint": 1}, "endpoint: must be a non-empty string"),
    ({"response": SAID}, "request: is missing"),
    ({**LINE, "request": [CHAT]}, "request: must be an object"),
    ({**LINE, "request": {}}, "request.model: is missing"),
    ({**LINE, "request": {**CHAT, "model": ["m"]}}, "request.model: must be a non-empty string"),
    ({**LINE, "request": {**CHAT, "model": "nobody"}}, "request.model: the model 'nobody' does not exist here"),
    ({**LINE, "request": {**CHAT, "model": "closed/m"}}, "request.model: the model 'closed/m' does not exist here"),
    ({**LINE, "request": {**CHAT, "model": "t"}}, "request.model: its provider sees each client's own credential"),
    ({**LINE, "request": {"model": "m"}}, "request.messages: 'messages' is missing"),
    ({**LINE, "request": {**CHAT, "messages": [1]}}, "request.messages[0]: 'messages[0]' must be an object"),
    ({**LINE, "request": {**CHAT, "stream": "yes"}}, "request.stream: 'stream' must be a boolean"),
    ({**LINE, "request": {**CHAT, "store": True}}, "request.store: such a call is never answered from the cache"),
    ({**LINE, "endpoint": "/v1/messages"}, "request.max_tokens: 'max_tokens' is missing"),
    ({"request": CHAT}, "response: give a response or a stream, and one of them"),
    ({**LINE, "stream": STREAM}, "response: give a response or a stream, and one of them"),
    ({**LINE, "response": "hello"}, "response: must be an object"),
    ({**LINE, "response": {}}, f"response: {NOT_THIS}"),
    ({**LINE, "response": {"error": {"message": "no"}}}, f"response: {NOT_THIS}"),
    ({**LINE, "response": MESSAGE}, f"response: {NOT_THIS}"),
    ({**LINE, "response": TEXT}, "response.object: is a text_completion, and not what this endpoint answers"),
    ({**LINE, "endpoint": "/v1/messages", "request": MESSAGES}, f"response: {NOT_THIS}"),
    ({**LINE, "response": TOOLS}, f"response: {NOT_KEPT}"),
    ({**LINE, "response": FILTERED}, f"response: {NOT_KEPT}"),
    ({**LINE, "response": {**SAID, "pad": "x" * 10_000}}, "response: is larger than cache.max_entry"),
    ({"request": CHAT, "stream": DELTA * 200 + STREAM}, "stream: is larger than cache.max_entry"),
    ({"request": CHAT, "stream": ""}, "stream: must be a non-empty string"),
    ({"request": CHAT, "stream": {}}, "stream: must be a non-empty string"),
    ({"request": CHAT, "stream": "hello"}, "stream: does not end as it must"),
    ({"request": CHAT, "stream": DELTA + FINISH}, "stream: does not end as it must"),
    ({"request": CHAT, "stream": DONE}, f"stream: {NOT_THIS}"),
    ({"request": CHAT, "stream": STREAM[:-1]}, "stream: its last event does not end with an empty line"),
    ({"request": CHAT, "stream": DELTA + "data: {\n\n" + DONE}, "stream: its event 2 is not JSON"),
    ({"request": CHAT, "stream": DELTA + event({"error": {"message": "no"}}) + DONE}, "stream: holds an error"),
    ({"request": CHAT, "stream": START + STOP}, f"stream: {NOT_THIS}"),
    ({"endpoint": "/v1/messages", "request": MESSAGES, "stream": STREAM}, f"stream: {NOT_THIS}"),
    ({"endpoint": "/v1/messages", "request": MESSAGES, "stream": START}, "stream: does not end as it must"),
    (
        {"request": {**CHAT, "stream_options": {"include_usage": True}}, "stream": STREAM},
        "stream: has no usage, and the request asks for it",
    ),
    ({**EMBED, "request": {"model": "m", "input": ["a"]}}, "response.data: does not hold one embedding for each"),
    ({**EMBED, "request": {"model": "m", "input": [1.5]}}, "request.input: must be texts, or lists of token ids"),
    ({**EMBED, "request": {"model": "m"}}, "request.input: 'input' is missing"),
    ({**EMBED, "response": SAID}, "response.object: is a chat.completion, and not what this endpoint answers"),
    ({"endpoint": "/v1/embeddings", "request": EMBED["request"], "stream": STREAM}, "stream: embeddings are never"),
    ({**LINE, "key": "nobody"}, "key: no key of this name is configured"),
    ({**LINE, "key": "team", "tenant": "street"}, "tenant: is not the tenant of the key"),
    ({**LINE, "tenant": "house"}, 'tenant: shares nothing unless cache.scope is "tenant": name a key'),
    ({**LINE, "ttl": 60}, "ttl: must be a duration with a unit"),
    ({**LINE, "ttl": "soon"}, "ttl: must be a duration with a unit"),
    ({**LINE, "ttl": "0s"}, "ttl: must be more than 0"),
    ({**LINE, "tags": "faq"}, "tags: must be at most 16 strings of 1 to 100 characters"),
    ({**LINE, "tags": ["x"] * 17}, "tags: must be at most 16"),
    ({**LINE, "tags": [""]}, "tags: must be at most 16"),
    ({**LINE, "headers": {"x-title": "a"}}, "headers: anthropic-version, anthropic-beta, openai-beta are part of"),
    ({**LINE, "headers": {"openai-beta": 1}}, "headers.openai-beta: must be a string"),
    ({**LINE, "headers": []}, "headers: must be an object"),
]


@pytest.mark.parametrize(("line", "error"), WRONG, ids=[error[:60] for _, error in WRONG])
async def test_a_wrong_line_is_named_and_the_others_are_kept(line: object, error: str) -> None:
    """By its number and field, between two lines that are right."""
    bench = Bench()
    told = await bench.warm(LINE, b"", line, {"request": {**CHAT, "seed": 1}, "response": SAID})
    assert told["stored"] == 2
    (said,) = told["errors"]
    assert said.startswith(f"line 3: {error}")
    assert len(bench.answers) == 2


@pytest.mark.parametrize(
    ("bench", "more", "error"),
    [
        (Bench("tenant"), {"tenant": "street"}, "tenant: no key of this tenant is configured"),
        (Bench(is_open=False), {}, "key: is missing: calls without a key are refused (auth.required)"),
        (Bench("global", is_open=False), {}, None),
        (Bench(is_open=False), {"key": "other"}, None),
        (Bench(tool_calls=True), {"response": TOOLS}, None),
        (Bench(paced=True), {"response": SAID}, None),
    ],
)
async def test_what_is_wrong_depends_on_the_configuration(bench: Bench, more: object, error: str | None) -> None:
    """Scope, who may call, and what is kept."""
    told = await bench.warm({**LINE, **more})  # type: ignore[dict-item]
    assert told == {"stored": int(error is None), "errors": [f"line 1: {error}"] if error else []}


async def test_paced_replay_has_streams_come_at_once() -> None:
    """Nobody knows at which pace a line's stream came."""
    bench = Bench(paced=True)
    await bench.warm({"request": CHAT, "stream": STREAM})
    ((_, entry),) = bench.answers.items()
    assert [seconds for seconds, _ in entry.value.pace] == [0.0]


async def test_the_list_of_errors_is_short() -> None:
    """And says how many there are."""
    told = await Bench().warm(*[b"x"] * 50, LINE)
    assert (told["stored"], len(told["errors"])) == (1, MAX_ERRORS)
    assert told["errors"][-2].startswith("line 19: it is not JSON")
    assert told["errors"][-1] == "and 31 more"


async def test_the_number_of_lines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the last one is not read."""
    monkeypatch.setattr(warm, "MAX_LINES", 3)
    told = await Bench().warm(LINE, b"\n", LINE, LINE, LINE)
    assert told == {"stored": 2, "errors": ["line 4: at most 3 lines are read"]}


async def test_empty_lines_a_bom_and_windows_are_no_errors() -> None:
    """What editors leave in files."""
    line = orjson.dumps(LINE)
    assert await Bench().warm(b"\xef\xbb\xbf" + line + b"\r", b"", b"  \r", line) == {"stored": 2, "errors": []}


async def test_others_have_their_turn_meanwhile() -> None:
    """Thousands of lines do not stop the loop: whoever waits has a turn every few milliseconds."""
    bench = Bench()
    lines = [orjson.dumps({"request": {**CHAT, "seed": seed}, "response": SAID}) for seed in range(3000)]
    warming = asyncio.ensure_future(bench.warm(*lines))
    turns = 0
    while not warming.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await warming)["stored"] == 3000
    assert turns > 5
    assert len(bench.answers) == 100, "bounded like everything that is kept"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**70) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(
    base=st.sampled_from([line for line, *_ in KEPT.values()] + [{"request": CHAT, "stream": WITH_USAGE}]),
    path=st.lists(st.integers(0, 9), max_size=3),
    value=VALUES,
)
async def test_no_line_is_ever_an_exception(base: Any, path: list[int], value: object) -> None:
    """Any value in any place: the line is kept or it is named."""
    try:
        line = orjson.loads(orjson.dumps(base))
        orjson.dumps(value)
    except TypeError:
        return  # no JSON, so nothing that could be sent
    owner = line
    for step in path:
        names = list(owner) if isinstance(owner, dict) else list(range(len(owner)))
        if not names:
            break
        name = names[step % len(names)]
        if not isinstance(owner[name], (dict, list)) or step > 7:
            owner[name] = value
            break
        owner = owner[name]
    told = await Bench().warm(line)
    assert told["stored"] + len(told["errors"]) == 1
