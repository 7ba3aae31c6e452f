"""The cache in trouble: more questions than places, clocks that step, calls without end."""

from __future__ import annotations

import asyncio
import resource
import time
from time import perf_counter

import aiohttp
import orjson
import pytest

from runestone.core.answer import Answer
from runestone.core.cache import Cache
from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.core.names import Listing, Names
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.gateway.cache import Freshness, FromCache, Keys, Tally
from runestone.gateway.coalesce import Coalesce, Joined
from runestone.gateway.pipeline import compose
from runestone.gateway.playback import Playback
from runestone.gateway.store import Store, Terms
from tests.conftest import StartGateway, StartProvider
from tests.flows.test_cached_answers import ANSWER, ASK, ask, standing
from tests.flows.test_failing_providers import metric
from tests.provider import Seen, Wire


async def test_eviction_under_load_mixes_nothing_up(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Forty callers, three hundred questions, fifty places: each answer is to its own question, and the bound holds."""

    async def echoes(seen: Seen, wire: Wire) -> None:
        await wire.answer({**ANSWER, "id": seen.json["messages"][0]["content"]})

    gate, up = await standing(gateway, provider, "[cache]\nmax_size = 50\n", echoes)
    wrong: list[str] = []

    async def caller(number: int) -> None:
        for step in range(40):
            text = f"question {(number * 7 + step * 13) % 300}"
            heard = await ask(http, gate, messages=[{"role": "user", "content": text}])
            if orjson.loads(heard.body)["id"] != text:
                wrong.append(text)

    await asyncio.gather(*(caller(number) for number in range(40)))
    assert wrong == []
    assert await metric(http, gate, "runestone_cache_entries") == 50
    evicted = await metric(http, gate, "runestone_cache_evictions_total")
    assert evicted == await metric(http, gate, "runestone_cache_stores_total") - 50 > 0
    answered = sum(
        [await metric(http, gate, f"runestone_cache_{name}_total") for name in ("hits", "collapsed")], len(up.requests)
    )
    assert answered == 1600


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0], ids=["a day back", "a day ahead"])
async def test_a_clock_that_steps_changes_no_answers_age(
    step: float,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Times are of the monotonic clock: a corrected system time lets nothing live longer, or end."""
    gate, up = await standing(gateway, provider)
    await ask(http, gate)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    heard = await ask(http, gate)
    assert (heard.cache, heard.age) == ("runestone; hit; ttl=299", "0")
    assert len(up.requests) == 1


async def test_two_hundred_thousand_different_calls_leave_memory_flat() -> None:
    """Through cache, collapsing and keeping, with a thousand places: what the last 150,000 add is less than 8 MB."""
    answers: Cache[Answer] = Cache(max_size=1000, max_bytes=1 << 30)
    keys = Keys(Names({}, {}, [Listing("up", ("m",))]), "key", frozenset())
    freshness = Freshness(ttl=1000.0)
    chain = compose(
        [
            FromCache(
                answers,
                keys,
                freshness,
                tally=Tally(),
                playback=lambda answer, sent, within: Playback(answer, sent, 0.0, within),
                refresh=lambda call, next: None,  # noqa: A006
            ),
            Coalesce(max_kept=1 << 20, joined=Joined()),
            Store(answers, Terms(freshness=freshness, max_entry=1 << 20)),
        ],
        _answer,
    )
    peaks = []
    for part in range(4):
        for number in range(50_000):
            fields = {**ASK, "seed": part * 50_000 + number}
            call = Call("id", Operation.CHAT, b"", fields, "m", False, ANONYMOUS, {}, None, perf_counter())
            (await chain(call)).close()
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert len(answers) == 1000
    assert answers.evictions == 199_000
    assert peaks[-1] - peaks[0] < 8 * 1024, peaks


async def _answer(call: Call) -> Reply:
    return Reply(200, [], Summary(), body=orjson.dumps(ANSWER))


async def test_a_failing_provider_does_not_empty_the_cache(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What is kept goes on being given while the only provider is dead."""
    gate, up = await standing(gateway, provider)
    first = await ask(http, gate)
    up.kill()
    assert (await ask(http, gate, seed=1)).status in (502, 503)
    assert (await ask(http, gate)).body == first.body
