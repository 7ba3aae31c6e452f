"""JSON relay: chat calls a second through one core, and what each costs the server in CPU time.

    python -m bench.json_relay [--quick]

32 keep-alive connections in a closed loop. Calls/s mean the server only while its core is busy: see the last row.
"""

from __future__ import annotations

from bench import contest, servers, table
from bench.run import Run


def measure(plan: table.Plan) -> list[table.Row]:
    run = Run(url="", connections=32, seconds=1.0 if plan.quick else 2.0)
    with servers.standing(plan.contenders) as (_provider, standing):
        results = contest.alternate(standing, run, rounds=3 if plan.quick else 5)
    return table.throughput("JSON relay", "calls/s", results, target=">= 0.65 of bare")


if __name__ == "__main__":
    table.run({"json_relay": measure})
