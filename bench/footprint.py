"""Footprint: memory at rest, and the time from starting the process to its first answered call.

    python -m bench.footprint [--quick]

Five starts each, alternating, after one that is not counted (it compiles the byte code). Memory is what is
resident half a second after the first answer; under load it is more, which is not measured here.
"""

from __future__ import annotations

import time

from bench import process, servers, table

_REST = 0.5


def measure(plan: table.Plan) -> list[table.Row]:
    rounds = 2 if plan.quick else 5
    started: dict[str, list[float]] = {name: [] for name in plan.contenders}
    resident: dict[str, list[float]] = {name: [] for name in plan.contenders}
    with servers.provider() as upstream:
        for number in range(rounds + 1):
            for name in plan.contenders:
                with servers.CONTENDERS[name](upstream, "fast") as server:
                    servers.first_answer(server)
                    seconds = time.monotonic() - server.spawned
                    if number:
                        time.sleep(_REST)
                        started[name].append(seconds)
                        resident[name].append(process.resident_megabytes(server.pid))
    return [
        table.row("Resident memory, idle", "MB", resident, places=1, target="<= 70 MB"),
        table.row("Start to first answer", "s", started, places=2, target="<= 1.0 s"),
    ]


if __name__ == "__main__":
    table.run({"footprint": measure})
