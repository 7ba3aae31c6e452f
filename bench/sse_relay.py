"""SSE relay: streams of 100 events a second through one core, and what each costs the server in CPU time.

    python -m bench.sse_relay [--quick]

32 keep-alive connections in a closed loop; the provider writes each stream at once, one chunk an event, so this
measures the calls and the bytes of streaming. What single events cost as they trickle in is `bench.paced`.
"""

from __future__ import annotations

from bench import contest, servers, table
from bench.run import Run


def measure(plan: table.Plan) -> list[table.Row]:
    run = Run(url="", connections=32, seconds=1.0 if plan.quick else 2.0, stream=True)
    with servers.standing(plan.contenders) as (_provider, standing):
        results = contest.alternate(standing, run, rounds=3 if plan.quick else 5)
    return table.throughput("SSE relay", "streams/s", results, target=">= 0.60 of bare")


if __name__ == "__main__":
    table.run({"sse_relay": measure})
