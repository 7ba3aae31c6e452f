"""Cache: hits a second through one core beside bare's ready bytes, and what keeping and finding an answer costs.

    python -m bench.cache [--quick]

Hits: every call asks what was asked before (the one call of wire.py); bare answers the same bytes from a constant. The
row at one connection is the median latency of each, load and server sharing a core.
Lookup: in this process, fingerprint and search of a call of 1 KB among so many answers. Memory: what this process grows
by when it keeps 10,000 answers of 2 KB.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import orjson

from bench import contest, process, servers, table, wire
from bench.run import Run
from runestone.core.answer import Answer, Form
from runestone.core.cache import Cache, Entry
from runestone.core.call import ANONYMOUS, Call, Operation, Target
from runestone.core.names import Listing, Names
from runestone.core.summary import Summary
from runestone.gateway.cache import Keys

_ENTRIES = 10_000
_SIZE = 2_000


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """A figure without a yardstick."""

    HEAD = ("what", "unit", "value", "target")
    LEFT = frozenset({0, 1, 3})

    what: str
    unit: str
    value: float
    target: str

    def cells(self) -> tuple[str, ...]:
        return self.what, self.unit, f"{self.value:.1f}", self.target


def measure(plan: table.Plan) -> Sequence[table.Line]:
    rows: list[table.Line] = [*_hits(plan)]
    if "runestone" in plan.contenders:
        rows += [Line(f"Lookup among {count:,}", "µs", _lookup(count), "< 20 µs") for count in (_ENTRIES, 100_000)]
        rows.append(Line("Memory of 10,000 answers of 2 KB", "MB", _memory(), "<= 60 MB"))
    return rows


def _hits(plan: table.Plan) -> list[table.Row]:
    busy = Run(url="", connections=32, seconds=1.0 if plan.quick else 2.0)
    quiet = replace(busy, connections=1, seconds=0.5 if plan.quick else 1.0)
    rounds = 3 if plan.quick else 5
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.provider())
        standing = {name: stack.enter_context(_contender(name, upstream)) for name in plan.contenders}
        full = contest.alternate(standing, busy, rounds)
        single = contest.alternate(standing, quiet, rounds, core=process.server_core())
    waits = {name: [table.spread(result.latency, "p50") for result in runs] for name, runs in single.items()}
    rows = table.throughput("Cache hit", "calls/s", full, target=">= 0.60 of bare")
    rows.append(table.row("Cache hit: latency p50, one connection", "ms", waits, places=3, target="<= bare + 0.15"))
    return rows


def _contender(name: str, upstream: servers.Server) -> servers.Standing:
    if name == "bare":
        return servers.bare(upstream, base="/hit")
    template = (Path(__file__).parent / "runestone.toml").read_text().replace("enabled = false", "enabled = true")
    return servers.gateway(name, template.replace("BASE_URL", f"http://127.0.0.1:{upstream.port}/fast/v1"))


def _kept(count: int, size: int) -> tuple[Cache[Answer], Keys, list[Call]]:
    """A cache of `count` answers of `size` bytes, and some of the calls they answer."""
    answers: Cache[Answer] = Cache(max_size=count, max_bytes=1 << 40)
    keys = Keys(Names({}, {}, [Listing("up", (wire.MODEL,))]), "key", frozenset())
    asked = orjson.loads(wire.chat_body(stream=False))
    calls = []
    for number in range(count):
        fields = {**asked, "seed": number}
        call = Call("id", Operation.CHAT, b"", fields, wire.MODEL, False, ANONYMOUS, {}, None, 0.0)
        forms = {Form.WHOLE: number.to_bytes(8, "big") + bytes(size - 8)}
        answer = Answer(Operation.CHAT, forms, Summary(1, 2, finish_reason="stop"), Target("up", wire.MODEL))
        now = perf_counter()
        answers.put(keys.of(call, fields), Entry(answer, size, now, now + 1e6, now + 1e6, "me", wire.MODEL), now)
        if number % (count // 1000) == 0:
            calls.append(call)
    return answers, keys, calls


def _lookup(count: int) -> float:
    """Microseconds, the median of five rounds."""
    answers, keys, calls = _kept(count, 100)
    costs = []
    for _ in range(5):
        began = perf_counter()
        for call in calls:
            assert answers.look(keys.of(call, call.fields), began) is not None
        costs.append((perf_counter() - began) / len(calls) * 1e6)
    return median(costs)


def _memory() -> float:
    """Megabytes."""
    gc.collect()
    before = process.resident_megabytes(os.getpid())
    answers, _, calls = _kept(_ENTRIES, _SIZE)
    calls.clear()
    gc.collect()
    assert len(answers) == _ENTRIES
    return process.resident_megabytes(os.getpid()) - before


if __name__ == "__main__":
    table.run({"cache": measure})
