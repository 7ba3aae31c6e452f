"""The cache as operators see it, fill it, empty it and keep it: over real sockets, and from one run to the next."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from runestone.config.load import load
from runestone.errors import ConfigurationError
from tests.conftest import StartProvider
from tests.flows.test_cached_answers import ANSWER, ASK, UP, ask
from tests.flows.test_failing_providers import metric
from tests.gateway import Gateway, start_gateway
from tests.process import serve
from tests.provider import FakeProvider, Seen, Wire

KEYS = (
    '[[auth.keys]]\nname = "root"\nkey = "env:ROOT"\nadmin = true\n'
    '[[auth.keys]]\nname = "team"\nkey = "env:TEAM"\n[[auth.keys]]\nname = "other"\nkey = "env:OTHER"\n'
)
ENVIRON = {"ROOT": "root-0123456789", "TEAM": "team-0123456789", "OTHER": "other-0123456789"}
ROOT, TEAM, OTHER = ({"authorization": f"Bearer {key}"} for key in ENVIRON.values())
EMBED = {"model": "up/m", "messages": None, "input": "a"}
EMBEDDED = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
}


async def answers(seen: Seen, wire: Wire) -> None:
    if not seen.json.get("stream"):
        await wire.answer(ANSWER if "input" not in seen.json else EMBEDDED)
        return
    await wire.begin_stream()
    for part in ("hel", "lo"):
        await wire.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % part.encode())
        await asyncio.sleep(0.02)
    await wire.chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    await wire.end_stream()


class House:
    """A folder with a configuration, and one provider; the gateway comes and goes."""

    def __init__(self, folder: Path, up: FakeProvider, http: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.up = up
        self.http = http

    @property
    def file(self) -> Path:
        return self.folder / "cache.db"

    @asynccontextmanager
    async def open(self, cache: str = "") -> AsyncIterator[Gateway]:
        toml = UP.format(self.up.url, "") + f"[cache]\n{cache}\n" + KEYS
        async with start_gateway(toml, self.folder, ENVIRON) as gate:
            yield gate

    async def admin(
        self,
        gate: Gateway,
        path: str = "",
        body: object = None,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Any]:
        """The status and the answer; a body makes it a POST."""
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        given = {**(ROOT if headers is None else headers), "content-type": kind}
        method = "GET" if body is None else "POST"
        async with self.http.request(method, f"{gate.url}/admin/cache{path}", data=data, headers=given) as response:
            return response.status, orjson.loads(await response.read())

    def write(self, name: str, lines: Iterable[object]) -> None:
        (self.folder / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


@pytest.fixture
async def house(tmp_path: Path, provider: StartProvider, http: aiohttp.ClientSession) -> House:
    return House(tmp_path, await provider(answers), http)


async def test_operators_see_what_is_kept(house: House) -> None:
    """Bounds, counters, the rate of hits, and which models the answers are of."""
    async with house.open('max_size = 7\nmax_bytes = "9MB"') as gate:
        for seed in (1, 2, 2):
            await ask(house.http, gate, TEAM, seed=seed)
        await ask(house.http, gate, TEAM, model="up/other")
        status, told = await house.admin(gate)
        stored = told.pop("bytes")
        assert (status, told) == (
            200,
            {
                "enabled": True,
                "entries": 3,
                "max_size": 7,
                "max_bytes": 9_000_000,
                "hits": 1,
                "misses": 3,
                "collapsed": 0,
                "stores": 3,
                "evictions": 0,
                "expirations": 0,
                "hit_rate": 0.25,
                "by_model": {"up/m": 2, "up/other": 1},
            },
        )
        assert stored == await metric(house.http, gate, "runestone_cache_bytes") > 3 * len(orjson.dumps(ANSWER))


async def test_the_list_of_models_is_bounded(house: House) -> None:
    """Names come from clients: the hundred with the most answers, none longer than a line."""
    line = {"response": ANSWER}
    names = ["up/" + "x" * 1000, *(f"up/{number}" for number in range(150))]
    lines = [{**line, "request": {**ASK, "model": name}} for name in names]
    async with house.open() as gate:
        await house.admin(gate, "/warm", b"\n".join(map(orjson.dumps, lines)))
        _, told = await house.admin(gate)
        assert (told["entries"], len(told["by_model"])) == (151, 100)
        assert max(map(len, told["by_model"])) == 200


@pytest.mark.parametrize(
    ("body", "cleared", "left"),
    [
        ({}, 4, []),
        ({"key": "team"}, 3, ["other m "]),
        ({"key": "nobody"}, 0, ["team m a", "team n a,b", "team m ", "other m "]),
        ({"model": "up/m"}, 3, ["team n a,b"]),
        ({"tag": "a"}, 2, ["team m ", "other m "]),
        ({"tag": "a,b"}, 0, ["team m a", "team n a,b", "team m ", "other m "]),
        ({"key": "team", "model": "up/m"}, 2, ["team n a,b", "other m "]),
        ({"key": "team", "model": "up/m", "tag": "a"}, 1, ["team n a,b", "team m ", "other m "]),
    ],
)
async def test_answers_are_cleared_by_key_model_and_tag(
    body: dict[str, str], cleared: int, left: list[str], house: House
) -> None:
    """All that is given must fit; what was cleared is asked for anew, and the rest is not."""
    calls = {
        "team m a": (TEAM, {"model": "up/m"}, "a"),
        "team n a,b": (TEAM, {"model": "up/n"}, "a,b"),
        "team m ": (TEAM, {"model": "up/m", "seed": 1}, ""),
        "other m ": (OTHER, {"model": "up/m"}, ""),
    }
    async with house.open() as gate:
        for who, fields, tags in calls.values():
            await ask(house.http, gate, {**who, "x-runestone-tags": tags}, **fields)
        assert await house.admin(gate, "/clear", body) == (200, {"cleared": cleared})
        only = {"cache-control": "only-if-cached"}
        heard = [
            name
            for name, (who, more, _) in calls.items()
            if "hit" in (await ask(house.http, gate, {**who, **only}, **more)).cache
        ]
        assert heard == left


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"keys": "team"}, "keys", "the cache cannot be cleared by 'keys', only by key, model, tag"),
        ({"key": "team", "all": True}, "all", "the cache cannot be cleared by 'all', only by key, model, tag"),
        ({"key": None}, "key", "'key' must be a non-empty string"),
        ({"tag": ""}, "tag", "'tag' must be a non-empty string"),
        ({"model": ["m"]}, "model", "'model' must be a non-empty string"),
        ([], None, "the body must be a JSON object"),
        (b"", None, "the body is not JSON: "),
    ],
)
async def test_what_cannot_be_cleared_is_named(body: object, param: str | None, message: str, house: House) -> None:
    """A 400, and nothing has gone: a mistaken name must not empty the cache."""
    async with house.open() as gate:
        await ask(house.http, gate)
        status, told = await house.admin(gate, "/clear", body)
        assert (status, told["error"]["param"]) == (400, param)
        assert told["error"]["message"].startswith(message)
        assert (await house.admin(gate))[1]["entries"] == 1


@pytest.mark.parametrize(("path", "body"), [("", None), ("/clear", {}), ("/warm", b"{}")])
async def test_nobody_else_may(path: str, body: object, house: House) -> None:
    """Callers without a key get a 401, other keys a 403; and what the path cannot do is a 405."""
    async with house.open() as gate:
        assert (await house.admin(gate, path, body, headers={}))[0] == 401
        assert (await house.admin(gate, path, body, headers=TEAM))[0] == 403
        assert (await house.admin(gate, path, b"{}" if body is None else None))[0] == 405


async def test_where_the_cache_is_off_it_says_so(house: House) -> None:
    """It can be looked at, and neither filled nor emptied; its files are not touched."""
    house.file.write_text("not a database")
    house.write("warm.jsonl", [{"request": ASK, "response": ANSWER}])
    async with house.open('enabled = false\npersist = "cache.db"\nwarm = "warm.jsonl"') as gate:
        status, told = await house.admin(gate)
        assert (status, told["enabled"], told["entries"]) == (200, False, 0)
        for path, body in (("/clear", {}), ("/warm", b"{}")):
            status, told = await house.admin(gate, path, body)
            assert (status, told["error"]["message"]) == (400, "the cache is off (cache.enabled = false)")
        assert (await ask(house.http, gate)).cache == ""
    assert house.file.read_text() == "not a database"


@pytest.mark.parametrize(
    "kind", ["application/jsonl", "application/x-ndjson", "text/plain; charset=utf-8", "application/json"]
)
async def test_what_is_sent_in_lines_answers_calls(kind: str, house: House) -> None:
    """Every endpoint, for the key that is named; a line that is wrong is named, and the provider is never asked."""
    team = {"key": "team"}
    messages = {**ASK, "max_tokens": 9}
    lines = [
        {"request": ASK, "response": ANSWER, **team},
        {"request": ASK, "response": {}},
        {"endpoint": "/v1/embeddings", "request": EMBED, "response": EMBEDDED, **team},
        {"endpoint": "/v1/messages", "request": messages, "response": MESSAGE, **team},
        {
            "endpoint": "/v1/completions",
            "request": {"model": "up/m", "prompt": "a"},
            "response": {"choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]},
            **team,
        },
    ]
    async with house.open() as gate:
        told = await house.admin(gate, "/warm", b"\n".join(map(orjson.dumps, lines)) + b"\n", kind=kind)
        assert told == (200, {"stored": 4, "errors": ["line 2: response: is not what this endpoint answers"]})
        heard = await ask(house.http, gate, TEAM)
        assert (heard.cache, heard.body) == ("runestone; hit; ttl=299", orjson.dumps(ANSWER))
        assert "hit" in (await ask(house.http, gate, TEAM, stream=True)).cache
        assert "hit" in (await ask(house.http, gate, TEAM, path="/v1/embeddings", **EMBED)).cache
        version = {"anthropic-version": "2023-06-01"}
        for more in ({}, version):
            assert "hit" in (await ask(house.http, gate, {**TEAM, **more}, path="/v1/messages", max_tokens=9)).cache
        assert house.up.requests == []
        assert "fwd=miss" in (await ask(house.http, gate, OTHER)).cache


async def test_what_is_no_text_is_refused(house: House) -> None:
    """The content type must be one of lines, or of JSON; and the body no larger than any other."""
    async with house.open() as gate:
        status, told = await house.admin(gate, "/warm", b"{}", kind="application/x-www-form-urlencoded")
        assert (status, "content-type" in told["error"]["message"]) == (400, True)
    async with start_gateway(f'server.max_body = "1KB"\n[cache]\n{KEYS}', house.folder, ENVIRON) as gate:
        status, _ = await house.admin(gate, "/warm", b"\n" * 1001, kind="text/plain")
        assert status == 413
        assert await house.admin(gate, "/warm", b"\n" * 1000, kind="text/plain") == (200, {"stored": 0, "errors": []})


async def test_a_file_fills_the_cache_at_the_start(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Beside the configuration; what is wrong with a line is said in the log, and stops nothing."""
    lines: list[object] = [{"request": ASK, "response": ANSWER, "ttl": "1h", "tags": ["faq"]}, {"request": ASK}]
    house.write("warm.jsonl", lines)
    async with house.open('warm = "warm.jsonl"') as gate:
        assert (await ask(house.http, gate)).cache == "runestone; hit; ttl=3599"
        assert await house.admin(gate, "/clear", {"tag": "faq"}) == (200, {"cleared": 1})
    assert house.up.requests == []
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["warm.jsonl: line 2: response: give a response or a stream, and one of them"]


async def test_a_large_file_is_read_in_parts(house: House) -> None:
    """More than one batch of lines, numbered through."""
    pad = "x" * 3000
    lines: list[object] = [
        {"request": {**ASK, "seed": seed}, "response": {**ANSWER, "pad": pad}} for seed in range(700)
    ]
    lines.insert(650, 7)
    house.write("warm.jsonl", lines)
    async with house.open('warm = "warm.jsonl"') as gate:
        assert (await house.admin(gate))[1]["entries"] == 700


async def test_files_that_cannot_be_used_are_faults_of_the_configuration(house: House) -> None:
    """Found before anything is served, each named by its key."""
    file = house.folder / "g.toml"
    for name, value, fault in (
        ("warm", "none.jsonl", "cannot be read: No such file or directory"),
        ("warm", ".", "is not a file"),
        ("warm", "x" * 300, "cannot be read: File name too long"),
        ("warm", "\\u0000", "cannot be read: embedded null byte"),
        ("persist", "none/cache.db", "its folder does not exist"),
        ("persist", "g.toml/cache.db", "its folder does not exist"),
        ("persist", ".", "is there, and is not a file"),
        ("persist", "x" * 300, "cannot be a file: File name too long"),
        ("persist", "\\u0000", "cannot be a file: embedded null byte"),
    ):
        file.write_text(f'[cache]\n{name} = "{value}"\n')
        with pytest.raises(ConfigurationError) as caught:
            load(file, {})
        assert caught.value.faults == [f"g.toml:cache.{name}: {fault}"]
        file.write_text(f'[cache]\nenabled = false\n{name} = "{value}"\n')
        load(file, {})


KEPT = 'persist = "cache.db"\n'


async def test_a_gateway_that_was_stopped_answers_from_its_file(house: House) -> None:
    """JSON, streams and embeddings, byte for byte, as hits; the provider is not asked again. Cleared is cleared."""
    calls: list[dict[str, Any]] = [{}, {"stream": True}, {"path": "/v1/embeddings", **EMBED}]
    async with house.open(KEPT) as gate:
        first = [await ask(house.http, gate, TEAM, **more) for more in calls]
        await ask(house.http, gate, {**TEAM, "x-runestone-tags": "gone"}, seed=1)
        await house.admin(gate, "/clear", {"tag": "gone"})
        assert not house.file.exists()
    assert house.file.stat().st_mode & 0o777 == 0o600
    asked = len(house.up.requests)
    async with house.open(KEPT) as gate:
        second = [await ask(house.http, gate, TEAM, **more) for more in calls]
        assert [heard.body for heard in second] == [heard.body for heard in first]
        assert all(heard.cache.startswith("runestone; hit; ttl=29") for heard in second)
        assert len(house.up.requests) == asked
        assert "fwd=miss" in (await ask(house.http, gate, TEAM, seed=1)).cache
        assert "fwd=miss" in (await ask(house.http, gate, OTHER)).cache
    async with house.open(KEPT) as gate:
        assert (await house.admin(gate))[1]["entries"] == 4, "one of them in two forms"


async def test_a_paced_stream_keeps_its_pace_over_a_restart(house: House) -> None:
    """The moments of its blocks are kept too."""
    paced = KEPT + 'replay = "paced"\n'
    async with house.open(paced) as gate:
        await ask(house.http, gate, stream=True)
    async with house.open(paced) as gate:
        began = time.perf_counter()
        assert "hit" in (await ask(house.http, gate, stream=True)).cache
        assert time.perf_counter() - began > 0.03


async def test_what_is_kept_comes_first_and_the_warm_file_is_newer(house: House) -> None:
    """At the start both are read; where they know the same question, the file for the warm-up wins."""
    async with house.open(KEPT) as gate:
        await ask(house.http, gate)
        await ask(house.http, gate, seed=1)
    house.write("warm.jsonl", [{"request": ASK, "response": {**ANSWER, "id": "warm"}}])
    async with house.open(KEPT + 'warm = "warm.jsonl"\n') as gate:
        assert orjson.loads((await ask(house.http, gate)).body)["id"] == "warm"
        assert orjson.loads((await ask(house.http, gate, seed=1)).body)["id"] == ANSWER["id"]
    assert len(house.up.requests) == 2


async def test_a_damaged_file_never_stops_the_start(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Cut and overwritten at random: the gateway starts, answers what it knows as it was, and keeps anew at its end."""
    async with house.open(KEPT) as gate:
        for seed in range(5):
            await ask(house.http, gate, TEAM, seed=seed)
    data = house.file.read_bytes()
    dice = random.Random(3)
    aside = house.folder / "cache.db.corrupt"
    for round_ in range(12):
        damaged = bytearray(data)
        at = dice.randrange(len(data))
        if round_ % 2:
            damaged = damaged[:at]
        else:
            damaged[at : at + 500] = dice.randbytes(min(500, len(data) - at))
        house.file.write_bytes(damaged)
        caplog.clear()
        async with house.open(KEPT) as gate:
            assert (await ask(house.http, gate, TEAM)).body == orjson.dumps(ANSWER)
        unusable = [record for record in caplog.records if "cannot be used" in record.message]
        assert len(unusable) == aside.exists()
        aside.unlink(missing_ok=True)
        async with house.open(KEPT) as gate:
            assert "hit" in (await ask(house.http, gate, TEAM)).cache


async def test_the_clock_may_step_between_two_runs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back and forth: time that passed is taken off, and no step adds any."""
    shift = 0.0
    lefts = []
    real = time.time
    async with house.open(KEPT) as gate:
        await ask(house.http, gate, {"x-runestone-cache-ttl": "100s"})
    for step in (0.0, -5000.0, 30.0, -1e6, 40.0, 1e6 + 5000.0):
        shift += step
        monkeypatch.setattr("runestone.stores.answers.time", lambda shift=shift: real() + shift)
        async with house.open(KEPT) as gate:
            heard = (await ask(house.http, gate, {"cache-control": "only-if-cached"})).cache
            lefts.append(int(heard.rpartition("=")[2]) if "hit" in heard else None)
    assert lefts[:5] == [pytest.approx(left, abs=2) for left in (100, 100, 70, 70, 30)]
    assert lefts[5] is None


async def test_a_lower_bound_holds_at_the_start(house: House) -> None:
    """The run before kept ten, this one may keep three: the last used."""
    async with house.open(KEPT) as gate:
        for seed in range(10):
            await ask(house.http, gate, seed=seed)
        await ask(house.http, gate, seed=0)
    async with house.open(KEPT + "max_size = 3\n") as gate:
        assert (await house.admin(gate))[1]["entries"] == 3
        only = {"cache-control": "only-if-cached"}
        assert [seed for seed in range(10) if (await ask(house.http, gate, only, seed=seed)).status == 200] == [0, 8, 9]


async def test_an_end_that_cannot_keep_ends_all_the_same(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The folder has gone meanwhile: one warning, no exception, every connection closed."""
    (house.folder / "sub").mkdir()
    async with house.open('persist = "sub/cache.db"\n') as gate:
        await ask(house.http, gate)
        (house.folder / "sub").rmdir()
    assert [record.message.partition(" in ")[0] for record in caplog.records if record.levelno == logging.WARNING] == [
        "the answers could not be kept"
    ]


async def test_the_program_keeps_and_finds_its_answers(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """`runestone serve`, ended by SIGTERM and started again."""
    toml = '[cache]\npersist = "cache.db"\n[providers.simulated.simulated]\nttft = "0ms"\ntokens_per_second = 0\n'
    heard = []
    for _ in range(2):
        async with serve(toml, tmp_path) as served:
            url = served.url + "/v1/chat/completions"
            async with http.post(url, json={**ASK, "model": "simulated"}) as response:
                heard.append((response.headers["Cache-Status"].split(";")[1].strip(), await response.read()))
            served.process.terminate()
            assert await served.ended() == 0
    assert [said for said, _ in heard] == ["fwd=miss", "hit"]
    assert heard[0][1] == heard[1][1]
