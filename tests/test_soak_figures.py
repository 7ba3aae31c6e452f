"""How the soak judges what it sees, and that what it reads and asks for is what the gateway says and has."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import aiohttp
import orjson
import pytest

from bench import wire
from bench.__main__ import COMMANDS, MEASUREMENTS
from bench.mission import Headline
from bench.reader import Reader
from bench.soak import MODELS, configuration
from bench.soak_calls import FAILING, SAVED
from bench.soak_client import request
from bench.soak_figures import EXPORTERS, WORDS, Course, Figures, lines
from bench.soak_provider import LONG
from bench.soak_run import Tally
from bench.table import render
from runestone.config.load import load
from tests.conftest import StartGateway

REST = Figures(
    memory=80.0,
    files=40,
    tasks=14,
    active=0,
    idle=20,
    waiting=0,
    calls=0,
    streams=0,
    sessions=0,
    rooms=0,
    held=0,
    entries=0,
)
FULL = replace(REST, entries=400)
SEEN = Tally(calls=Counter({"asked anew": 100, "SSE": 10}), seconds=1.0)


def course(end: Figures = FULL, *tallies: Tally) -> Course:
    return Course(REST, FULL, FULL, end, replace(FULL, calls=30), tallies or (SEEN, SEEN, SEEN))


def test_what_stays_as_it_was_is_flat() -> None:
    """Five percent more memory are allowed, and idle connections to providers, which are kept on purpose."""
    end = replace(FULL, memory=83.9, files=50 + EXPORTERS, idle=30)
    assert course(end).faults() == []
    assert course(end).verdict().startswith("FLAT: memory +4.9 %")


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (replace(FULL, memory=84.1), "memory grew by 5.1 % after the warm-up"),
        (replace(FULL, files=43), "1 open files left"),
        (replace(FULL, tasks=16), "2 tasks left"),
        (replace(FULL, active=1, idle=19), "1 pool slots, active left"),
        (replace(FULL, waiting=3), "3 pool slots, waited for left"),
        (replace(FULL, calls=1), "1 calls in flight left"),
        (replace(FULL, streams=1), "1 streams under way left"),
        (replace(FULL, sessions=4), "4 WebSocket sessions left"),
        (replace(FULL, rooms=1), "1 rooms left"),
        (replace(FULL, held=1), "1 held streams left"),
    ],
)
def test_what_is_left_or_has_grown_is_named(end: Figures, fault: str) -> None:
    """Each thing by itself is enough not to be flat."""
    faults = course(end).faults()
    assert fault in faults
    assert course(end).verdict() == f"NOT FLAT: {'; '.join(faults)}"


def test_where_open_files_are_not_told_they_are_not_judged() -> None:
    """As on systems without /proc."""
    untold = [replace(one, files=math.nan) for one in (REST, FULL)]
    assert Course(untold[0], *[untold[1]] * 3, FULL, (SEEN,) * 3).faults() == []


def test_memory_that_cannot_be_told_is_no_success() -> None:
    """NaN is not below any limit."""
    assert course(replace(FULL, memory=math.nan)).faults() != []


def test_a_failure_that_should_not_be_is_not_flat_and_one_that_should_be_is() -> None:
    """Nor is a stretch in which nobody asked anything."""
    seen = Tally(calls=Counter({"left": 5}))
    seen.failed("left", "502", expected=True)
    assert course(FULL, seen, seen, seen).faults() == []
    seen.failed("left", "500", expected=False)
    assert course(FULL, seen, SEEN, seen).faults() == [
        "2 unexpected failures (the machine let the load itself wait 0.0 s)"
    ]
    assert course(FULL, SEEN, Tally(), SEEN).faults() == ["there was a stretch without a call"]


def test_a_tally_crosses_a_process_border_and_is_bounded() -> None:
    """A thousand different texts become a hundred, and the rest is still counted."""
    tally = Tally(calls=Counter({"wrong": 1000}), skipped=2, late=0.5, seconds=3.0)
    for number in range(1000):
        tally.failed("wrong", f"text {number}", expected=number % 2 == 0)
    again = Tally.read(orjson.dumps(tally))
    assert again == tally
    assert len(again.unexpected["wrong"]) == 101
    assert (again.total, again.count(expected=True), again.count(expected=False)) == (1000, 500, 500)


def test_two_tallies_are_one() -> None:
    """Counts are added, of kinds that only one of them has seen too; of how late it was the worst stays."""
    one, other = Tally(calls=Counter(left=5), late=0.5, seconds=1.0), Tally(calls=Counter(left=2, SSE=1), seconds=2.0)
    for tally, kind in ((one, "left"), (other, "left"), (other, "SSE")):
        tally.failed(kind, "502", expected=True)
    both = one.plus(other)
    assert (both.calls, both.late, both.seconds) == (Counter(left=7, SSE=1), 0.5, 3.0)
    assert both.expected == {"left": Counter({"502": 2}), "SSE": Counter({"502": 1})}
    assert one.expected == {"left": Counter({"502": 1})}


def test_the_tables_show_every_figure_and_every_kind() -> None:
    """What went wrong stands before what should go wrong."""
    seen = Tally(calls=Counter({"left": 5}))
    seen.failed("left", "502", expected=True)
    seen.failed("left", "a wrong answer", expected=False)
    text = render(lines(course(replace(FULL, memory=82.0), SEEN, SEEN, seen)))
    assert all(words in text for words in WORDS.values())
    assert "1 x UNEXPECTED a wrong answer, 1 x 502" in text
    assert "+2.5" in text


async def test_the_figures_are_those_that_the_gateway_tells(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """At rest: nothing that anybody must give back, and the one task that asks."""
    key = f'[[auth.keys]]\nname = "soak"\nadmin = true\nsha256 = "{sha256(wire.KEY.encode()).hexdigest()}"\n'
    gate = await gateway("[providers.simulated]\nmodels = ['m']\n" + key)
    async with http.get(f"{gate.url}/admin/state", headers={"Authorization": f"Bearer {wire.KEY}"}) as answer:
        found = Figures.of(orjson.loads(await answer.read()), 50.0, 30)
    assert found.tasks >= 1
    assert replace(found, tasks=0) == Figures(50.0, 30, *[0] * 10)


def test_the_soaks_gateway_has_what_its_visitors_ask_for(tmp_path: Path) -> None:
    """Its file is read without a fault, and answers are kept for less than visitors may have."""
    file = tmp_path / "runestone.toml"
    file.write_text(configuration(1, 2, 3))
    read = load(file, {})
    assert set(MODELS) == set(read.models)
    assert {*FAILING, *SAVED, "fast", "steady", "paced", "held", "long"} <= set(MODELS)
    assert "bench-embedding" in read.providers["embedder"].models


def test_a_request_is_what_it_should_be() -> None:
    """The method, the key and the headers that were asked for, and nothing else changed."""
    text = request("DELETE", "/v1/streams/POST", 1, b"{}", key="other", headers=("a: b", "c: d"))
    plain = wire.request("/v1/streams/POST", 1, b"{}")
    assert text.startswith(b"DELETE /v1/streams/POST HTTP/1.1\r\na: b\r\nc: d\r\nHost:")
    assert (
        text.replace(b"DELETE", b"POST", 1).replace(b"a: b\r\nc: d\r\n", b"").replace(b"other", wire.KEY.encode())
        == plain
    )


def test_the_long_stream_is_one() -> None:
    """Framed as HTTP wants it, with its end marker, and far more than sockets hold for those who do not read."""
    reader = Reader()
    assert reader.feed(LONG)
    assert reader.tail.endswith(wire.DONE)
    assert len(LONG) > 300_000


def test_a_headline_holds_or_does_not_or_was_not_tried() -> None:
    """On either side of what is wanted; a missing number does not hold."""
    most = Headline("p99", "ms", 5, 5.0, "overhead")
    least = Headline("calls", "/s", 1_000, 1_000.0, "json_relay", at_least=True)
    assert (most.holds, least.holds) == (True, True)
    assert (replace(most, measured=5.1).holds, replace(least, measured=999.0).holds) == (False, False)
    assert (replace(most, measured=math.nan).holds, replace(least, tried=False).holds) == (False, None)
    assert "NO" in replace(most, measured=5.1).cells()
    assert replace(least, tried=False).cells()[1:4] == (">= 1,000 /s", "1,000 /s", "not tried")


def test_both_commands_are_reachable_and_no_measurement_has_their_names() -> None:
    """`python -m bench` alone measures everything, and neither soaks nor judges."""
    assert set(COMMANDS) == {"soak", "mission"}
    assert not set(COMMANDS) & set(MEASUREMENTS)
