"""Prometheus metrics: of finished calls, and of what can be read at any time.

Rule: label values come from the configuration, never from a request: a model that nobody configured counts as
`provider/*`. Series are looked up once and kept, so that a call costs a handful of additions. What there is stands in
telemetry/families.py.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from runestone import __version__
from runestone.core.buckets import Buckets
from runestone.core.call import FREE
from runestone.core.record import Record
from runestone.errors import RunestoneError
from runestone.telemetry.costs import Costs
from runestone.telemetry.counter import Counter, Total
from runestone.telemetry.families import FAMILIES
from runestone.telemetry.histogram import Histogram, add_to

OTHER = "other"

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
        "not_stored",
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

_EXPECTED = (
    ("client", "client_closed"),
    ("policy", "rate_limit_exceeded"),
    ("provider", "provider_error"),
    ("provider", "timeout"),
    ("gateway", "service_unavailable"),
    ("gateway", "internal_error"),
)
"""Failures that are told from the start, at nought: Prometheus cannot see the first step of a series that begins."""

State = Callable[[], Iterable[tuple[str, dict[str, str], float | Buckets]]]
"""Samples (name, labels, value) of what is there to be read at any time: pools, breakers."""


class _State(Collector):
    """Turns samples into families, at each scrape."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, labels, value in self._state():
            told = FAMILIES[name]
            family = families.get(name)
            if isinstance(value, Buckets):
                if not isinstance(family, HistogramMetricFamily):
                    family = HistogramMetricFamily(told.full_name, told.text, labels=told.labels)
                add_to(family, [labels[label] for label in told.labels], value)
            else:
                family = family or Metric(told.full_name.removesuffix("_total"), told.text, told.kind)
                family.add_sample(told.full_name, labels, value)
            families[name] = family
        yield from families.values()


def _unnamed(provider: str | None) -> str:
    """The label of a model that the configuration does not name: its provider's, so that series stay few."""
    return f"{provider}/*" if provider is not None else OTHER


class _Series:
    """The children of one combination of endpoint, provider and model; those of streams are made by the first."""

    __slots__ = (
        *("_metrics", "_target", "cost", "duration", "first_token"),
        *("input", "output", "overhead", "per_token", "requests"),
    )

    def __init__(self, metrics: Metrics, endpoint: str, provider: str, model: str, *, is_priced: bool) -> None:
        self._metrics = metrics
        self._target = provider, model
        self.duration = metrics.duration.labels(endpoint, provider, model)
        self.overhead = metrics.overhead.labels(endpoint)
        self.input = metrics.tokens.labels(provider, model, "input")
        self.output = metrics.tokens.labels(provider, model, "output")
        self.cost: Total | None = metrics.cost.labels(provider, model) if is_priced else None
        self.requests: dict[tuple[int, str], Total] = {}
        self.first_token: Buckets | None = None
        self.per_token: Buckets | None = None

    def streamed(self) -> Buckets:
        """Makes the children of streams."""
        self.per_token = self._metrics.per_token.labels(*self._target)
        self.first_token = self._metrics.first_token.labels(*self._target)
        return self.first_token


def time_per_output_token(record: Record) -> float | None:
    """Seconds from one token of a stream to the next, on average; None where a provider did not write it, or count."""
    made = record.summary.output_tokens
    if record.first_token is None or record.cache in FREE or record.error is not None or made is None or made < 2:
        return None
    return (record.duration - record.first_token) / (made - 1)


class Metrics:
    """An observer of records. `models` are the names that may become labels; `state` gives samples at a scrape; `costs`
    knows prices, once it has loaded them. What was counted outlives a reload.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, models: Iterable[str] = (), state: State = tuple, costs: Costs | None = None) -> None:
        self._models = frozenset(models)
        self.costs = costs or Costs()
        self._series: dict[tuple[str, str | None, str], _Series] = {}
        self.families: list[Counter | Histogram] = []
        """Those of calls, that are counted here."""
        self._others = CollectorRegistry()
        self._requests = self._counter("requests_total")
        self.duration = self._histogram("request_duration_seconds")
        self.overhead = self._histogram("overhead_seconds")
        self.first_token = self._histogram("time_to_first_token_seconds")
        self.per_token = self._histogram("time_per_output_token_seconds")
        self.tokens = self._counter("tokens_total")
        self.cost = self._counter("cost_usd_total")
        self._errors = self._counter("errors_total")
        for source, code in _EXPECTED:
            self._errors.labels(source, code)
        self._tries = {
            "retry": self._counter("retries_total").labels(),
            "failover": self._counter("failovers_total").labels(),
            "hedge": self._counter("hedges_total").labels(),
            "continuation": self._counter("stream_continuations_total").labels(),
        }
        self._batch_size = self._histogram("batch_size").labels()
        self._batch_wait = self._histogram("batch_wait_seconds").labels()
        self._middlewares = self._histogram("middleware_seconds")
        self._middleware_failures = self._counter("middleware_failures_total")
        self._others.register(_State(state))
        build = FAMILIES["build_info"]
        gauge = Gauge(build.full_name, build.text, build.labels, registry=self._others)
        gauge.labels(__version__, platform.python_version()).set(1)

    def adopt(self, models: Iterable[str], costs: Costs) -> None:
        """Other names, and prices, from now on."""
        self._models = frozenset(models)
        self.costs = costs
        self._series.clear()  # which of them have a price may have changed

    def cost_of(self, record: Record) -> float | None:
        """US dollars of a call; None where that is not known."""
        return self.costs.of(record)

    def __call__(self, record: Record) -> None:
        model = record.model if record.model in self._models else _unnamed(record.provider)
        key = (record.operation.value, record.provider, model)
        series = self._series.get(key) or self._begin(key)
        outcome = (record.status, record.cache)
        total = series.requests.get(outcome)
        if total is None:
            total = series.requests[outcome] = self._requests.labels(
                key[0], key[1] or "none", model, str(record.status), record.cache
            )
        total.value += 1
        series.duration.observe(record.duration)
        if record.head is not None:
            series.overhead.observe(record.head)
        if record.first_token is not None:
            (series.first_token or series.streamed()).observe(record.first_token)
            pace = time_per_output_token(record)
            if pace is not None and series.per_token is not None:
                series.per_token.observe(pace)
        if record.cache not in FREE:
            self._spent(series, record)
        if record.error is not None:
            self.failed(record.source or "gateway", record.error)

    def tried(self, what: str) -> None:
        """Counts a retry, failover or hedge."""
        self._tries[what].value += 1

    def batched(self, size: int, waits: Sequence[float]) -> None:
        """Takes note of a batch of embeddings and of how long each of them waited for it."""
        self._batch_size.observe(size)
        for wait in waits:
            self._batch_wait.observe(wait)

    def middleware(self, name: str) -> Callable[[float], None]:
        """What takes note of the seconds that the stage `name`, of the configuration, took."""
        return self._middlewares.labels(name).observe

    def middleware_failed(self, name: str) -> None:
        """Counts a failure of the stage `name`, of the configuration, that a call went on without."""
        self._middleware_failures.labels(name).value += 1

    def refused(self, error: RunestoneError) -> None:
        """Counts a request that never became a call."""
        self.failed(error.source, error.code or error.type)

    def failed(self, source: str, code: str) -> None:
        """Counts a failure."""
        self._errors.labels(source, code if code in _CODES else OTHER).value += 1

    def watch_process(self) -> None:
        """Adds the library's `process_*` (memory, CPU, files). For a program: a scrape then reads /proc."""
        ProcessCollector(registry=self._others)

    def expose(self) -> bytes:
        """The text Prometheus scrapes."""
        return "".join(family.text() for family in self.families).encode() + generate_latest(self._others)

    def _begin(self, key: tuple[str, str | None, str]) -> _Series:
        endpoint, provider, model = key
        is_priced = provider in self.costs.providers
        series = self._series[key] = _Series(self, endpoint, provider or "none", model, is_priced=is_priced)
        return series

    def _spent(self, series: _Series, record: Record) -> None:
        summary = record.summary
        if summary.input_tokens:
            series.input.value += summary.input_tokens
        if summary.output_tokens:
            series.output.value += summary.output_tokens
        if series.cost is not None and record.provider is not None and record.target_model is not None:
            self.costs.charge(series.cost, record.provider, record.target_model, summary)

    def _counter(self, name: str) -> Counter:
        family = FAMILIES[name]
        counter = Counter(family.full_name, family.text, family.labels)
        self.families.append(counter)
        return counter

    def _histogram(self, name: str) -> Histogram:
        family = FAMILIES[name]
        histogram = Histogram(family.full_name, family.text, family.labels, family.bounds)
        self.families.append(histogram)
        return histogram
