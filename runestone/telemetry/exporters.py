"""The exporters by their names in the configuration. OpenTelemetry's own variables (OTEL_EXPORTER_...) say where to.

Rule: what is not in the `otel` extra is not imported where it is not wanted.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any

from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from runestone.core.record import Record
from runestone.errors import ConfigurationError
from runestone.telemetry.otel import Otel

_OTLP = "opentelemetry.exporter.otlp.proto.http"


def otel_of(names: Collection[str], models: frozenset[str], endpoint: str | None) -> Otel:
    """What exports to `names`, OTLP to `endpoint`; only `models` are named in metrics. Raises ConfigurationError
    without the extra.
    """
    spans: list[SpanExporter] = []
    meters: list[MetricExporter] = []
    if "console" in names:
        spans.append(ConsoleSpanExporter())
        meters.append(ConsoleMetricExporter())
    if "otlp" in names:
        traces, metrics = (f"{endpoint.rstrip('/')}/v1/{what}" if endpoint else None for what in ("traces", "metrics"))
        spans.append(_extra(f"{_OTLP}.trace_exporter").OTLPSpanExporter(endpoint=traces))
        meters.append(_extra(f"{_OTLP}.metric_exporter").OTLPMetricExporter(endpoint=metrics))
    if "zipkin" in names:
        spans.append(_extra("opentelemetry.exporter.zipkin.json").ZipkinExporter())

    def label(record: Record) -> str:
        return record.model if record.model in models else f"{record.provider or 'other'}/*"

    return Otel(spans, meters, label)


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ConfigurationError(
            [f"configuration:telemetry.exporters: {module} is not installed: pip install 'runestone[otel]'"]
        ) from None
