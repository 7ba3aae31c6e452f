"""All measurements, one table: `python -m bench [names...] [--quick] [--json FILE] [--only bare|runestone]`."""

from __future__ import annotations

from bench import batch, cache, footprint, json_relay, latency, paced, resilience, sse_relay, stages, table, traffic

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
    "resilience": resilience.measure,
}

if __name__ == "__main__":
    table.run(MEASUREMENTS, choose=True)
