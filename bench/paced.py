"""Paced streams: what one event costs the server in CPU time when events arrive one by one, as models write them.

    python -m bench.paced [--quick]

300 streams at once, 50 events a second each, one TCP write an event. Latency is an event's age when the load generator
reads it: the provider stamps it with a clock both share. `direct` is the same without a server between; the difference
is the server's, the rest is the queue on the core that provider and load share.
"""

from __future__ import annotations

from bench import contest, servers, table
from bench.run import Run


def measure(plan: table.Plan) -> list[table.Row]:
    run = Run(url="", connections=300, seconds=3.0 if plan.quick else 6.0, paced=True)
    with servers.standing(plan.contenders, mode="paced") as (provider, standing):
        results = contest.alternate(standing, run, rounds=1 if plan.quick else 2)
        direct = contest.alternate({"direct": provider}, run, rounds=1)["direct"][0]
    name = "Paced SSE, 300 x 50/s"
    cost = {key: [result.cpu_microseconds for result in runs] for key, runs in results.items()}
    rows = [
        table.row(f"{name}: CPU an event", "µs", cost, places=1, target=f"<= 1.30 x bare ({table.others(results)})")
    ]
    for quantile in ("p50", "p99"):
        ages = {key: [table.spread(result.latency, quantile) for result in runs] for key, runs in results.items()}
        note = f"(direct {table.spread(direct.latency, quantile):.2f})"
        rows.append(table.row(f"{name}: event age {quantile}", "ms", ages, places=2, target=note))
    return rows


if __name__ == "__main__":
    table.run({"paced": measure})
