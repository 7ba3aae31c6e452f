"""Every metric there is: name, kind, labels, and what it says.

    here ─▶ telemetry/metrics.py makes them    docs/operations.md lists them    deploy/ asks for them

Rule: a name that is not here is not exposed. Base units, as Prometheus has them. The values of labels come from the
configuration or from a list in the code, never from a request or from a provider: the series of one process are few,
whoever calls it with what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from runestone.core.buckets import SECONDS

Kind = Literal["counter", "gauge", "histogram"]
PREFIX: Final = "runestone_"


@dataclass(frozen=True, slots=True)
class Family:
    """`name` without the prefix; `bounds` are a histogram's."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """As it is scraped."""
        return PREFIX + self.name


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name, "gauge", text, labels)


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family(name, "histogram", text, labels, tuple(map(float, bounds)))


_CALL: Final = ("endpoint", "provider", "model")
_TARGET: Final = ("provider", "model")

_OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
_TOKEN: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
_STEP: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_WAITS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

_LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_ALL: Final = (
    _counter("requests_total", "Finished calls", *_CALL, "status", "cache"),
    _histogram("request_duration_seconds", "From the request to the last byte", SECONDS, *_CALL),
    _histogram("overhead_seconds", "Time to the answer's head not spent waiting for a provider", _OVERHEAD, "endpoint"),
    _histogram("time_to_first_token_seconds", "Streams: from the request to the first content", SECONDS, *_TARGET),
    _histogram(
        "time_per_output_token_seconds",
        "Streams that a provider wrote and counted: time from one token to the next",
        _TOKEN,
        *_TARGET,
    ),
    _counter("tokens_total", "Tokens (input, output) as providers counted them", *_TARGET, "type"),
    _counter("cost_usd_total", "US dollars, by the list prices of vendors at their own addresses", *_TARGET),
    _counter("errors_total", "Failures, by who is to blame: client, policy, provider, gateway", "source", "code"),
    _counter("retries_total", "Attempts after every target was asked"),
    _counter("failovers_total", "Attempts at a next target"),
    _counter("hedges_total", "Second attempts beside a slow first"),
    _counter("stream_continuations_total", "Broken streams that another target went on with"),
    _gauge("breaker_state", "0 closed, 1 half open, 2 open", "target"),
    _gauge(
        "pool_connections", "Connections to a provider (active, idle), and callers waiting for one", "provider", "state"
    ),
    _gauge("pool_capacity", "Connections to a provider that may be active", "provider"),
    _counter("pool_acquired_total", "Calls that got a connection, by whether it was there", "provider", "reused"),
    _counter("pool_refused_total", "Calls that got none: too many waited, or for too long", "provider"),
    _histogram("pool_wait_seconds", "Time a call waited until it might have a connection", SECONDS, "provider"),
    _counter("cache_hits_total", "Calls answered from memory (embeddings: items)"),
    _counter("cache_misses_total", "Calls that were not (embeddings: items)"),
    _counter("cache_collapsed_total", "Calls answered by the same call of somebody else, in flight"),
    _counter("cache_stores_total", "Answers kept"),
    _counter("cache_evictions_total", "Answers pushed out by newer ones"),
    _counter("cache_expirations_total", "Answers let go of because their time was over"),
    _gauge("cache_entries", "Answers kept now"),
    _gauge("cache_bytes", "Their bytes"),
    _histogram("batch_size", "Embeddings that went up together", _SIZES),
    _histogram("batch_wait_seconds", "Time an embedding waited for others", _WAITS),
    _gauge("streams_active", "Streams that run now, over SSE and WebSocket"),
    _gauge("websocket_connections", "WebSocket connections open now"),
    _gauge("websocket_connections_limit", "How many may be"),
    _counter("websocket_messages_total", "Messages of WebSocket clients (in), and to them (out)", "direction"),
    _histogram("middleware_seconds", "Time a stage took by itself, of those calls that are timed", _STEP, "middleware"),
    _counter("middleware_failures_total", "Failures of stages that calls went on without", "middleware"),
    _histogram("loop_lag_seconds", "How late the loop comes round: what everything else waits for", _LAGS),
    _counter("loop_stalls_total", "Times the loop was stuck for longer than server.stuck_after"),
    _counter("task_restarts_total", "Failures of background tasks, each begun again", "task"),
    _counter("worker_restarts_total", "Times this worker had to be started again (server.workers)"),
    _counter("reloads_total", "Reloads of the configuration (done, refused)", "result"),
    _gauge("config_generation", "Configurations this process has served with, the first included"),
    _gauge("connections", "Connections of clients open now"),
    _gauge("connections_limit", "How many may be"),
    _counter("connections_refused_total", "Connections beyond that, closed at once"),
    _counter("spans_dropped_total", "Spans and records that did not reach their collector"),
    _counter("log_lines_dropped_total", "Lines that were not written, because nobody took those before"),
    _gauge("build_info", "Always 1", "version", "python"),
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _ALL})
"""By name, without the prefix."""
