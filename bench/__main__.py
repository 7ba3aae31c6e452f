"""All measurements, one table: `python -m bench [names...] [--quick] [--json FILE] [--only bare|runestone]`."""

from __future__ import annotations

from bench import (
    batch,
    cache,
    footprint,
    json_relay,
    latency,
    overhead,
    paced,
    resilience,
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

if __name__ == "__main__":
    table.run(MEASUREMENTS, choose=True)
