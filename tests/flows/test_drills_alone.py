"""Drills with nobody else to ask: each misdeed of a provider is an honest error, counted once, and costs no slot."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider
from tests.flows.drill import ENVIRON, Heard, alone, answer, ask, ask_at_once, at_rest, client, faults, scrape
from tests.flows.misdeeds import BOOM, DRILLS, THROTTLED, Drill, whole
from tests.provider import Script, Seen, Wire


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(client())


def assert_honest(drill: Drill, heard: Heard) -> None:
    """What the client saw: the right status, an error that says what happened, and no end that nobody wrote."""
    assert heard.status == drill.status
    assert heard.said == drill.said
    assert (heard.error["type"], heard.error["code"]) == (drill.type, drill.code)
    assert drill.says in heard.error["message"]
    assert heard.headers.get("Retry-After") == drill.retry_after
    assert (heard.who, heard.headers["x-runestone-attempts"]) == ("bad", "1")
    assert b"[DONE]" not in heard.body
    assert b"127.0.0.1" not in heard.body


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
async def test_a_misdeed_is_an_honest_error(
    drill: Drill,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Five calls hear what happened, each is counted once as the provider's failure, every slot is free again; if it
    is a failure of the provider at all, the sixth call is told when to come again without asking it.
    """
    up = await provider(drill.script)
    gate = await gateway(alone(up.url, more=drill.more()), ENVIRON)
    for heard in await ask_at_once(http, gate, 5, stream=drill.stream):
        assert_honest(drill, heard)
    pool = await at_rest(http, gate, "bad", up)
    assert (pool["acquired"], pool["idle"] > 0) == (5, drill.keeps)
    metrics = await scrape(http, gate)
    code = drill.code if isinstance(drill.code, str) else "provider_error"
    assert metrics.answered == {("bad", str(drill.status)): 5}
    assert metrics.errors == {("provider", code): 5}
    assert (metrics.extra, metrics.total("pool_acquired_total")) == ((0, 0), 5)
    assert metrics.breaker("bad/x") == drill.breaker
    sixth = await ask(http, gate, stream=drill.stream)
    if drill.breaker == 2.0:
        assert (sixth.status, sixth.error["code"]) == (503, "service_unavailable")
        assert 25 <= int(sixth.headers["Retry-After"]) <= 30
        assert len(up.requests) == 5
        assert (await scrape(http, gate)).errors[("gateway", "service_unavailable")] == 1
    else:
        assert_honest(drill, sixth)
    assert (await at_rest(http, gate, "bad", up))["acquired"] == len(up.requests)
    assert faults(caplog) == []


@pytest.mark.parametrize(
    ("script", "attempts"),
    [
        pytest.param(whole(BOOM, 529), 3, id="529"),
        pytest.param(whole(THROTTLED, 429), 3, id="429, not told when"),
        pytest.param(whole(THROTTLED, 429, retry_after="0"), 3, id="429, told at once"),
        pytest.param(whole(THROTTLED, 429, retry_after="60"), 1, id="429, told much later"),
        pytest.param(whole(BOOM, 529, retry_after="60"), 1, id="529, told much later"),
        pytest.param(whole(b"<html>"), 3, id="garbage"),
    ],
)
async def test_retries_are_counted_and_the_call_once(
    script: Script, attempts: int, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With retries on, the only target is asked three times, unless it says to come again much later; the client
    hears one error, the metrics count one failed call and two retries.
    """
    up = await provider(script)
    gate = await gateway(alone(up.url, top=""), ENVIRON)
    heard = await ask(http, gate)
    assert heard.status in (429, 502)
    assert (len(up.requests), heard.headers["x-runestone-attempts"]) == (attempts, str(attempts))
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", str(heard.status)): 1}
    assert metrics.total("errors_total") == metrics.total("errors_total", source="provider") == 1
    assert metrics.extra == (attempts - 1, 0)
    assert (await at_rest(http, gate, "bad", up))["acquired"] == attempts


async def test_a_provider_that_was_throttled_for_a_moment_is_waited_for(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A 429 that says when, soon enough: the client waits and is answered, and nothing counts as failed."""
    turns = iter([whole(THROTTLED, 429, retry_after="0.05"), answer])

    async def script(seen: Seen, wire: Wire) -> None:
        await next(turns)(seen, wire)

    up = await provider(script)
    gate = await gateway(alone(up.url, top=""), ENVIRON)
    assert (await ask(http, gate)).is_whole
    metrics = await scrape(http, gate)
    assert (metrics.answered, metrics.errors, metrics.extra) == ({("bad", "200"): 1}, {}, (1, 0))
    assert (metrics.breaker("bad/x"), (await at_rest(http, gate, "bad", up))["acquired"]) == (0.0, 2)
