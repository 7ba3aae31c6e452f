"""Streams that break off or begin too slowly: another target takes them up, if the operator wants it so."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import anthropic
import openai
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_failing_providers import metric
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import Gateway
from tests.provider import Script, Seen, Wire

ONE = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "{}/v1"\nprefill = "message"\n'
BOTH = '[models.both]\ntargets = ["first/x", "second/y"]\n'
CONTINUE = 'routing.stream_failure = "continue"\npool.warmup = 0\n'
ASK: dict[str, Any] = {"model": "both", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
HELD_BACK = chunk({"content": "slow"})


def two(first: str, second: str, top: str = CONTINUE, more: str = "") -> str:
    return top + ONE.format("first", first) + ONE.format("second", second) + BOTH + more


def begins_then(end: str) -> Script:
    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "Rivers "}) + chunk({"content": "run"}))
        if end == "reset":
            wire.reset()
        elif end == "error event":
            await wire.chunk(b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
            await wire.end_stream()
        else:
            wire.close()

    return script


async def goes_on(seen: Seen, wire: Wire) -> None:
    assert seen.json["messages"][-1] == {"role": "assistant", "content": "Rivers run"}
    await wire.begin_stream()
    await wire.chunk(ROLE.replace(b"c1", b"c2") + chunk({"content": " down."}) + STOP + DONE)
    await wire.end_stream()


def failing(status: int) -> Script:
    async def fail(seen: Seen, wire: Wire) -> None:
        await wire.answer({"error": {"message": "This model does not support prefill."}}, status=status)

    return fail


async def text_of(http: aiohttp.ClientSession, gate: Gateway, **more: object) -> str:
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, **more}) as response:
        return (await response.read()).decode()


def said(stream: str) -> str:
    events = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in orjson.loads(event).get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_a_reader_that_leaves_while_another_target_is_asked_takes_no_text_with_it(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Two clients on one stream; the text before the error event is in neither's hands when the first one goes."""
    release = asyncio.Event()

    async def both_at_once(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "Rivers "}))
        await release.wait()
        error = b'data: {"error":{"message":"overloaded"}}\n\n'
        await wire.chunk(chunk({"content": "run"}) + error)
        await wire.end_stream()

    answering = asyncio.Event()

    async def waits(seen: Seen, wire: Wire) -> None:
        await asyncio.wait(
            (asyncio.ensure_future(answering.wait()), asyncio.ensure_future(wire.left(10))),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answering.is_set():
            await goes_on(seen, wire)

    first, second = await provider(both_at_once), await provider(waits)
    gate = await gateway(two(first.url, second.url, more="[cache]\n"))
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as one:
        await one.content.readany()
        async with http.post(gate.url + "/v1/chat/completions", json=ASK) as other:
            await other.content.readany()
            release.set()
            await until(lambda: len(second.requests) == 1)
            one.close()
            await until(lambda: len(gate.app.running._tasks) == 1)
            answering.set()
            rest = (await other.read()).decode()
    assert said(rest) == "run down."
    assert said(await text_of(http, gate)) == "Rivers run down."


async def test_with_a_cache_the_record_is_that_of_whoever_went_on(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Collapsing hands a stream to its clients at its head; who ended it, and its tokens, are known at its end."""

    async def counts(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        usage = (
            b'data: {"id":"c2","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,"total_tokens":10}}\n\n'
        )
        await wire.chunk(chunk({"content": " down."}) + STOP + usage + DONE)
        await wire.end_stream()

    first, second = await provider(begins_then("closed")), await provider(counts)
    gate = await gateway(two(first.url, second.url, more="[cache]\n"))
    counted = {"stream_options": {"include_usage": True}}
    assert said(await text_of(http, gate, **counted)) == "Rivers run down."
    ok = 'cache="miss",endpoint="chat/completions",model="both",provider="second",status="200"'
    assert await metric(http, gate, f"runestone_requests_total{{{ok}}}") == 1.0
    assert await metric(http, gate, 'runestone_tokens_total{model="both",provider="second",type="output"}') == 7.0
    assert said(await text_of(http, gate, **counted)) == "Rivers run down."
    assert (len(first.requests), len(second.requests)) == (1, 1), "kept whole, as one stream"


@pytest.mark.parametrize("end", ["closed", "reset", "error event"])
async def test_a_stream_that_breaks_off_is_gone_on_with(
    end: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The SDK reads one stream under one id with the whole text; it is counted, and both pools rest."""
    first, second = await provider(begins_then(end)), await provider(goes_on)
    gate = await gateway(two(first.url, second.url))
    client = openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key="any", max_retries=0)
    async with client:
        chunks = [part async for part in await client.chat.completions.create(**ASK)]
    assert "".join(part.choices[0].delta.content or "" for part in chunks) == "Rivers run down."
    assert {part.id for part in chunks} == {"c1"}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert await metric(http, gate, "runestone_stream_continuations_total") == 1.0
    for name in ("first", "second"):
        assert await metric(http, gate, f'runestone_pool_connections{{provider="{name}",state="active"}}') == 0.0
    ok = (
        'runestone_requests_total{cache="none",endpoint="chat/completions",model="both",provider="second",status="200"}'
    )
    assert await metric(http, gate, ok) == 1.0


async def test_without_being_asked_for_a_broken_stream_stays_broken(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`stream_failure` is "error" by default: the client hears of it, and nobody else is asked."""
    first, second = await provider(begins_then("closed")), await provider(goes_on)
    gate = await gateway(two(first.url, second.url, top="pool.warmup = 0\n"))
    assert "provider_error" in await text_of(http, gate)
    assert second.requests == []


@pytest.mark.parametrize("end", ["closed", "error event"])
@pytest.mark.parametrize("status", [400, 500])
async def test_when_nobody_can_go_on_the_first_failure_is_told(
    end: str, status: int, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An error event ends what was read so far, the provider's own where it wrote one; no invented end."""
    first, second = await provider(begins_then(end)), await provider(failing(status))
    gate = await gateway(two(first.url, second.url, top=CONTINUE + "routing.retries = 0\n"))
    stream = await text_of(http, gate)
    assert said(stream).startswith("Rivers run")
    assert ("overloaded" if end == "error event" else "provider_error") in stream
    assert stream.count('"error"') == 1
    assert "[DONE]" not in stream
    assert '"stop"' not in stream


async def test_one_target_is_asked_again(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A model of one target goes on with the same one: a lost connection is no lost answer."""
    scripts = iter([begins_then("reset"), goes_on])

    async def script(seen: Seen, wire: Wire) -> None:
        await next(scripts)(seen, wire)

    only = await provider(script)
    gate = await gateway(CONTINUE + ONE.format("only", only.url))
    assert said(await text_of(http, gate, model="only/x")) == "Rivers run down."


async def test_a_provider_that_cannot_continue_is_passed_over(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Nobody knows how to ask the second one, so the third goes on."""
    first, second, third = await provider(begins_then("closed")), await provider(goes_on), await provider(goes_on)
    toml = CONTINUE + ONE.format("first", first.url) + ONE.format("third", third.url)
    toml += ONE.format("second", second.url).replace('prefill = "message"\n', "")
    gate = await gateway(toml + '[models.both]\ntargets = ["first/x", "second/y", "third/z"]\n')
    assert said(await text_of(http, gate)) == "Rivers run down."
    assert second.requests == []


async def test_a_message_is_gone_on_with_by_the_other_dialect(gateway: StartGateway, provider: StartProvider) -> None:
    """An Anthropic client; the first target speaks OpenAI's dialect and breaks off, the simulated model goes on."""
    first = await provider(begins_then("closed"))
    toml = CONTINUE + ONE.format("first", first.url) + "[providers.simulated]\nsimulated.tokens_per_second = 0\n"
    gate = await gateway(toml + '[models.both]\ntargets = ["first/x", "simulated/simulated"]\n')
    client = anthropic.AsyncAnthropic(base_url=gate.url, api_key="any", max_retries=0)
    async with client, client.messages.stream(model="both", max_tokens=200, messages=ASK["messages"]) as stream:
        message = await stream.get_final_message()
    (block,) = message.content
    assert block.type == "text"
    assert block.text.startswith("Rivers run")
    assert len(block.text) > len("Rivers run") + 10
    assert message.stop_reason == "end_turn"


async def test_the_simulated_model_says_the_rest_of_the_same_answer(
    gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """Cut after some events and gone on with: the text is exactly that of an answer that was not cut."""
    cut = "[providers.cut]\nkind = 'simulated'\nmodels = ['s']\nsimulated.cut_after = 9\nsimulated.ttft = '1ms'\n"
    whole = "[providers.whole]\nkind = 'simulated'\nmodels = ['s']\nsimulated.tokens_per_second = 0\n"
    gate = await gateway(CONTINUE + cut + whole + "[models.both]\ntargets = ['cut/s', 'whole/s']\n")
    assert said(await text_of(http, gate)) == said(await text_of(http, gate, model="whole/s"))


async def test_a_client_that_leaves_during_a_continuation_ends_it(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Both providers' connections are given back."""

    async def hangs(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(chunk({"content": " down"}))
        await wire.left()

    first, second = await provider(begins_then("closed")), await provider(hangs)
    gate = await gateway(two(first.url, second.url))
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        while b"down" not in await response.content.readany():
            pass
    await until(lambda: first.open == 0 and second.open == 0)


async def begins_and_waits(seen: Seen, wire: Wire) -> None:
    await wire.begin_stream()
    await wire.chunk(ROLE + HELD_BACK)
    await wire.left()


def paces(delay: asyncio.Event | None) -> Script:
    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + HELD_BACK)
        if delay is not None:
            await delay.wait()
        await wire.chunk(b"".join(chunk({"content": " word"}) for _ in range(20)) + STOP + DONE)
        await wire.end_stream()

    return script


SLOW = 'routing.min_tokens_per_second = 20\nrouting.pace_window = "200ms"\npool.warmup = 0\n'


async def test_a_stream_that_begins_too_slowly_fails_over_unseen(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """One token in the window where four are wanted: the next target streams, the client has read nothing of it."""
    first, second = await provider(begins_and_waits), await provider(goes_on_its_way)
    gate = await gateway(two(first.url, second.url, top=SLOW))
    assert said(await text_of(http, gate)) == "in time"
    await until(lambda: first.open == 0)
    assert await metric(http, gate, "runestone_failovers_total") == 1.0


async def goes_on_its_way(seen: Seen, wire: Wire) -> None:
    await wire.begin_stream()
    await wire.chunk(ROLE + chunk({"content": "in time"}) + STOP + DONE)
    await wire.end_stream()


async def test_a_stream_in_time_is_passed_as_it_came(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What was held back comes first, byte for byte."""
    first, second = await provider(paces(None)), await provider(goes_on_its_way)
    gate = await gateway(two(first.url, second.url, top=SLOW))
    expected = ROLE + HELD_BACK + b"".join(chunk({"content": " word"}) for _ in range(20)) + STOP + DONE
    assert (await text_of(http, gate)).encode() == expected
    assert second.requests == []


async def test_a_short_answer_is_not_a_slow_one(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A stream that ends within the window is whole, however little it said."""
    first, second = await provider(goes_on_its_way), await provider(paces(None))
    gate = await gateway(two(first.url, second.url, top=SLOW.replace("= 20", "= 2000")))
    assert said(await text_of(http, gate)) == "in time"
    assert second.requests == []


async def test_the_last_target_may_be_slow(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With nobody left to ask, a slow answer is better than none: nothing is held back."""
    release = asyncio.Event()
    only = await provider(paces(release))
    gate = await gateway(SLOW + ONE.format("only", only.url))
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "model": "only/x"}) as response:
        assert b"slow" in await response.content.readany()
        release.set()
        assert (await response.read()).endswith(DONE)
