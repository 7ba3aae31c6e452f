"""The contenders side by side: the same run against each in turn, in alternating rounds.

Rule: a slow minute of a shared machine must fall on both. So rounds are short, take turns, and start with the other one
each time. A fault in a run is a broken measurement, not a slow one: it ends the bench.
"""

from __future__ import annotations

from dataclasses import replace

from bench.run import Result, Run
from bench.servers import Server, SetupError, drive


def alternate(servers: dict[str, Server], run: Run, rounds: int, core: int | None = None) -> dict[str, list[Result]]:
    """`rounds` results of each server. `url` and `watch` are filled in here; `core` is the load's, if not its usual."""
    results: dict[str, list[Result]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in list(servers) if number % 2 == 0 else reversed(servers):
            server = servers[name]
            result = drive(replace(run, url=server.url(), watch=server.pid), core)
            if result.faults or not result.units:
                raise SetupError(f"{server.name}: {result.faults} faults in {run}: {result.first_fault}")
            results[name].append(result)
    return results
