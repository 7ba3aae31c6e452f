"""Drills beside a target that is well: the client notices nothing, as long as nothing had been said."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider
from tests.flows.drill import ENVIRON, answer, ask, ask_at_once, at_rest, beside, client, faults, scrape
from tests.flows.misdeeds import CHUNKED, DRILLS, ERROR_EVENT, TTFT, Drill, deadline, raw, stream, trickle
from tests.flows.test_drills_alone import assert_honest
from tests.provider import Script

UNHURRIED = 0.4
"""Seconds: a deadline that the target that is well keeps, however busy the machine."""
UNSEEN = [drill for drill in DRILLS if drill.is_unseen]
SEEN = [drill for drill in DRILLS if not drill.is_unseen]


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(client())


@pytest.mark.parametrize("drill", UNSEEN, ids=lambda drill: drill.name)
async def test_a_misdeed_is_not_noticed(
    drill: Drill,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten calls are answered whole by the other target and none counts as failed; who failed five times is not asked
    again; both pools are as before.
    """
    bad, good = await provider(drill.script), await provider(answer)
    gate = await gateway(beside(bad.url, good.url, more=drill.more(UNHURRIED)), ENVIRON)
    for _ in range(2):
        for heard in await ask_at_once(http, gate, 5, stream=drill.stream):
            assert (heard.is_whole, heard.who, heard.headers["x-runestone-attempts"]) == (True, "good", "2")
            assert heard.is_stream == drill.stream
    asked = 5 if drill.breaker == 2.0 else 10
    pool = await at_rest(http, gate, "bad", bad)
    assert (len(bad.requests), pool["acquired"], pool["idle"] > 0) == (asked, asked, drill.keeps)
    assert (await at_rest(http, gate, "good", good))["acquired"] == 10
    metrics = await scrape(http, gate)
    assert metrics.answered == {("good", "200"): 10}
    assert metrics.errors == {}
    assert metrics.extra == (0, 10)
    assert metrics.by("pool_acquired_total", "provider") == {("bad",): asked, ("good",): 10}
    assert (metrics.breaker("bad/x"), metrics.breaker("good/y")) == (drill.breaker, 0.0)
    assert faults(caplog) == []


@pytest.mark.parametrize("drill", SEEN, ids=lambda drill: drill.name)
async def test_what_was_said_is_not_said_again(
    drill: Drill, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Behind a first event, or a deadline of the whole call, another target is not asked: the error is as honest as
    without one. The target is taken out all the same, so the sixth client notices nothing.
    """
    bad, good = await provider(drill.script), await provider(answer)
    gate = await gateway(beside(bad.url, good.url, more=drill.more()), ENVIRON)
    for heard in await ask_at_once(http, gate, 5, stream=drill.stream):
        assert_honest(drill, heard)
    await at_rest(http, gate, "bad", bad)
    assert good.requests == []
    metrics = await scrape(http, gate)
    assert metrics.answered == {("bad", str(drill.status)): 5}
    assert (metrics.extra, metrics.breaker("bad/x")) == ((0, 0), 2.0)
    (sixth,) = await ask_at_once(http, gate, 1, stream=drill.stream)
    assert (sixth.is_whole, sixth.who) == (True, "good")
    assert len(bad.requests) == 5
    assert (await at_rest(http, gate, "good", good))["acquired"] == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(stream(ERROR_EVENT), id="an error event"),
        pytest.param(stream(b": ping\n\n", ERROR_EVENT), id="a comment, then an error event"),
        pytest.param(stream(b": ping\n\n"), id="a comment and nothing else"),
        pytest.param(raw(CHUNKED + b"8\r\n: ping\n\n\r\n", b"", ends=True), id="a comment, then the cut"),
        pytest.param(trickle(CHUNKED, b"8\r\n: ping\n\n\r\n"), id="comments without end"),
    ],
)
async def test_what_says_nothing_is_no_beginning(
    script: Script, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A stream whose first event is an error, or that sends comments only, has not begun: another target streams."""
    bad, good = await provider(script), await provider(answer)
    gate = await gateway(beside(bad.url, good.url, top=TTFT, more=deadline("total", 1.0)), ENVIRON)
    heard = await ask(http, gate, stream=True)
    assert (heard.is_whole, heard.who) == (True, "good")
    assert (await scrape(http, gate)).extra == (0, 1)
    await at_rest(http, gate, "bad", bad)
