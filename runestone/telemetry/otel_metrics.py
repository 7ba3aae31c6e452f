"""The metrics of the GenAI semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/),
counted by ourselves and handed to OpenTelemetry's exporters.

The SDK's own instruments cost some ten microseconds a measurement; a bucket costs a third of one.
Rule: label values come from the configuration, as in metrics.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from runestone.core.buckets import Buckets
from runestone.core.call import FREE
from runestone.core.record import Record
from runestone.telemetry.tracer import OPERATIONS

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_EACH = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

TOKENS, OPERATION = "gen_ai.client.token.usage", "gen_ai.client.operation.duration"
REQUEST, FIRST = "gen_ai.server.request.duration", "gen_ai.server.time_to_first_token"
EACH = "gen_ai.server.time_per_output_token"


class Instrument(NamedTuple):
    """A histogram."""

    unit: str
    text: str
    bounds: tuple[float, ...]


INSTRUMENTS: Mapping[str, Instrument] = MappingProxyType(
    {
        TOKENS: Instrument("{token}", "Tokens as providers counted them", _TOKENS),
        OPERATION: Instrument("s", "Time spent waiting for providers", _SECONDS),
        REQUEST: Instrument("s", "From the request to the last byte", _SECONDS),
        FIRST: Instrument("s", "From the request to the first content of a stream", _FIRST),
        EACH: Instrument("s", "From token to token of a stream", _EACH),
    }
)

Labels = tuple[str, str, str, str]
"""Operation, provider, model, error ("" where there is none)."""
_NAMES = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "error.type")


class Series(Buckets):
    """With the least and the most."""

    __slots__ = ("least", "most")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.least, self.most = float("inf"), 0.0

    def observe(self, value: float) -> None:
        """See Buckets."""
        super().observe(value)
        self.least = min(self.least, value)
        self.most = max(self.most, value)


class _Kind:
    """What is measured of calls with the same labels."""

    __slots__ = ("each", "first", "input", "operation", "output", "request")

    def __init__(self) -> None:
        self.request, self.operation = Series(_SECONDS), Series(_SECONDS)
        self.first, self.each = Series(_FIRST), Series(_EACH)
        self.input, self.output = Series(_TOKENS), Series(_TOKENS)

    def all(self) -> tuple[tuple[str, str, Series], ...]:
        """(instrument, kind of token, what was measured)."""
        return (
            (REQUEST, "", self.request),
            (OPERATION, "", self.operation),
            (FIRST, "", self.first),
            (EACH, "", self.each),
            (TOKENS, "input", self.input),
            (TOKENS, "output", self.output),
        )


class Measurements:
    """What has been measured since the start. `label` bounds what a model may be called."""

    def __init__(self, label: Callable[[Record], str]) -> None:
        self._label = label
        self._since = time_ns()
        self._kinds: dict[Labels, _Kind] = {}

    def note(self, record: Record) -> None:
        """Measures one call."""
        labels: Labels = (
            OPERATIONS[record.operation],
            record.provider or "none",
            self._label(record),
            record.error or "",
        )
        kind = self._kinds.get(labels)
        if kind is None:
            kind = self._kinds[labels] = _Kind()
        kind.request.observe(record.duration)
        if record.attempts:
            kind.operation.observe(record.waited)
        summary = record.summary
        if record.first_token is not None:
            kind.first.observe(record.first_token)
            if summary.output_tokens is not None and summary.output_tokens > 1:
                kind.each.observe((record.duration - record.first_token) / (summary.output_tokens - 1))
        if record.cache not in FREE:
            if summary.input_tokens:
                kind.input.observe(summary.input_tokens)
            if summary.output_tokens:
                kind.output.observe(summary.output_tokens)

    def data(self, resource: Resource, scope: InstrumentationScope) -> MetricsData:
        """All of it, as exporters take it."""
        now, points = time_ns(), {name: list[HistogramDataPoint]() for name in INSTRUMENTS}
        for labels, kind in list(self._kinds.items()):
            for name, token, series in kind.all():
                if any(series.counts):
                    points[name].append(_point(labels, token, series, self._since, now))
        metrics = [
            Metric(name, told.text, told.unit, Histogram(points[name], AggregationTemporality.CUMULATIVE))
            for name, told in INSTRUMENTS.items()
            if points[name]
        ]
        return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _point(labels: Labels, token: str, series: Series, since: int, now: int) -> HistogramDataPoint:
    told = {name: value for name, value in zip(_NAMES, labels, strict=True) if value}
    if token:
        told["gen_ai.token.type"] = token
    counts = series.counts.copy()
    return HistogramDataPoint(
        told, since, now, sum(counts), series.total, counts, series.bounds, series.least, series.most
    )
