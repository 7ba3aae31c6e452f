"""Answers from memory: what was asked before is not asked again, in whatever form it is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from multidict import CIMultiDict

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_failing_providers import metric
from tests.flows.test_relay_stream import DONE, ROLE, STOP, USAGE, chunk
from tests.gateway import Gateway
from tests.provider import FakeProvider, Seen, Wire

CACHE = "[cache]\n"
UP = 'pool.warmup = 0\nrouting.retries = 0\n[providers.up]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n{}'
ASK: dict[str, Any] = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
STREAM = ROLE + chunk({"content": "hel"}) + chunk({"content": "lo"}) + STOP


async def answers(seen: Seen, wire: Wire) -> None:
    fields = seen.json
    if not fields.get("stream"):
        await wire.answer(ANSWER)
        return
    counted = (fields.get("stream_options") or {}).get("include_usage")
    await wire.begin_stream()
    await wire.chunk(STREAM + (USAGE if counted else b"") + DONE)
    await wire.end_stream()


@dataclass
class Heard:
    status: int
    cache: str
    age: str | None
    body: bytes


async def ask(
    http: aiohttp.ClientSession,
    gate: Gateway,
    headers: dict[str, str] | None = None,
    path: str = "/v1/chat/completions",
    **more: object,
) -> Heard:
    async with http.post(gate.url + path, json={**ASK, **more}, headers=headers) as response:
        body = await response.read()
        return Heard(response.status, response.headers.get("Cache-Status", ""), response.headers.get("Age"), body)


async def standing(
    gateway: StartGateway, provider: StartProvider, cache: str = CACHE, script: Any = answers, more: str = ""
) -> tuple[Gateway, FakeProvider]:
    up = await provider(script)
    return await gateway(UP.format(up.url, more) + cache), up


async def test_the_second_time_nobody_is_asked(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The same bytes, with Cache-Status and Age as RFC 9211 and 9111 have them; counters say so."""
    gate, up = await standing(gateway, provider)
    first, second = await ask(http, gate), await ask(http, gate)
    assert (first.cache, first.age) == ("runestone; fwd=miss; stored", None)
    assert (second.cache, second.age) == ("runestone; hit; ttl=299", "0")
    assert first.body == second.body == orjson.dumps(ANSWER)
    assert len(up.requests) == 1
    for name, value in (("hits_total", 1), ("misses_total", 1), ("stores_total", 1), ("entries", 1)):
        assert await metric(http, gate, f"runestone_cache_{name}") == value
    labels = 'cache="hit",endpoint="chat/completions",model="up/*",provider="up",status="200"'
    assert await metric(http, gate, f"runestone_requests_total{{{labels}}}") == 1
    tokens = 'model="up/*",provider="up",type="output"'
    assert await metric(http, gate, f"runestone_tokens_total{{{tokens}}}") == 2, "a hit has cost nothing"


async def test_the_order_of_names_is_no_part_of_the_question(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Nor white space, nor who asks for whom; any other field is."""
    gate, up = await standing(gateway, provider)
    await ask(http, gate)
    spaced = orjson.dumps(dict(reversed(ASK.items())), option=orjson.OPT_INDENT_2)
    headers = {"content-type": "application/json"}
    async with http.post(gate.url + "/v1/chat/completions", data=spaced, headers=headers) as response:
        assert "hit" in response.headers["Cache-Status"]
    assert "hit" in (await ask(http, gate, user="somebody", metadata={"a": "b"})).cache
    for more in ({"temperature": 0.1}, {"unknown": 1}, {"messages": [{"role": "user", "content": "hi "}]}):
        assert "fwd=miss" in (await ask(http, gate, **more)).cache
    assert len(up.requests) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"stream": True}),
        ({}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
    ],
    ids=["JSON, stream", "JSON, stream with usage", "stream with usage, JSON", "stream with usage, stream"],
)
async def test_one_form_answers_the_other(
    first: dict[str, Any],
    second: dict[str, Any],
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """What the SDK makes of both is the same text, finish and usage, and the provider is asked once."""
    gate, up = await standing(gateway, provider)
    async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key="any", max_retries=0) as client:
        told = []
        for more in (first, second):
            answer = await client.chat.completions.create(**ASK, **more)
            if not more.get("stream"):
                told.append((answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage))
                continue
            text, finish, usage = "", None, None
            async for part in answer:
                usage = part.usage or usage
                for choice in part.choices:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
            told.append((text, finish, usage))
    assert told[0][:2] == told[1][:2] == ("hello", "stop")
    if told[0][2] and told[1][2]:
        assert told[0][2].total_tokens == told[1][2].total_tokens
    assert len(up.requests) == 1


async def test_a_stream_without_usage_is_no_answer_that_counts(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Usage cannot be made up: JSON is asked for anew, and from then on answers both."""
    gate, up = await standing(gateway, provider)
    streamed = await ask(http, gate, stream=True)
    assert streamed.cache == "runestone; fwd=miss", "whether a stream is kept is known only at its end"
    assert (await ask(http, gate, stream=True)).body == streamed.body
    assert "fwd=miss" in (await ask(http, gate)).cache
    assert "hit" in (await ask(http, gate, stream=True)).cache
    assert len(up.requests) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Cache-Control": "no-cache"}, "runestone; fwd=request; stored"),
        ({"Cache-Control": "no-store"}, "runestone; fwd=bypass"),
        ({"Cache-Control": "max-age=0, min-fresh=1000"}, "runestone; fwd=request; stored"),
        ({"Cache-Control": "max-age=60"}, "runestone; hit; ttl=299"),
        ({"Cache-Control": "only-if-cached"}, "runestone; hit; ttl=299"),
    ],
)
async def test_clients_say_what_they_want_of_the_cache(
    headers: dict[str, str], status: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Request directives of RFC 9111, over an answer that is there."""
    gate, _ = await standing(gateway, provider)
    await ask(http, gate)
    assert (await ask(http, gate, headers)).cache == status


async def test_directives_on_several_lines_all_count(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A list header may come in several lines (RFC 9110 5.3)."""
    gate, _ = await standing(gateway, provider)
    await ask(http, gate)
    lines = CIMultiDict([("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")])
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=lines) as response:
        assert response.headers["Cache-Status"] == "runestone; fwd=bypass"


async def test_what_is_not_kept_is_not_asked_for_when_the_client_forbids_it(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """only-if-cached with nothing there is a 504 (RFC 9111 5.2.1.7)."""
    gate, up = await standing(gateway, provider)
    heard = await ask(http, gate, {"Cache-Control": "only-if-cached"})
    assert (heard.status, orjson.loads(heard.body)["error"]["code"]) == (504, "not_stored")
    assert heard.cache == 'runestone; detail="only-if-cached"', "nothing was forwarded"
    assert up.requests == []


async def test_a_client_says_how_long_its_answer_is_true(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """x-runestone-cache-ttl, with a unit; 0 keeps nothing; nonsense is a 400 that names it."""
    gate, up = await standing(gateway, provider)
    await ask(http, gate, {"x-runestone-cache-ttl": "90s"})
    assert (await ask(http, gate)).cache == "runestone; hit; ttl=89"
    for _ in range(2):
        await ask(http, gate, {"x-runestone-cache-ttl": "0s"}, seed=1)
    assert len(up.requests) == 3
    wrong = await ask(http, gate, {"x-runestone-cache-ttl": "90"})
    assert (wrong.status, orjson.loads(wrong.body)["error"]["param"]) == (400, "x-runestone-cache-ttl")


TOOLS = {"index": 0, "message": {"role": "assistant", "tool_calls": [{"id": "t", "type": "function"}]}}


@pytest.mark.parametrize(
    "choice",
    [
        {**TOOLS, "finish_reason": "tool_calls"},
        {**TOOLS, "finish_reason": "stop"},
        {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"},
        {"index": 0, "message": {"role": "assistant", "content": "x" * 3000}, "finish_reason": "stop"},
        {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": None},
        {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "error"},
        {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "RECITATION"},
        {"index": 0, "message": {"role": "assistant"}, "finish_reason": "stop", "error": {"message": "boom"}},
    ],
    ids=["tools", "a forced tool", "filtered", "too large", "unfinished", "an error", "recitation", "error inside"],
)
async def test_what_is_never_kept(
    choice: dict[str, Any], gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Tool calls, what a filter stopped, what is larger than max_entry: asked anew each time."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer({**ANSWER, "choices": [choice]})

    gate, up = await standing(gateway, provider, CACHE + 'max_entry = "2KB"\n', script)
    for _ in range(2):
        assert (await ask(http, gate)).cache == "runestone; fwd=miss"
    assert len(up.requests) == 2


async def test_numbers_no_double_holds_are_compared_as_they_were_written(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """They go up as they came, so two that are read as one are two questions."""
    gate, up = await standing(gateway, provider)
    headers = {"content-type": "application/json"}
    for number in (b"18446744073709551617", b"18446744073709551618", b"0.12345678901234567", b"0.123456789012345678"):
        body = b'{"model":"up/m","messages":[{"role":"user","content":"hi"}],"top_kk":%b}' % number
        async with http.post(gate.url + "/v1/chat/completions", data=body, headers=headers) as response:
            assert "fwd=miss" in response.headers["Cache-Status"]
    assert len(up.requests) == 4


async def test_a_ttl_of_nothing_keeps_nothing_whatever_may_be_stale(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`x-runestone-cache-ttl: 0s` beside stale-while-revalidate: nobody reads it afterwards."""
    gate, up = await standing(gateway, provider, CACHE + 'stale_while_revalidate = "1h"\n')
    await ask(http, gate, {"x-runestone-cache-ttl": "0s"})
    assert (await ask(http, gate)).cache == "runestone; fwd=miss; stored"
    assert len(up.requests) == 2


async def test_a_refresh_counts_against_the_callers_limits(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Asking anew behind a client's back is no way around its key; only-if-cached sends nothing up at all."""
    keys = '[[auth.keys]]\nname = "a"\nkey = "env:A"\nrequests_per_minute = 4\n'
    up = await provider(answers)
    toml = UP.format(up.url, "") + SHORT + 'stale_while_revalidate = "1h"\n' + keys
    gate = await gateway(toml, {"A": "key-a"})
    mine = {"authorization": "Bearer key-a"}
    await ask(http, gate, mine)
    await ask(http, gate, {**mine, "cache-control": "only-if-cached"})
    await ask(http, gate, mine)
    await until(lambda: len(up.requests) == 2)
    for _ in range(5):
        await ask(http, gate, mine)
    assert (await ask(http, gate, mine)).status == 429
    assert len(up.requests) == 2


async def test_tool_calls_are_kept_where_the_operator_wants_it(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`store_tool_calls`."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer({**ANSWER, "choices": [{**TOOLS, "finish_reason": "tool_calls"}]})

    gate, up = await standing(gateway, provider, CACHE + "store_tool_calls = true\n", script)
    first, second = await ask(http, gate), await ask(http, gate)
    assert first.body == second.body
    assert len(up.requests) == 1


@pytest.mark.parametrize("end", ["failed", "cut", "error event", "left"])
async def test_a_stream_that_did_not_end_well_is_not_kept(
    end: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Errors, streams without their end, and those the client cut short."""

    async def script(seen: Seen, wire: Wire) -> None:
        if end == "failed":
            await wire.answer({"error": {"message": "boom"}}, status=500)
            return
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "x"}))
        if end == "left":
            await wire.left()
        elif end == "error event":
            await wire.chunk(b'data: {"error":{"message":"boom"}}\n\n')
            await wire.end_stream()
        else:
            wire.close()

    gate, up = await standing(gateway, provider, script=script)
    for _ in range(2):
        fresh = {"connection": "close"}  # the gateway ends the connection behind an error event
        async with http.post(
            gate.url + "/v1/chat/completions", json={**ASK, "stream": True}, headers=fresh
        ) as response:
            await (response.content.readany() if end == "left" else response.read())
        if end == "left":
            await until(lambda: up.open == 0)
    assert len(up.requests) == 2
    assert await metric(http, gate, "runestone_cache_entries") == 0


async def test_keys_share_nothing_unless_the_scope_says_so(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A key's answers are its own; a tenant's belong to all of its keys; global ones to everybody."""
    names = {"a1": "a", "a2": "a", "b1": "b"}
    keys = "".join(
        f'[[auth.keys]]\nname = "{name}"\nkey = "env:{name.upper()}"\ntenant = "{tenant}"\n'
        for name, tenant in names.items()
    )
    expected = {"key": 4, "tenant": 3, "global": 1}
    for scope, calls in expected.items():
        up = await provider(answers)
        toml = UP.format(up.url, "") + f'[cache]\nscope = "{scope}"\n' + keys
        gate = await gateway(toml, {name.upper(): f"key-{name}" for name in names})
        for key in ("key-a1", "key-a2", "key-b1", "nobody's", "key-a1", "also nobody's"):
            await ask(http, gate, {"authorization": f"Bearer {key}"})
        assert len(up.requests) == calls, scope


async def test_headers_that_change_an_answer_are_part_of_the_question(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """anthropic-beta and the like are; an idempotency key is not."""
    gate, up = await standing(gateway, provider)
    for headers in ({}, {"openai-beta": "x"}, {"openai-beta": "y"}, {"idempotency-key": "1"}):
        await ask(http, gate, headers)
    assert len(up.requests) == 3


SHORT = '[cache]\ndefault_ttl = "0s"\n'


async def test_past_its_time_an_answer_is_given_once_more_and_asked_anew(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """stale-while-revalidate: the client does not wait, and the next one has the new answer."""
    gate, up = await standing(gateway, provider, SHORT + 'stale_while_revalidate = "60s"\n')
    await ask(http, gate)
    heard = await ask(http, gate)
    assert heard.cache == 'runestone; hit; ttl=-1; detail="stale-while-revalidate"'
    await until(lambda: len(up.requests) == 2)
    store = "runestone_cache_stores_total"
    while await metric(http, gate, store) < 2:
        pass
    assert heard.body == orjson.dumps(ANSWER)


async def test_when_nobody_can_answer_an_old_answer_is_better_than_none(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """stale-if-error, as configuration or as the client's own wish; marked as what it is; without, the error."""
    gate, up = await standing(gateway, provider, SHORT + 'stale_if_error = "60s"\n')
    first = await ask(http, gate)

    async def dead(seen: Seen, wire: Wire) -> None:
        await wire.answer({"error": {"message": "boom"}}, status=503)

    up.script = dead
    heard = await ask(http, gate)
    assert (heard.status, heard.body) == (200, first.body)
    assert heard.cache.endswith('detail="stale-if-error"')
    assert (await ask(http, gate, {"Cache-Control": "stale-if-error=0"})).status == 502
    assert (await ask(http, gate, {"Cache-Control": "no-cache"})).status == 502


async def test_without_the_operators_word_nothing_stale_is_given(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An answer past its time is asked anew."""
    gate, up = await standing(gateway, provider, SHORT)
    for _ in range(3):
        assert "fwd=" in (await ask(http, gate)).cache
    assert len(up.requests) == 3


async def test_paced_streams_come_as_they_came(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`replay = "paced"`: in the recorded blocks and not before their time; `replay_speed` scales it. Bytes are the
    same.
    """
    pause = 0.05

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for word in (b"a", b"b", b"c"):
            await wire.chunk(chunk({"content": word.decode()}))
            await asyncio.sleep(pause)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    gate, up = await standing(gateway, provider, '[cache]\nreplay = "paced"\nreplay_speed = 2.0\n', script)
    first = await ask(http, gate, stream=True)
    began = perf_counter()
    second = await ask(http, gate, stream=True)
    assert second.body == first.body
    assert perf_counter() - began >= 3 * pause / 2 * 0.9
    assert len(up.requests) == 1


async def test_a_paced_stream_is_over_in_the_time_its_call_has(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Slower than the call may take would be a stream without its end: it goes as fast as it must."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(chunk({"content": "a"}))
        await asyncio.sleep(0.05)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    slow = '[cache]\nreplay = "paced"\nreplay_speed = 0.001\n'
    gate, up = await standing(gateway, provider, slow, script)
    first = await ask(http, gate, stream=True)
    assert (await ask(http, gate, {"x-runestone-timeout": "400ms"}, stream=True)).body == first.body
    assert len(up.requests) == 1


async def test_another_dialects_client_has_its_own_answers(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Messages to the same target are kept apart from chats, and come back from memory in both forms."""
    gate, up = await standing(gateway, provider)
    await ask(http, gate)
    path, more = "/v1/messages", {"max_tokens": 50}
    first = await ask(http, gate, path=path, **more)
    assert "fwd=miss" in first.cache
    assert (await ask(http, gate, path=path, **more)).body == first.body
    streamed = await ask(http, gate, path=path, stream=True, **more)
    assert "hit" in streamed.cache
    assert b"message_stop" in streamed.body
    assert len(up.requests) == 2


async def test_an_unknown_model_is_unknown_with_a_cache_too(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """404, and nothing is kept."""
    gate, _ = await standing(gateway, provider)
    assert (await ask(http, gate, model="nobody")).status == 404


async def test_what_is_remembered_of_a_body_is_no_shortcut_to_somebody_elses_answer(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The same bytes a third and fourth time, by another key, with another header, to another endpoint or deployment:
    each is its own question.
    """
    keys = "".join(f'[[auth.keys]]\nname = "{name}"\nkey = "env:{name.upper()}"\n' for name in ("a", "anonymous"))
    up = await provider(answers)
    gate = await gateway(
        UP.format(up.url, 'models = ["m", "n"]\n') + CACHE + keys, {"A": "key-a", "ANONYMOUS": "key-anonymous"}
    )
    for _ in range(4):
        await ask(http, gate)
    assert len(up.requests) == 1
    others: list[dict[str, Any]] = [
        {"headers": {"authorization": "Bearer key-a"}},
        {"headers": {"authorization": "Bearer key-anonymous"}},
        {"headers": {"openai-beta": "x"}},
        {"path": "/openai/deployments/n/chat/completions"},
        {"path": "/v1/messages", "max_tokens": 5},
    ]
    for expected, other in enumerate(others, 2):
        assert "fwd=miss" in (await ask(http, gate, **other)).cache, other
        assert "hit" in (await ask(http, gate, **other)).cache, other
        assert len(up.requests) == expected
    assert (await ask(http, gate, {"cache-control": "no-store"})).cache == "runestone; fwd=bypass"
    assert (await ask(http, gate)).cache.startswith("runestone; hit")


async def test_a_remembered_body_is_still_wrong_where_it_is_wrong(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An empty model is none, though a deployment's path made the same bytes a good call before."""
    up = await provider(answers)
    gate = await gateway(UP.format(up.url, 'models = ["n"]\n') + CACHE)
    for _ in range(3):
        assert (await ask(http, gate, path="/openai/deployments/n/chat/completions", model="")).status == 200
    assert (await ask(http, gate, model="")).status == 400
