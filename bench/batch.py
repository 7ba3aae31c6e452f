"""Batching: embeddings of many callers with one item each, put together or not.

    python -m bench.batch [--quick]

The provider takes 20 ms for a call and 1 ms for each item (bench/embedder.py), and the gateway may open 10 connections
to it. 200 callers, then one, each asking anew as soon as it has its answer; every item is another one, and the cache is
off. Calls a second and median latency, with batching (at its defaults) and without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import orjson

from bench import servers, table
from bench.asking import Asked, ask

_PATH = "/v1/embeddings"
_GATEWAY = """[providers.bench]
kind = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
models = ["bench-embedding"]
pool.default_size = 10
pool.max_overflow = 0
pool.checkout_timeout = "30s"
[cache]
enabled = false
[batch]
enabled = {enabled}
[log]
level = "error"
"""


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """One figure with batching and without."""

    HEAD = ("what", "unit", "without", "batched", "ratio", "target")
    LEFT = frozenset({0, 1, 5})

    what: str
    unit: str
    without: float
    batched: float
    target: str

    def cells(self) -> tuple[str, ...]:
        ratio = f"{self.batched / self.without:.2f}"
        return self.what, self.unit, f"{self.without:,.1f}", f"{self.batched:,.1f}", ratio, self.target


def measure(plan: table.Plan) -> Sequence[table.Line]:
    if "runestone" not in plan.contenders:
        return []
    calls = 10 if plan.quick else 40
    many: dict[bool, Asked] = {}
    single: dict[bool, Asked] = {}
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.embedder())
        for enabled in (False, True):
            toml = _GATEWAY.format(port=upstream.port, enabled=str(enabled).lower())
            gateway = stack.enter_context(servers.gateway(f"runestone (batch {enabled})", toml))
            ask(gateway, _PATH, [_items(f"warm-up {caller}", 3) for caller in range(50)])
            many[enabled] = ask(gateway, _PATH, [_items(f"many {caller}", calls) for caller in range(200)])
            single[enabled] = ask(gateway, _PATH, [_items("single", 5 * calls)])
    rows = [
        ("Embeddings, 200 callers", "calls/s", [many[enabled].rate for enabled in (False, True)], ">= 3"),
        ("Embeddings, 200 callers: p50", "ms", [many[enabled].quantile(0.5) for enabled in (False, True)], ""),
        ("Embeddings, 200 callers: p99", "ms", [many[enabled].quantile(0.99) for enabled in (False, True)], ""),
        ("Embeddings, one caller: p50", "ms", [single[enabled].quantile(0.5) for enabled in (False, True)], "1.0"),
    ]
    return [Line(what, unit, *values, target) for what, unit, values, target in rows]


def _items(name: str, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield orjson.dumps({"model": "bench-embedding", "input": f"{name}, item {number} of a list of small texts"})


if __name__ == "__main__":
    table.run({"batch": measure})
