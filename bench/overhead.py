"""Overhead: what all stages together take of a call, and what tracing costs.

    python -m bench.overhead [--quick]

Pipeline: a gateway with every usual stage at work (a limited key, the cache looked up and missed, answers stored),
called 1,000 times a second; what it says itself of the time to the head of an answer that was not waiting for the
provider (`runestone_overhead_seconds`), and the latency from outside beside bare's, called at the same time on the same
core.
Tracing: gateways without it, with 1 % and with all calls traced and sent to a collector (bench/collector.py, on the
load's core), saturated in turns; the ratio is to the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from bench import contest, servers, table, wire
from bench.rate import Outcome, Schedule
from bench.run import Run

_RATE = 1_000.0
_TEMPLATE = (Path(__file__).parent / "runestone.toml").read_text()
_STAGES = """
[[auth.keys]]
name = "bench"
sha256 = "{}"
models = ["bench-*"]
requests_per_minute = 1_000_000
concurrent_requests = 10_000
"""
_MISSES = 'enabled = true\ndefault_ttl = "1ms"\ncollapse = false'  # looked up, missed, stored: every time
_BUCKET = re.compile(
    r'^runestone_overhead_seconds_bucket\{endpoint="chat/completions",le="([^"]+)"\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """A figure of one gateway; the ratio is to the one without tracing, or to bare."""

    HEAD = ("what", "unit", "value", "ratio", "target")
    LEFT = frozenset({0, 1, 4})

    what: str
    unit: str
    value: float
    ratio: float | None = None
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return (
            self.what,
            self.unit,
            f"{self.value:,.3f}" if self.value < 100 else f"{self.value:,.0f}",
            ratio,
            self.target,
        )


def measure(plan: table.Plan) -> Sequence[table.Line]:
    if "runestone" not in plan.contenders:
        return []
    return [*_pipeline(4.0 if plan.quick else 10.0), *_tracing(plan)]


def _pipeline(seconds: float) -> list[Line]:
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.provider())
        key = sha256(wire.KEY.encode()).hexdigest()
        toml = _toml(upstream).replace("enabled = false", _MISSES) + _STAGES.format(key)
        gateway = stack.enter_context(servers.gateway("runestone", toml))
        bare = stack.enter_context(servers.bare(upstream))
        urls = (bare.url(), gateway.url())
        _drive(Schedule(urls, _RATE / 2, 1.0))
        before = _buckets(gateway)
        outcomes = _drive(Schedule(urls, _RATE, seconds))
        after = _buckets(gateway)
    for outcome in outcomes:
        if outcome.good != outcome.calls or outcome.latency is None:
            raise servers.SetupError(f"calls failed: {outcome.failures}")
    own, other = outcomes[1].latency, outcomes[0].latency
    assert own is not None
    assert other is not None
    counts = [(end, more - less) for (end, more), (_, less) in zip(after, before, strict=True)]
    lines = [
        Line(f"Whole pipeline, 1,000 calls/s: {name}", "ms", _quantile(counts, share) * 1e3, None, target)
        for name, share, target in (("p50", 0.5, ""), ("p99", 0.99, "< 1 ms"))
    ]
    for name in ("p50", "p99"):
        mine, bares = table.spread(own, name), table.spread(other, name)
        lines.append(Line(f"The same from outside, bare beside it: {name}", "ms", mine, mine / bares))
    return lines


def _tracing(plan: table.Plan) -> list[Line]:
    run = Run(url="", connections=32, seconds=1.0 if plan.quick else 2.0)
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.provider())
        collector = stack.enter_context(servers.collector())
        traced = f'[telemetry]\nexporters = ["otlp"]\nendpoint = "http://127.0.0.1:{collector.port}"\nsample_ratio = '
        variants = {"off": "", "1 %": traced + "0.01\n", "100 %": traced + "1.0\n"}
        standing = {
            name: stack.enter_context(servers.gateway(f"tracing {name}", _toml(upstream) + more))
            for name, more in variants.items()
        }
        results = contest.alternate(standing, run, 3 if plan.quick else 5)
    lines = []
    for name, runs in results.items():
        ratio = median(one.rate / base.rate for one, base in zip(runs, results["off"], strict=True))
        what = f"JSON relay, tracing {name}"
        lines.append(Line(what, "calls/s", median(one.rate for one in runs), ratio))
        lines.append(Line(f"{what}: CPU a call", "µs", median(one.cpu_microseconds for one in runs)))
    return lines


def _toml(upstream: servers.Server) -> str:
    return _TEMPLATE.replace("BASE_URL", f"http://127.0.0.1:{upstream.port}/fast/v1")


def _drive(schedule: Schedule) -> list[Outcome]:
    return Outcome.read(servers.finish("bench.rate", schedule, schedule.seconds + schedule.grace))


def _buckets(server: servers.Server) -> list[tuple[float, float]]:
    """(end, calls up to it) of what the gateway says itself."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return [(float(end), float(count)) for end, count in _BUCKET.findall(text)]


def _quantile(counts: list[tuple[float, float]], share: float) -> float:
    """Inside a bucket the calls are taken to lie evenly, as Prometheus does."""
    wanted, last, start = counts[-1][1] * share, 0.0, 0.0
    for end, count in counts:
        if count >= wanted:
            return start + (end - start) * (wanted - last) / max(count - last, 1.0)
        last, start = count, end
    return start


if __name__ == "__main__":
    table.run({"overhead": measure})
