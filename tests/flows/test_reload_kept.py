"""What outlives a reload: connections, what is known of providers, what keys have used, answers, counters, sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import permutations
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import until
from tests.flows.drill import ANSWER
from tests.flows.reloading import (
    ENVIRON,
    ROOT,
    TEAM,
    TOP,
    UNSAVED,
    Reloadable,
    chat,
    goodbye,
    keys,
    provider,
    reloadable,
)
from tests.flows.talk import Speaker, question, talking, text_of
from tests.provider import FakeProvider, Seen, Wire

NEW = "[models.new]\ntargets = ['up/x']\n"
"""A change that has nothing to do with anything."""


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


async def fail(seen: Seen, wire: Wire) -> None:
    await wire.answer({"error": {"message": "no"}}, status=500)


async def admin(http: aiohttp.ClientSession, gate: Reloadable, name: str = "up") -> dict[str, object]:
    async with http.get(gate.url + "/admin/providers", headers=ROOT) as response:
        told: dict[str, object] = (await response.json())[name]
        return told


async def test_a_provider_that_is_configured_as_before_keeps_its_connections(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Ten reloads with a call after each go over one connection, and its pool has counted them all."""
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys() + UNSAVED
        async with reloadable(base, tmp_path) as gate:
            for number in range(10):
                assert (await chat(http, gate))[0] == 200
                await gate.reload(base + f"[models.m{number}]\ntargets = ['up/x']\n")
            await gate.retired()
            assert up.opened == 1
            assert gate.upstream("up").pool.waits.counts[0] == 10


@pytest.mark.parametrize("change", [NEW, 'headers = { x-a = "b" }\n', "[breaker]\nfailure_threshold = 2\n"])
async def test_what_is_known_of_a_provider_is_known_on(
    change: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A breaker that is open stays so, and a credential that rests does, where their provider and the rules are what
    they were; where one of them is not, it is a new provider.
    """
    is_kept = change == NEW

    async def script(seen: Seen, wire: Wire) -> None:
        if seen.headers["authorization"] == f"Bearer {ENVIRON['UP_KEY']}":
            await wire.answer({"error": {"message": "who is that?"}}, status=401)
        else:
            await fail(seen, wire)

    async with FakeProvider(script) as up:
        head = 'api_keys = ["env:UP_KEY", "env:OTHER_KEY"]\n'
        base = provider("up", up.url).replace('api_keys = ["env:UP_KEY"]\n', head)
        rules = "[breaker]\nfailure_threshold = 1\n"
        async with reloadable(TOP + base + keys() + rules + "[models.m]\ntargets = ['up/x']\n", tmp_path) as gate:
            assert [(await chat(http, gate))[0] for _ in range(2)] == [502, 503]
            asked = len(up.requests)
            after = base + change if change.startswith("headers") else base
            other = rules if not change.startswith("[breaker]") else change
            more = NEW if is_kept else ""
            await gate.reload(TOP + after + keys() + other + "[models.m]\ntargets = ['up/x']\n" + more)
            told = await admin(http, gate)
            states = {target["target"]: target["breaker"] for target in told["targets"]}  # type: ignore[attr-defined]
            assert states["up/x"] == ("open" if is_kept else "closed")
            assert (await chat(http, gate))[0] == (503 if is_kept else 502)
            assert (len(up.requests) == asked) is is_kept
            rests = [credential.reason for credential in gate.upstream("up").credentials.all]
            assert rests == ["refused", ""]


async def test_a_provider_that_an_operator_drained_stays_drained(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A reload that says nothing of it is no word to take calls again."""
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url) + keys()
        async with reloadable(base, tmp_path) as gate:
            async with http.post(gate.url + "/admin/providers/up/drain", headers=ROOT) as response:
                assert response.status == 200
            await gate.reload(base + NEW)
            assert (await chat(http, gate))[0] == 503
            assert up.requests == []


async def test_what_a_key_has_used_stays_used(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Calls of the minute, and calls under way, count on after a reload that leaves the key's limits as they were."""
    speaker = Speaker()
    async with FakeProvider(speaker.script) as up, FakeProvider(answer) as other:
        limits = "requests_per_minute = 3\nconcurrent_requests = 1"
        base = TOP + provider("up", up.url) + UNSAVED
        async with reloadable(base + keys(limits), tmp_path) as gate:
            running = asyncio.ensure_future(chat(http, gate, "long", headers=TEAM))
            await until(lambda: speaker.asked == ["long"])
            await gate.reload(TOP + provider("up", other.url) + UNSAVED + keys(limits))
            status, told = await chat(http, gate, headers=TEAM)
            assert (status, "at the same time" in told["error"]["message"]) == (429, True)
            speaker.say("long", "a")
            assert (await running)[0] == 200
            await gate.reload(base.replace(up.url, other.url) + keys(limits) + NEW)
            assert [(await chat(http, gate, headers=TEAM))[0] for _ in range(3)] == [200, 200, 429]


async def test_answers_are_kept_and_never_somebody_elses(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """From each scope to each other: who asks again after a reload is answered from memory where nothing has changed,
    and nobody ever hears what was kept for somebody else; not for a key that has gone to another tenant either.
    """
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url)

        def scoped(scope: str, tenants: tuple[str, str] = ("a", "b")) -> str:
            team, root = (f'tenant = "{tenant}"' for tenant in tenants)
            return f'{base}{keys(team, root + chr(10) + "admin = true")}[cache]\nscope = "{scope}"\n'

        async with reloadable(scoped("key"), tmp_path) as gate:
            asked = 0
            for one, other in permutations(("key", "tenant", "global"), 2):
                text = f"from {one} to {other}"
                await gate.reload(scoped(one))
                await chat(http, gate, text, headers=TEAM)
                await gate.reload(scoped(one) + NEW)
                await chat(http, gate, text, headers=TEAM)
                assert len(up.requests) == asked + 1
                await gate.reload(scoped(other))
                await chat(http, gate, text, headers=ROOT)
                assert len(up.requests) == asked + 2
                asked = len(up.requests)
            await gate.reload(scoped("tenant"))
            await chat(http, gate, "ours", headers=TEAM)
            await gate.reload(scoped("tenant", ("b", "a")))
            await chat(http, gate, "ours", headers=TEAM)
            assert len(up.requests) == asked + 2
            await chat(http, gate, "ours", headers=ROOT)  # is of tenant a now, whose answer it is
            assert len(up.requests) == asked + 2


async def test_a_model_that_means_another_target_is_asked_anew(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """An answer is kept for what was asked where: a name that leads elsewhere is another question."""
    async with FakeProvider(answer) as up:
        base = TOP + provider("up", up.url)
        async with reloadable(base + "[models.m]\ntargets = ['up/one']\n", tmp_path) as gate:
            await chat(http, gate)
            await gate.reload(base + "[models.m]\ntargets = ['up/other']\n")
            await chat(http, gate)
            assert [seen.json["model"] for seen in up.requests] == ["one", "other"]


async def counted(http: aiohttp.ClientSession, gate: Reloadable) -> dict[tuple[str, str], float]:
    """Everything in /metrics that only ever grows."""
    async with http.get(gate.url + "/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def test_counters_never_fall(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Whatever changes: a provider that is kept, moved, gone and there again; models, keys, the cache, telemetry."""
    async with FakeProvider(answer) as up, FakeProvider(answer) as other:
        one, moved = provider("up", up.url), provider("up", other.url)
        ways = [
            *(
                one + NEW,
                moved,
                moved + UNSAVED,
                provider("other", other.url),
                one,
                one + keys("requests_per_minute = 9"),
            ),
            *(one + "[pipelines]\ndefault = ['...']\n", one + "[telemetry]\nenabled = false\n"),
        ]
        async with reloadable(TOP + one, tmp_path) as gate:
            before: dict[tuple[str, str], float] = {}
            for number, way in enumerate([*ways, *ways]):
                for _ in range(3):
                    assert (await chat(http, gate, f"call {number}"))[0] == 200
                now = await counted(http, gate)
                fallen = [key for key, value in before.items() if now.get(key, value) < value]
                assert not fallen, (number, fallen)
                before = {**before, **now}
                await gate.reload(TOP + way)
            assert before["runestone_reloads_total", "[('result', 'done')]"] == len([*ways, *ways]) - 1


@asynccontextmanager
async def speaking(folder: Path, auth: str) -> AsyncIterator[tuple[Reloadable, Speaker, str]]:
    """A gateway, a provider that says what it is told, and the configuration without its keys."""
    speaker = Speaker()
    async with FakeProvider(speaker.script) as up:
        base = TOP + provider("up", up.url) + UNSAVED
        async with reloadable(base + auth, folder) as gate:
            yield gate, speaker, base


async def test_sessions_go_on(tmp_path: Path) -> None:
    """A connection stays, with its numbers, rooms and streams; what it asks next is asked under the new file."""
    async with (
        speaking(tmp_path, keys()) as (gate, speaker, _),
        FakeProvider(speaker.script) as other,
        talking(gate, headers=TEAM) as talk,
        talking(gate, headers=TEAM) as friend,
    ):
        for client in (talk, friend):
            await client.ask("room:join", {"room": "a"})
        one = await talk.start("one", room="a")
        speaker.say("one", "a")
        await friend.wait("stream:chunk")
        await gate.reload(TOP + provider("other", other.url) + UNSAVED + keys("requests_per_minute = 60"))
        two = await talk.start("two", room="a")
        for text in ("one", "two"):
            speaker.say(text, "b")
            speaker.end(text)
        for client in (talk, friend):
            ends = [await client.wait("stream:complete") for _ in range(2)]
            who = {end["payload"]["stream_id"]: end["payload"]["response"]["provider"] for end in ends}
            assert who == {one: "up", two: "other"}
            assert (text_of(client.heard, one), text_of(client.heard, two)) == ("ab", "b")
        assert len(other.requests) == 1


GONE = '[[auth.keys]]\nname = "root"\nkey = "env:ROOT"\nadmin = true\n'
CHANGES = {
    "gone": GONE,
    "inactive": keys("active = false"),
    "another": keys().replace("env:TEAM", "env:OTHER_KEY"),
    "narrower": keys("models = ['n*']"),
    "of somebody else": keys('tenant = "elsewhere"'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_sessions_of_a_changed_key_are_let_go(change: str, tmp_path: Path) -> None:
    """What runs comes to its end, nothing new begins, then 1008; idle and absent ones go at once; those of other keys
    notice nothing.
    """
    async with speaking(tmp_path, keys()) as (gate, speaker, base), AsyncExitStack() as stack:
        busy, idle, away, root, nobody = [
            await stack.enter_async_context(talking(gate, headers=headers)) for headers in (TEAM, TEAM, TEAM, ROOT, {})
        ]
        one = await busy.start("one")
        await away.start("left behind")
        await until(lambda: set(speaker.asked) == {"one", "left behind"})
        away.lose()
        await until(lambda: gate.app.live.sessions.away == 1)
        await gate.reload(base + change)
        assert await goodbye(idle) == 1008
        await until(lambda: gate.app.live.sessions.away == 0 and "left behind" in speaker.gone)
        for event in ("chat:stream", "chat:message"):
            assert await busy.refused(event, question("late")) == "unauthorized"
        speaker.say("one", "a")
        speaker.end("one")
        await busy.wait("stream:complete")
        assert text_of(busy.heard, one) == "a"
        assert await goodbye(busy) == 1008
        assert (await root.ask("ping"))["event"] == (await nobody.ask("ping"))["event"] == "pong"
        assert len(list(gate.app.live.sessions)) == 2
        async with talking(gate, headers=ROOT) as again:
            assert (await again.resume(idle.session, 1))["event"] == "session:lost"
        assert set(speaker.asked) == {"one", "left behind"}


async def test_callers_without_a_key_go_when_one_is_needed(tmp_path: Path) -> None:
    """`auth.required` closes the door behind those who are in, too; limits alone let nobody go."""
    async with (
        speaking(tmp_path, keys()) as (gate, _, base),
        talking(gate) as nobody,
        talking(gate, headers=TEAM) as team,
    ):
        await gate.reload(base + keys("requests_per_minute = 7\nqueue = '1s'"))
        assert (await nobody.ask("ping"))["event"] == (await team.ask("ping"))["event"] == "pong"
        await gate.reload("auth.required = true\n" + base + keys())
        assert await goodbye(nobody) == 1008
        assert (await team.ask("ping"))["event"] == "pong"
