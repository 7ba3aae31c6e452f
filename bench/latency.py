"""Latency added: one connection, one call after the other: the median call through a server, minus a direct one.

    python -m bench.latency [--quick]

Load and server on one core (they never work at the same time here), the provider on the other: then a direct call wakes
the other core as often as one through a server, and the difference is what the server does. In the row "own core" the
server has its core to itself as in the other measurements; there a direct call wakes no core and a relayed one wakes
four, which on virtual machines costs more than the relay: compare with bare's number, which pays the same.
"""

from __future__ import annotations

from statistics import median

from bench import contest, process, servers, table
from bench.run import Result, Run


def measure(plan: table.Plan) -> list[table.Row]:
    run = Run(url="", connections=1, seconds=0.4 if plan.quick else 0.6, warm_up=0.2)
    streams = Run(url="", connections=1, seconds=run.seconds, warm_up=0.2, stream=True)
    rounds = 2 if plan.quick else 4
    near, far = process.server_core(), process.load_core()
    with servers.standing(plan.contenders) as (provider, standing):
        everyone = {"direct": provider, **standing}
        return [
            _added("Added latency p50, JSON", contest.alternate(everyone, run, rounds, near), "latency", "<= 0.25 ms"),
            _added(
                "Added time to first byte p50, SSE", contest.alternate(everyone, streams, rounds, near), "first_byte"
            ),
            _added("Added latency p50, JSON, own core", contest.alternate(everyone, run, rounds, far), "latency"),
        ]


def _added(what: str, results: dict[str, list[Result]], kind: str, target: str = "") -> table.Row:
    middles = {name: [table.spread(getattr(r, kind), "p50") for r in runs] for name, runs in results.items()}
    direct = middles.pop("direct")
    added = {name: [one - base for one, base in zip(times, direct, strict=True)] for name, times in middles.items()}
    return table.row(what, "ms", added, places=3, target=f"{target} (direct takes {median(direct):.3f})".strip())


if __name__ == "__main__":
    table.run({"latency": measure})
