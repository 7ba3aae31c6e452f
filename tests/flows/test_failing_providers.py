"""Providers fail, users don't notice: breakers, retries, failover, hedges, deadlines of a first event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import Gateway
from tests.provider import Script, Seen, Wire

ASK = {"model": "both", "messages": [{"role": "user", "content": "hi"}]}
ONE = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'
BOTH = '[models.both]\ntargets = ["bad/x", "good/y"]\n'


def two(bad: str, good: str, top: str = "", more: str = "") -> str:
    return f"pool.warmup = 0\n{top}" + ONE.format("bad", bad) + ONE.format("good", good) + BOTH + more


async def answer(seen: Seen, wire: Wire) -> None:
    if seen.json.get("stream"):
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "x"}) + STOP + DONE)
        await wire.end_stream()
    else:
        await wire.answer({"choices": [], "id": "good"})


def failing(status: int) -> Script:
    async def fail(seen: Seen, wire: Wire) -> None:
        await wire.answer({"error": {"message": "boom"}}, status=status)

    return fail


async def silent(seen: Seen, wire: Wire) -> None:
    await wire.left(30)


async def garbage(seen: Seen, wire: Wire) -> None:
    await wire.answer(b"<html>")


async def hang_up(seen: Seen, wire: Wire) -> None:
    wire.close()


async def error_in_a_200(seen: Seen, wire: Wire) -> None:
    await wire.answer({"error": {"message": "boom"}})


async def ask(http: aiohttp.ClientSession, gate: Gateway, **more: object) -> tuple[int, str]:
    """(status, who answered)."""
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, **more}) as response:
        await response.read()
        return response.status, response.headers.get("x-runestone-provider", "")


async def metric(http: aiohttp.ClientSession, gate: Gateway, line: str) -> float:
    async with http.get(gate.url + "/metrics") as response:
        text = await response.text()
    found = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")]
    return float(found[0]) if found else 0.0


@pytest.mark.parametrize("script", [failing(500), failing(503), failing(529), garbage, hang_up, error_in_a_200])
async def test_a_failing_target_is_taken_out_after_five_failures(
    script: Callable[[Seen, Wire], object],
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """Every client is answered by the other target; after five failures the first is not asked any more."""
    bad, good = await provider(script), await provider(answer)  # type: ignore[arg-type]
    gate = await gateway(two(bad.url, good.url))
    for _ in range(20):
        assert await ask(http, gate) == (200, "good")
    assert len(bad.requests) == 5
    assert await metric(http, gate, 'runestone_breaker_state{target="bad/x"}') == 2.0
    assert await metric(http, gate, "runestone_failovers_total") == 20.0


async def test_a_target_that_recovers_is_brought_back(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """After its rest a few calls try it, and two successes close the breaker."""
    bad, good = await provider(failing(500)), await provider(answer)
    gate = await gateway(two(bad.url, good.url, more='[breaker]\nreset_timeout = "50ms"\n'))
    for _ in range(5):
        await ask(http, gate)
    bad.script = answer
    async with asyncio.timeout(5):
        while await metric(http, gate, 'runestone_breaker_state{target="bad/x"}') != 0.0:
            await ask(http, gate)
    assert await ask(http, gate) == (200, "bad")


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_callers_mistake_opens_nothing(
    status: int, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A 4xx says nothing of the target, however many there are."""
    bad, good = await provider(failing(status)), await provider(answer)
    gate = await gateway(two(bad.url, good.url))
    for _ in range(10):
        await ask(http, gate)
    assert len(bad.requests) == 10


async def test_a_deadline_of_the_caller_opens_nothing(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A client that waits for a millisecond cannot take a provider from everybody."""
    slow = await provider(silent)
    gate = await gateway("pool.warmup = 0\n" + ONE.format("up", slow.url))
    for _ in range(10):
        headers = {"x-runestone-timeout": "20ms"}
        async with http.post(
            gate.url + "/v1/chat/completions", json={**ASK, "model": "up/x"}, headers=headers
        ) as response:
            assert response.status == 504
    assert await metric(http, gate, 'runestone_breaker_state{target="up/*"}') == 0.0


async def test_with_nobody_left_the_wait_is_told(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The only target's breaker is open: a 503 that says when to come again, without asking."""
    bad = await provider(failing(500))
    gate = await gateway("routing.retries = 0\npool.warmup = 0\n" + ONE.format("up", bad.url))
    for _ in range(5):
        assert (await ask(http, gate, model="up/x"))[0] == 502
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "model": "up/x"}) as response:
        assert response.status == 503
        assert 25 <= int(response.headers["Retry-After"]) <= 30
    assert len(bad.requests) == 5


async def test_a_passing_failure_is_retried_unseen(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """One bad answer of the only target, and the client hears the next one."""
    states = iter([failing(503), answer])

    async def script(seen: Seen, wire: Wire) -> None:
        await next(states)(seen, wire)

    up = await provider(script)
    gate = await gateway("pool.warmup = 0\n" + ONE.format("up", up.url))
    assert await ask(http, gate, model="up/x") == (200, "up")
    assert await metric(http, gate, "runestone_retries_total") == 1.0


async def test_one_of_two_dies_under_load_and_nobody_notices(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Killed in the middle of 400 calls, 50 at a time: every call is answered."""
    bad, good = await provider(answer), await provider(answer)
    gate = await gateway(two(bad.url, good.url))
    outcomes: list[tuple[int, str]] = []

    async def caller() -> None:
        for _ in range(8):
            outcomes.append(await ask(http, gate))  # noqa: PERF401 - the death falls between two of them

    callers = asyncio.gather(*(caller() for _ in range(50)))
    await until(lambda: len(outcomes) > 100)
    bad.kill()
    await callers
    assert {status for status, _ in outcomes} == {200}
    assert {who for _, who in outcomes} == {"bad", "good"}


async def test_a_stream_that_does_not_begin_fails_over_unseen(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """No first event within ttft_timeout, though the head has come: the next target streams."""

    async def head_only(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.left()

    bad, good = await provider(head_only), await provider(answer)
    gate = await gateway(two(bad.url, good.url, top='routing.ttft_timeout = "100ms"\n'))
    assert await ask(http, gate, stream=True) == (200, "good")
    await until(lambda: bad.open == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_answer_is_overtaken_by_a_hedge(
    stream: bool, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The second target answers first; the first attempt is cancelled at once, and it was one extra call."""
    bad, good = await provider(silent), await provider(answer)
    gate = await gateway(two(bad.url, good.url, top='routing.hedge = "50ms"\n'))
    assert await ask(http, gate, stream=stream) == (200, "good")
    await until(lambda: bad.open == 0)
    assert (len(bad.requests), len(good.requests)) == (1, 1)
    assert await metric(http, gate, "runestone_hedges_total") == 1.0


async def test_a_fast_answer_needs_no_hedge(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Nobody else is asked while the first is in time."""
    bad, good = await provider(answer), await provider(answer)
    gate = await gateway(two(bad.url, good.url, top='routing.hedge = "5s"\n'))
    for _ in range(5):
        assert await ask(http, gate) == (200, "bad")
    assert good.requests == []


async def test_a_call_that_has_moved_on_is_not_hedged_as_well(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The first target failed at once, and the second is asked already: a hedge would only ask twice."""
    release = asyncio.Event()

    async def waits(seen: Seen, wire: Wire) -> None:
        await release.wait()
        await answer(seen, wire)

    bad, good = await provider(failing(500)), await provider(waits)
    gate = await gateway(two(bad.url, good.url, top='routing.hedge = "20ms"\n'))
    call = asyncio.ensure_future(ask(http, gate))
    await until(lambda: len(good.requests) == 1)
    await asyncio.sleep(0.06)
    release.set()
    assert await call == (200, "good")
    assert (len(bad.requests), len(good.requests)) == (1, 1)
    assert await metric(http, gate, "runestone_hedges_total") == 0.0


async def test_a_model_has_its_own_hedge(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`hedge` of a model is for that model alone."""
    bad, good = await provider(silent), await provider(answer)
    mine = '[models.mine]\ntargets = ["bad/x", "good/y"]\nhedge = "30ms"\n'
    top = 'routing.timeouts.first_byte = "200ms"\n'
    gate = await gateway(two(bad.url, good.url, top=top, more=mine))
    assert await ask(http, gate, model="mine") == (200, "good")
    assert await metric(http, gate, "runestone_hedges_total") == 1.0
    assert await ask(http, gate, model="both") == (200, "good")
    assert await metric(http, gate, "runestone_hedges_total") == 1.0


async def test_operators_see_and_steer_providers(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """/admin/providers shows pools and breakers; drain takes a provider out, resume brings it back, reset forgives."""
    bad, good = await provider(failing(500)), await provider(answer)
    keys = '[[auth.keys]]\nname = "ops"\nkey = "env:OPS"\nadmin = true\n'
    gate = await gateway(two(bad.url, good.url, more=keys), {"OPS": "ops-key"})
    headers = {"x-api-key": "ops-key"}

    async def act(verb: str, name: str) -> None:
        async with http.post(gate.url + f"/admin/providers/{name}/{verb}", headers=headers) as response:
            assert response.status == 200

    for _ in range(5):
        await ask(http, gate)
    async with http.get(gate.url + "/admin/providers", headers=headers) as response:
        shown = await response.json()
    (target, _) = shown["bad"]["targets"]
    assert (target["target"], target["breaker"]) == ("bad/x", "open")
    assert shown["good"]["pool"]["acquired"] == 5
    bad.script = answer
    await act("reset", "bad")
    assert await ask(http, gate) == (200, "bad")
    await act("drain", "bad")
    assert await ask(http, gate) == (200, "good")
    await act("resume", "bad")
    assert await ask(http, gate) == (200, "bad")
    async with http.post(gate.url + "/admin/providers/none/reset", headers=headers) as response:
        assert response.status == 404


async def test_steering_fields_choose_and_stay_here(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`provider` in the body picks a target and is not sent up; one that leaves nobody is a 400 that names it."""
    bad, good = await provider(answer), await provider(answer)
    gate = await gateway(two(bad.url, good.url))
    assert await ask(http, gate, provider="good") == (200, "good")
    assert "provider" not in good.requests[0].json
    assert (await ask(http, gate, provider="nobody"))[0] == 400
    assert await ask(http, gate, provider={"order": ["x"]}) == (200, "bad")
    assert bad.requests[0].json["provider"] == {"order": ["x"]}


async def test_providers_own_lists_are_shown(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A provider whose models nobody named one by one is asked, once; one that does not answer is left out."""

    async def lists(seen: Seen, wire: Wire) -> None:
        await wire.answer({"data": [{"id": "gpt-5"}, {"id": "other"}, {"no": "id"}, 5]})

    up, dead = await provider(lists), "http://127.0.0.1:9"
    one = '[providers.up]\nkind = "openai"\nbase_url = "{}/v1"\napi_keys = ["env:K"]\n'
    gate = await gateway("pool.warmup = 0\n" + one.format(up.url) + ONE.format("dead", dead), {"K": "k"})
    for _ in range(3):
        async with http.get(gate.url + "/v1/models") as response:
            names = [model["id"] for model in (await response.json())["data"]]
    assert {"gpt-5", "up/other", "text-embedding-ada-002"} <= set(names)
    assert [seen.path for seen in up.requests] == ["/v1/models"]


async def test_round_robin_takes_turns_by_weight(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Three calls to one of weight 3 for each call to one of weight 1."""
    bad, good = await provider(answer), await provider(answer)
    gate = await gateway(two(bad.url, good.url, more='strategy = "round_robin"\nweights = [3, 1]\n'))
    who = [(await ask(http, gate))[1] for _ in range(8)]
    assert (who.count("bad"), who.count("good")) == (6, 2)


async def test_hundreds_of_streams_run_at_once(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """No limit is in the way of 300 calls at a time that nothing is wrong with, from the first second on."""
    release = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE)
        await release.wait()
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway("pool.warmup = 0\n" + ONE.format("up", up.url))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as many:
        calls = [asyncio.ensure_future(ask(many, gate, model="up/x", stream=True)) for _ in range(300)]
        await until(lambda: len(up.requests) == 300)
        release.set()
        assert set(await asyncio.gather(*calls)) == {(200, "up")}
