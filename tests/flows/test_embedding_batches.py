"""Embeddings: what is kept is not asked for, item by item; what arrives together goes up together."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import openai
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_cached_answers import UP
from tests.flows.test_failing_providers import metric
from tests.gateway import Gateway
from tests.provider import FakeProvider, Seen, Wire

KEPT = "[cache]\n[batch]\nenabled = false\n"
TOGETHER = "[cache]\nenabled = false\n[batch]\n"


def vector(item: object) -> list[float]:
    return [float(len(str(item))), 0.5, -1e-07]


class Embedder:
    """Answers embeddings; `gate` holds answers back while it is not set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.bad: object = None

    async def script(self, seen: Seen, wire: Wire) -> None:
        asked = seen.json["input"]
        items = asked if isinstance(asked, list) and not isinstance(asked[0], int) else [asked]
        await self.gate.wait()
        if self.bad in items:
            await wire.answer({"error": {"message": "this input is too long", "param": "input"}}, status=400)
            return
        data = [{"object": "embedding", "index": place, "embedding": vector(item)} for place, item in enumerate(items)]
        tokens = 7 * len(items)
        await wire.answer(
            {
                "object": "list",
                "data": data[::-1],
                "model": "m",
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


Standing = tuple[Gateway, FakeProvider, Embedder]


async def standing(gateway: StartGateway, provider: StartProvider, toml: str) -> Standing:
    source = Embedder()
    up = await provider(source.script)
    return await gateway(UP.format(up.url, "") + toml), up, source


async def embed(http: aiohttp.ClientSession, gate: Gateway, asked: object, **more: object) -> tuple[int, Any, str]:
    """(status, the answer, Cache-Status)."""
    body = {"model": "up/m", "input": asked, **more}
    async with http.post(gate.url + "/v1/embeddings", json=body) as response:
        return response.status, orjson.loads(await response.read()), response.headers.get("Cache-Status", "")


def asked_of(up: FakeProvider) -> list[Any]:
    return [seen.json["input"] for seen in up.requests]


async def test_only_the_items_that_are_missing_go_up(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Kept ones take their places in between, in order, with usage that adds up."""
    gate, up, _ = await standing(gateway, provider, KEPT)
    await embed(http, gate, ["a", "bbb"])
    status, answer, cache = await embed(http, gate, ["cc", "bbb", "dddd", "a"])
    assert (status, cache) == (200, "runestone; fwd=miss; stored")
    assert asked_of(up) == [["a", "bbb"], ["cc", "dddd"]]
    assert [one["embedding"] for one in answer["data"]] == [vector(item) for item in ("cc", "bbb", "dddd", "a")]
    assert [one["index"] for one in answer["data"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 28
    whole = await embed(http, gate, ["dddd", "cc"])
    assert whole[2].startswith("runestone; hit")
    assert [one["embedding"] for one in whole[1]["data"]] == [vector("dddd"), vector("cc")]
    single = await embed(http, gate, "bbb")
    assert single[2].startswith("runestone; hit")
    assert len(up.requests) == 2
    assert await metric(http, gate, "runestone_cache_hits_total") == 5


async def test_parameters_are_part_of_the_question(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """encoding_format, dimensions; token ids are not the text of their digits."""
    gate, up, _ = await standing(gateway, provider, KEPT)
    for more in ({}, {"encoding_format": "base64"}, {"dimensions": 3}):
        await embed(http, gate, "a", **more)
    await embed(http, gate, [1, 2])
    await embed(http, gate, "[1,2]")
    await embed(http, gate, [[1, 2]])
    assert len(up.requests) == 5, "a list of one list of ids asks for the same item as the ids alone"


async def test_an_answer_without_an_embedding_is_not_kept(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A 200 with nothing in it would be somebody's failure later, in the middle of a list."""
    gate, up, source = await standing(gateway, provider, KEPT)

    async def empty(seen: Seen, wire: Wire) -> None:
        await wire.answer({"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 1}})

    up.script = empty
    assert (await embed(http, gate, "a"))[2] == "runestone; fwd=miss"
    up.script = source.script
    assert (await embed(http, gate, ["b", "a"]))[1]["data"][1]["embedding"] == vector("a")


async def test_the_sdk_reads_what_was_put_together(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The openai package, with its own encoding (base64 by default), over the simulated model."""
    gate = await gateway("[providers.simulated]\nsimulated.ttft = '1ms'\n[cache]\n[batch]\n")
    async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key="any", max_retries=0) as client:
        alone = [await client.embeddings.create(model="simulated", input=text) for text in ("a", "b", "c")]
        together = await client.embeddings.create(model="simulated", input=["c", "new", "a"])
    assert together.data[0].embedding == alone[2].data[0].embedding
    assert together.data[2].embedding == alone[0].data[0].embedding
    assert len(together.data) == 3


async def test_what_arrives_together_goes_up_together(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """In order, at most default_size at a time; each caller has its own vector and its share of the tokens."""
    gate, up, source = await standing(gateway, provider, TOGETHER + 'default_size = 8\ntimeout = "5s"\n')
    source.gate.clear()
    texts = [f"{number:03}" + "x" * number for number in range(25)]
    calls = [asyncio.ensure_future(embed(http, gate, text)) for text in texts]
    await until(lambda: len(up.requests) == 5)  # five by themselves: nothing is known yet of how long one takes
    source.gate.set()
    answers = await asyncio.gather(*calls)
    for text, (status, answer, _) in zip(texts, answers, strict=True):
        assert (status, answer["data"][0]["embedding"], answer["data"][0]["index"]) == (200, vector(text), 0)
    assert sum(answer["usage"]["prompt_tokens"] for _, answer, _ in answers) == 25 * 7
    sizes = [len(asked) if isinstance(asked, list) else 1 for asked in asked_of(up)]
    assert sum(sizes) == 25
    assert max(sizes) == 8
    flat = [item for asked in asked_of(up) for item in (asked if isinstance(asked, list) else [asked])]
    assert sorted(flat[5:]) == flat[5:], "first come, first sent"
    assert await metric(http, gate, "runestone_batch_size_sum") == 25


async def test_alone_nobody_waits(gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession) -> None:
    """One caller after the other: each goes up by itself, at once, with its own bytes."""
    gate, up, _ = await standing(gateway, provider, TOGETHER + 'timeout = "30s"\nadaptive_sizing = false\n')
    for number in range(10):
        assert (await embed(http, gate, f"text {number}"))[0] == 200
    assert asked_of(up) == [f"text {number}" for number in range(10)]
    assert await metric(http, gate, 'runestone_batch_wait_seconds_bucket{le="0.0005"}') == 10


async def test_a_bad_item_fails_alone(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The batch is refused, halved, and halved again: one caller reads the provider's refusal, the others answers."""
    gate, up, source = await standing(gateway, provider, TOGETHER + 'default_size = 16\ntimeout = "5s"\n')
    source.gate.clear()
    texts = [f"text {number}" for number in range(21)]
    source.bad = texts[12]
    calls = [asyncio.ensure_future(embed(http, gate, text)) for text in texts]
    await until(lambda: len(up.requests) == 5)
    source.gate.set()
    answers = await asyncio.gather(*calls)
    assert [status for status, _, _ in answers] == [400 if text == source.bad else 200 for text in texts]
    assert answers[12][1]["error"]["message"] == "this input is too long"
    assert len(up.requests) <= 5 + 1 + 2 * 4 + 2


@pytest.mark.parametrize("more", [{"dimensions": 2}, {"model": "up/n"}, {"input": ["two", "items"]}])
async def test_only_the_same_kind_goes_together(
    more: dict[str, Any], gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Another model, other parameters, or several items in one call go up by themselves."""
    gate, up, source = await standing(gateway, provider, TOGETHER + 'timeout = "5s"\n')
    source.gate.clear()
    calls = [asyncio.ensure_future(embed(http, gate, f"text {number}")) for number in range(10)]
    await until(lambda: len(up.requests) == 5)
    body = {"model": "up/m", "input": "other", **more}
    calls.append(asyncio.ensure_future(_post(http, gate, dict(body))))
    await until(lambda: len(up.requests) == 6)
    assert asked_of(up)[5] == body["input"]
    source.gate.set()
    assert {status for status, _, _ in await asyncio.gather(*calls)} == {200}


async def _post(http: aiohttp.ClientSession, gate: Gateway, body: dict[str, Any]) -> tuple[int, Any, str]:
    asked = body.pop("input")
    return await embed(http, gate, asked, **body)


async def test_callers_that_leave_are_left_out(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Who has left before its batch went is not in it; when all of a batch have left its call ends."""
    gate, up, source = await standing(gateway, provider, TOGETHER + 'timeout = "5s"\n')
    source.gate.clear()
    first = [asyncio.ensure_future(embed(http, gate, f"first {number}")) for number in range(5)]
    await until(lambda: len(up.requests) == 5)
    waiting = [asyncio.ensure_future(embed(http, gate, f"waiting {number}")) for number in range(4)]
    await until(lambda: len(gate.app.running._tasks) == 9)
    for call in waiting[::2]:
        call.cancel()
    await until(lambda: len(gate.app.running._tasks) == 7)
    source.gate.set()
    await asyncio.gather(*first, *waiting[1::2])
    flat = [item for asked in asked_of(up)[5:] for item in (asked if isinstance(asked, list) else [asked])]
    assert flat == ["waiting 1", "waiting 3"]


async def test_a_failing_provider_is_told_to_all_of_a_batch(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A 5xx is nobody's fault: each caller hears it, and nothing is halved."""
    gate, up, source = await standing(gateway, provider, TOGETHER + 'timeout = "5s"\n')
    source.gate.clear()
    calls = [asyncio.ensure_future(embed(http, gate, f"text {number}")) for number in range(15)]
    await until(lambda: len(up.requests) == 5)
    await until(lambda: len(gate.app.running._tasks) == 15)

    async def dead(seen: Seen, wire: Wire) -> None:
        await wire.answer({"error": {"message": "boom"}}, status=500)

    up.script = dead
    source.gate.set()
    statuses = [status for status, _, _ in await asyncio.gather(*calls)]
    assert statuses.count(200) == 5
    assert statuses.count(502) + statuses.count(503) == 10
    assert len(up.requests) <= 8


async def test_the_last_to_leave_ends_a_halved_batch(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """One half has been answered; when everybody of the other half has left, its call ends within a second."""
    gate, up, source = await standing(gateway, provider, TOGETHER + 'default_size = 4\ntimeout = "5s"\n')
    source.gate.clear()
    first = [asyncio.ensure_future(embed(http, gate, f"first {number}")) for number in range(5)]
    await until(lambda: len(up.requests) == 5)
    hung = asyncio.Event()

    async def halves(seen: Seen, wire: Wire) -> None:
        asked = seen.json["input"]
        if isinstance(asked, list) and len(asked) == 4:
            await wire.answer({"error": {"message": "too long"}}, status=400)
        elif "text 2" in asked:
            hung.set()
            await wire.left()
            wire.close()
        else:
            await source.script(seen, wire)

    waiting = [asyncio.ensure_future(embed(http, gate, f"text {number}")) for number in range(4)]
    await until(lambda: len(gate.app.running._tasks) == 9)
    up.script = halves
    source.gate.set()
    await asyncio.gather(*first, *waiting[:2])
    await hung.wait()
    for call in waiting[2:]:
        call.cancel()
    await until(lambda: not gate.app.upstreams["up"].pool.active, seconds=1.0)  # type: ignore[attr-defined]


async def test_what_was_missing_and_came_with_somebody_elses_call_costs_nothing(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """One item is kept, the other is on its way for another caller: two provider calls, and two calls' tokens."""
    gate, up, source = await standing(gateway, provider, KEPT)
    await embed(http, gate, "a")
    source.gate.clear()
    leads = asyncio.ensure_future(embed(http, gate, "b"))
    await until(lambda: len(up.requests) == 2)
    follows = asyncio.ensure_future(embed(http, gate, ["a", "b"]))
    await until(lambda: gate.app.caching.joined.count == 1)
    source.gate.set()
    await leads
    status, answer, cache = await follows
    assert (status, cache) == (200, "runestone; fwd=miss; collapsed")
    assert [one["embedding"] for one in answer["data"]] == [vector("a"), vector("b")]
    assert len(up.requests) == 2
    assert await metric(http, gate, 'runestone_tokens_total{model="up/*",provider="up",type="input"}') == 14
