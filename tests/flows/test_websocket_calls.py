"""A call over a WebSocket is a call like any other: cached, collapsed, limited, routed, recorded."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.drill import Metrics, client, scrape
from tests.flows.talk import Message, Speaker, Talk, question, talking, text_of
from tests.flows.test_cached_answers import answers
from tests.flows.test_failing_providers import answer, failing, two
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider

CACHE = "[cache]\n"


@pytest.fixture
async def many() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as session:
        yield session


async def over_http(http: aiohttp.ClientSession, gate: Gateway, **more: object) -> str:
    """Asks the same as `streamed`: the Cache-Status."""
    async with http.post(gate.url + "/v1/chat/completions", json=question(**more)) as response:
        assert response.status == 200
        await response.read()
        return response.headers.get("Cache-Status", "")


async def streamed(talk: Talk, **more: object) -> tuple[str, Message]:
    """(text, response of stream:complete)."""
    stream_id = await talk.start(**more)  # type: ignore[arg-type]
    done = await talk.wait("stream:complete", stream_id=stream_id)
    return text_of(talk.heard, stream_id), done["payload"]["response"]


async def standing(gateway: StartGateway, provider: StartProvider, extra: str = CACHE) -> tuple[Gateway, FakeProvider]:
    up = await provider(answers)
    return await gateway(relay(up.url, extra=extra), ENVIRON), up


async def test_what_was_asked_over_http_is_known_here(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """JSON and stream, there and here, whoever was first: one provider call, the same text, reason and usage."""
    gate, up = await standing(gateway, provider)
    async with talking(gate) as talk:
        assert "fwd=miss" in await over_http(many, gate)
        text, response = await streamed(talk)
        assert (text, response["cache"]) == ("hello", "hit")
        assert response["finish_reason"] == "stop"
        assert response["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        whole = await talk.ask("chat:message", question())
        assert whole["payload"]["choices"][0]["message"]["content"] == "hello"
        assert len(up.requests) == 1
        text, response = await streamed(talk, text="again")
        assert (text, response["cache"]) == ("hello", "miss")
        assert (await over_http(many, gate, text="again")).startswith("runestone; hit")
        assert len(up.requests) == 2


async def test_a_browsers_handshake_is_no_wish_of_the_cache(gateway: StartGateway, provider: StartProvider) -> None:
    """Browsers send `Pragma: no-cache` and `Cache-Control: no-cache` with every WebSocket handshake, and a page can
    change neither: that is about the handshake, and its calls are answered from memory like those of others.
    """
    gate, up = await standing(gateway, provider)
    async with talking(gate) as talk:
        await streamed(talk)
    browser = {"Origin": gate.url, "Pragma": "no-cache", "Cache-Control": "no-cache", "User-Agent": "Mozilla/5.0"}
    async with talking(gate, headers=browser) as page:
        assert (await streamed(page))[1]["cache"] == "hit"
    assert len(up.requests) == 1


async def test_headers_of_the_handshake_hold_for_every_call(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """`no-store` keeps nothing, `no-cache` asks anew, tags are what an answer is cleared by, as over HTTP."""
    admin = '[[auth.keys]]\nname = "ops"\nkey = "env:OPS"\nadmin = true\n'
    up = await provider(answers)
    gate = await gateway(relay(up.url, extra=CACHE + admin), {**ENVIRON, "OPS": "ops-key"})

    async def ask_twice(**headers: str) -> list[str]:
        async with talking(gate, headers=headers) as talk:
            return [(await streamed(talk))[1]["cache"] for _ in range(2)]

    assert await ask_twice(**{"Cache-Control": "no-store"}) == ["bypass", "bypass"]
    assert await ask_twice(**{"x-runestone-tags": "mine, other"}) == ["miss", "hit"]
    assert len(up.requests) == 3
    body, ops = {"tag": "mine"}, {"x-api-key": "ops-key"}
    async with many.post(gate.url + "/admin/cache/clear", json=body, headers=ops) as response:
        assert response.status == 200
    assert await ask_twice(**{"x-runestone-cache-ttl": "1h"}) == ["miss", "hit"]
    assert await ask_twice(**{"Cache-Control": "no-cache"}) == ["miss", "miss"]
    assert len(up.requests) == 6


async def test_the_same_question_in_flight_is_asked_once(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """Two streams of one connection, one of another, and one over HTTP: one provider call; each has the text, and
    only the last to leave ends it.
    """
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra=CACHE), ENVIRON)
    async with talking(gate) as one, talking(gate) as other:
        first = await one.start("q")
        await until(lambda: len(up.requests) == 1)
        second = await one.start("q")
        third = await other.start("q")
        await until(lambda: gate.app.caching.joined.count == 2)
        speaker.say("q", "a")
        for talk, stream_id in ((one, first), (one, second), (other, third)):
            while not any(
                told["payload"].get("chunk") and told["payload"]["stream_id"] == stream_id for told in talk.heard
            ):
                await talk.next()
        await one.control("cancel", first)
        speaker.say("q", "b")
        speaker.end("q")
        done = (await one.wait("stream:complete", stream_id=second))["payload"]["response"]
        assert done["cache"] == "miss", "the first one has left, and somebody pays"
        await other.wait("stream:complete")
        assert text_of(one.heard, second) == text_of(other.heard, third) == "ab"
        assert text_of(one.heard, first) == "a"
    assert len(up.requests) == 1
    assert not speaker.gone


async def test_a_paused_stream_does_not_hold_up_who_asked_the_same(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """It is paused for itself alone; resumed, it has the whole text from what was kept."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra=CACHE), ENVIRON)
    async with talking(gate) as one, talking(gate) as other:
        paused = await one.start("q")
        await until(lambda: len(up.requests) == 1)
        await one.control("pause", paused)
        going = await other.start("q")
        speaker.say("q", "a", "b", "c")
        speaker.end("q")
        await other.wait("stream:complete")
        assert text_of(other.heard, going) == "abc"
        await one.control("resume", paused)
        await one.wait("stream:complete")
        assert text_of(one.heard, paused) == "abc"
    assert len(up.requests) == 1


async def test_cancelling_the_only_one_ends_the_collapsed_call(gateway: StartGateway, provider: StartProvider) -> None:
    """Two streams of one question: after both are cancelled the provider is rid of it, within a second."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra=CACHE), ENVIRON)
    async with talking(gate) as talk:
        ids = [await talk.start("q")]
        await until(lambda: len(up.requests) == 1)
        ids.append(await talk.start("q"))
        await until(lambda: gate.app.caching.joined.count == 1)
        await talk.control("cancel", ids[0])
        assert up.open == 1
        await talk.control("cancel", ids[1])
        await until(lambda: up.open == 0, seconds=1.0)


KEYS = '[[auth.keys]]\nname = "team"\nkey = "env:TEAM"\n{}\n'
SECRETS = {**ENVIRON, "TEAM": "key-team"}
TEAM = {"x-api-key": "key-team"}


async def test_a_keys_limits_hold_here(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """Two a minute, over HTTP and here together: the next one is refused in both ways, and goes nowhere."""
    up = await provider(answers)
    gate = await gateway(relay(up.url, extra=KEYS.format("requests_per_minute = 2")), SECRETS)
    async with many.post(gate.url + "/v1/chat/completions", json=question(), headers=TEAM) as response:
        assert response.status == 200
    async with talking(gate, headers=TEAM) as talk, talking(gate) as anybody:
        await streamed(talk)
        assert await talk.refused("chat:message", question()) == "rate_limit_exceeded"
        await talk.start()
        error = (await talk.wait("stream:error"))["payload"]["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert (await streamed(anybody))[0] == "hello"
    assert len(up.requests) == 3


@pytest.mark.parametrize("how", ["completed", "cancelled", "client gone"])
async def test_a_slot_is_given_back_however_a_stream_ends(
    how: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """`concurrent_requests = 1`: the next stream finds it free."""
    speaker = Speaker()
    up = await provider(speaker.script)
    extra = KEYS.format("concurrent_requests = 1") + '[websocket]\nresumable_for = "0s"\n'
    gate = await gateway(relay(up.url, extra=extra), SECRETS)
    async with talking(gate, headers=TEAM) as other:
        async with talking(gate, headers=TEAM) as talk:
            stream_id = await talk.start("one")
            await until(lambda: len(up.requests) == 1)
            await other.start("two")
            assert (await other.wait("stream:error"))["payload"]["error"]["code"] == "rate_limit_exceeded"
            if how == "completed":
                speaker.end("one")
                await talk.wait("stream:complete")
            elif how == "cancelled":
                await talk.control("cancel", stream_id)
            else:
                talk.lose()
                await until(lambda: up.open == 0)
        await other.start("three")
        speaker.end("three")
        await other.wait("stream:complete")


async def test_a_failing_target_is_not_noticed(gateway: StartGateway, provider: StartProvider) -> None:
    """The next target answers; stream:complete says which."""
    bad, good = await provider(failing(500)), await provider(answer)
    gate = await gateway(two(bad.url, good.url))
    async with talking(gate) as talk:
        text, response = await streamed(talk, model="both")
        assert (text, response["provider"], response["model"]) == ("x", "good", "y")
    assert len(bad.requests) >= 1


async def test_calls_are_in_the_metrics_and_the_log(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Each once, with its own id, its caller, and what the client saw of it: 200, 499 when it was cancelled, the error
    when it was refused.
    """
    caplog.set_level(logging.INFO, "runestone.calls")
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra=KEYS.format("")), SECRETS)
    async with talking(gate, headers={**TEAM, "x-request-id": "mine"}) as talk:
        one, two = await talk.start("one"), await talk.start("two")
        await until(lambda: len(up.requests) == 2)
        speaker.end("one")
        await talk.wait("stream:complete", stream_id=one)
        await talk.control("cancel", two)
        speaker.say("whole", "now")
        await talk.ask("chat:message", question("whole"))
        await talk.ask("chat:message", question(model="nobody"))
        assert await talk.refused("chat:message", {}) == "bad_request"
    metrics: Metrics = await scrape(many, gate)
    assert metrics.by("requests_total", "status") == {("200",): 2, ("499",): 1, ("404",): 1}
    assert metrics.errors == {
        ("client", "client_closed"): 1,
        ("client", "model_not_found"): 1,
        ("client", "bad_request"): 1,
    }
    lines = [record.fields for record in caplog.records if record.name == "runestone.calls"]  # type: ignore[attr-defined]
    assert [line["status"] for line in lines] == [200, 499, 200, 404]
    assert {line["key"] for line in lines} == {"team"}
    ids = [line["id"] for line in lines]
    assert len(set(ids)) == 4
    assert all(name.startswith("mine-") for name in ids)


async def test_a_key_of_ours_never_reaches_a_provider(gateway: StartGateway, provider: StartProvider) -> None:
    """Neither as a header nor as a sub-protocol; the provider gets its own, and no sign of a WebSocket."""
    up = await provider(answers)
    gate = await gateway(relay(up.url, extra=KEYS.format("")), SECRETS)
    async with talking(gate, protocols=("runestone", "runestone.key.key-team")) as talk:
        await streamed(talk)
    async with talking(gate, headers=TEAM) as talk:
        await streamed(talk)
    for seen in up.requests:
        assert seen.headers["authorization"] == "Bearer up-secret-0123456789"
        assert "key-team" not in str(seen.headers)
        assert not [name for name in seen.headers if "websocket" in name or name in ("upgrade", "origin")]
