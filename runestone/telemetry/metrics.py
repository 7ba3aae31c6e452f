"""Prometheus metrics of finished calls.

Rule: label values come from the configuration, never from a request: a model that nobody configured counts as
`provider/*`. Series are looked up once and kept, so that a call costs a handful of additions.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runestone import __version__
from runestone.core.call import FREE
from runestone.core.record import Record
from runestone.errors import RunestoneError
from runestone.telemetry.histogram import Histogram

OTHER = "other"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_WAITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

_CODES = frozenset(
    [
        "bad_request",
        "missing_authorization",
        "invalid_api_key",
        "expired_api_key",
        "insufficient_permissions",
        "not_found",
        "model_not_found",
        "method_not_allowed",
        "request_too_large",
        "provider_error",
        "timeout",
        "service_unavailable",
        "internal_error",
        "client_closed",
        "rate_limit_exceeded",
        "rate_limit_error",
        "insufficient_quota",
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "context_length_exceeded",
        "content_filter",
        "overloaded_error",
        "api_error",
        "server_error",
    ]
)
"""Ours and the vendors' usual ones; a provider may write anything there, and the rest counts as "other"."""


State = Callable[[], Iterable[tuple[str, dict[str, str], float]]]
"""Samples (name, labels, value) of what is there to be read at any time: pools, breakers."""

_TEXTS = {
    "pool_connections": "Connections to a provider, and callers that wait for one",
    "pool_acquired_total": "Calls that got a connection, by whether it was there already",
    "breaker_state": "0 closed, 1 half open, 2 open",
    "cache_hits_total": "Calls answered from memory (embeddings: items)",
    "cache_misses_total": "Calls that were not (embeddings: items)",
    "cache_collapsed_total": "Calls answered by the same call of somebody else, in flight",
    "cache_stores_total": "Answers kept",
    "cache_evictions_total": "Answers pushed out by newer ones",
    "cache_expirations_total": "Answers let go of because their time was over",
    "cache_entries": "Answers kept now",
    "cache_bytes": "Their bytes",
    "websocket_connections": "WebSocket connections open now",
    "websocket_messages_total": "Messages of WebSocket clients, and to them",
    "streams_active": "Streams that run now, over SSE and WebSocket",
}


class _State(Collector):
    """Turns samples into families, at each scrape."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, labels, value in self._state():
            family = families.get(name)
            if family is None:
                kind = "counter" if name.endswith("_total") else "gauge"
                family = Metric(f"runestone_{name}".removesuffix("_total"), _TEXTS[name], kind)
                families[name] = family
            family.add_sample(f"runestone_{name}", labels, value)
        yield from families.values()


def _unnamed(provider: str | None) -> str:
    """The label of a model that the configuration does not name: its provider's, so that series stay few."""
    return f"{provider}/*" if provider is not None else OTHER


class _Series:
    """The children of one combination of endpoint, provider and model."""

    __slots__ = ("duration", "first_token", "input", "output", "overhead", "requests")

    def __init__(self, metrics: Metrics, endpoint: str, provider: str, model: str) -> None:
        self.duration = metrics.duration.labels(endpoint, provider, model)
        self.overhead = metrics.overhead.labels(endpoint)
        self.first_token = metrics.first_token.labels(provider, model)
        self.input = metrics.tokens.labels(provider, model, "input")
        self.output = metrics.tokens.labels(provider, model, "output")
        self.requests: dict[tuple[int, str], Counter] = {}


class Metrics:
    """An observer of records. `models` are the names that may become labels; `state` gives samples at a scrape."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, models: Iterable[str], state: State = tuple) -> None:
        self._models = frozenset(models)
        self._series: dict[tuple[str, str | None, str], _Series] = {}
        self.registry = CollectorRegistry()
        # A time stamp beside every series would double what is scraped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        call = ("endpoint", "provider", "model")
        target = ("provider", "model")
        self._requests = self._counter("requests", "Finished calls", (*call, "status", "cache"))
        self.duration = self._histogram("request_duration_seconds", "From the request to the last byte", call, _SECONDS)
        self.overhead = self._histogram(
            "overhead_seconds", "Time to the answer's head not spent waiting for a provider", ("endpoint",), _OVERHEAD
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to the first content of a stream", target, _SECONDS
        )
        self.tokens = self._counter("tokens", "Tokens as providers counted them", (*target, "type"))
        self._errors = self._counter("errors", "Failures, by who is to blame", ("source", "code"))
        self._tries = {
            "retry": Counter("runestone_retries", "Attempts after every target was asked", registry=self.registry),
            "failover": Counter("runestone_failovers", "Attempts at a next target", registry=self.registry),
            "hedge": Counter("runestone_hedges", "Second attempts beside a slow first", registry=self.registry),
            "continuation": Counter(
                "runestone_stream_continuations", "Broken streams gone on with", registry=self.registry
            ),
        }
        self.batch_size = self._histogram("batch_size", "Embeddings that went up together", (), _SIZES)
        self.batch_wait = self._histogram("batch_wait_seconds", "Time an embedding waited for others", (), _WAITS)
        self.registry.register(_State(state))
        build = Gauge("runestone_build_info", "Always 1", ("version", "python"), registry=self.registry)
        build.labels(__version__, platform.python_version()).set(1)

    def __call__(self, record: Record) -> None:
        model = record.model if record.model in self._models else _unnamed(record.provider)
        key = (record.operation.value, record.provider, model)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self, key[0], key[1] or "none", model)
        outcome = (record.status, record.cache)
        counter = series.requests.get(outcome)
        if counter is None:
            counter = series.requests[outcome] = self._requests.labels(
                key[0], key[1] or "none", model, str(record.status), record.cache
            )
        counter.inc()
        series.duration.observe(record.duration)
        if record.head is not None:
            series.overhead.observe(record.head)
        if record.first_token is not None:
            series.first_token.observe(record.first_token)
        if record.cache not in FREE:
            if record.summary.input_tokens:
                series.input.inc(record.summary.input_tokens)
            if record.summary.output_tokens:
                series.output.inc(record.summary.output_tokens)
        if record.error is not None:
            self.failed(record.source or "gateway", record.error)

    def tried(self, what: str) -> None:
        """Counts a retry, failover or hedge."""
        self._tries[what].inc()

    def batched(self, size: int, waits: Sequence[float]) -> None:
        """Takes note of a batch of embeddings and of how long each of them waited for it."""
        self.batch_size.labels().observe(size)
        for wait in waits:
            self.batch_wait.labels().observe(wait)

    def refused(self, error: RunestoneError) -> None:
        """Counts a request that never became a call."""
        self.failed(error.source, error.code or error.type)

    def failed(self, source: str, code: str) -> None:
        """Counts a failure."""
        self._errors.labels(source, code if code in _CODES else OTHER).inc()

    def expose(self) -> bytes:
        """The text Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"runestone_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"runestone_{name}", text, labels, buckets)
        self.registry.register(histogram)
        return histogram
