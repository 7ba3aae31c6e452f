"""The contenders side by side: the same run against each in turn, in alternating rounds.

Rule: a slow minute of a shared machine must fall on both. So rounds are short, take turns, and start with the other one
each time; a run during which somebody else took the server's core is repeated, chosen by that alone and never by its
result. A fault in a run is a broken measurement, not a slow one: it ends the bench.
"""

from __future__ import annotations

from dataclasses import replace

from bench import process
from bench.run import Result, Run
from bench.servers import Server, SetupError, drive

_DISTURBED = 5.0  # percent of the time in which the server wanted its core and did not have it


def alternate(servers: dict[str, Server], run: Run, rounds: int, core: int | None = None) -> dict[str, list[Result]]:
    """`rounds` results of each server. `url` and `watch` are filled in here; `core` is the load's, if not its usual."""
    results: dict[str, list[Result]] = {name: [] for name in servers}
    spare = (rounds + 1) // 2  # runs that may be repeated, all together: noise must not make the bench endless
    for number in range(rounds):
        for name in list(servers) if number % 2 == 0 else reversed(servers):
            result = _once(servers[name], run, core)
            # Where others of the bench share the core by intent, waiting for it says nothing about neighbours.
            alone = servers[name].alone and core is None and len(process.cores()) > 1
            while alone and result.taken > _DISTURBED and spare:
                spare -= 1
                result = min(result, _once(servers[name], run, core), key=lambda one: one.taken)
            results[name].append(result)
    return results


def _once(server: Server, run: Run, core: int | None) -> Result:
    result = drive(replace(run, url=server.url(), watch=server.pid), core)
    if result.faults or not result.units:
        raise SetupError(f"{server.name}: {result.faults} faults in {run}: {result.first_fault}")
    return result
