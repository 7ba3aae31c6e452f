"""The contenders side by side: the same run against each in turn, in alternating rounds.

Rule: a slow minute of a shared machine must fall on both. So rounds are short, take turns, and start with the other one
each time; a run during which somebody else took the server's core is repeated, chosen by that alone and never by its
result. A fault in a run is a broken measurement, not a slow one: it ends the bench.
"""

from __future__ import annotations

from dataclasses import replace

from bench.run import Result, Run
from bench.servers import Server, SetupError, drive

_DISTURBED = 5.0  # percent of the time in which the server wanted its core and did not have it
_TRIES = 3


def alternate(servers: dict[str, Server], run: Run, rounds: int, core: int | None = None) -> dict[str, list[Result]]:
    """`rounds` results of each server. `url` and `watch` are filled in here; `core` is the load's, if not its usual."""
    results: dict[str, list[Result]] = {name: [] for name in servers}
    for number in range(rounds):
        for name in list(servers) if number % 2 == 0 else reversed(servers):
            server = servers[name]
            # Where load and server share a core by intent, waiting for it says nothing about neighbours.
            tries = _TRIES if core is None and server.alone else 1
            results[name].append(_least_disturbed(server, run, tries, core))
    return results


def _least_disturbed(server: Server, run: Run, tries: int, core: int | None) -> Result:
    best: Result | None = None
    for _ in range(tries):
        result = drive(replace(run, url=server.url(), watch=server.pid), core)
        if result.faults or not result.units:
            raise SetupError(f"{server.name}: {result.faults} faults in {run}: {result.first_fault}")
        if best is None or result.taken < best.taken:
            best = result
        if best.taken < _DISTURBED:
            break
    assert best is not None
    return best
