"""All measurements, one table: `python -m bench [names...] [--quick] [--json FILE] [--only bare|runestone]`.

`python -m bench soak` and `python -m bench mission` are not among them: they have flags and tables of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

from bench import (
    batch,
    cache,
    footprint,
    json_relay,
    latency,
    mission,
    overhead,
    paced,
    resilience,
    soak,
    sse_relay,
    stages,
    table,
    traffic,
    websocket,
)

MEASUREMENTS: dict[str, table.Measurement] = {
    "json_relay": json_relay.measure,
    "sse_relay": sse_relay.measure,
    "paced": paced.measure,
    "latency": latency.measure,
    "footprint": footprint.measure,
    "cache": cache.measure,
    "traffic": traffic.measure,
    "batch": batch.measure,
    "stages": stages.measure,
    "overhead": overhead.measure,
    "resilience": resilience.measure,
    "websocket": websocket.measure,
}
COMMANDS: dict[str, Callable[[list[str]], NoReturn]] = {"soak": soak.main, "mission": mission.main}

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2:])
    table.run(MEASUREMENTS, choose=True)
