"""Traces and metrics by OpenTelemetry's own SDK, with its exporters; names are those of the GenAI semantic conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/).

Calls that are traced leave their records in a bounded queue; a thread of our own makes spans of them, the SDK's threads
send those. A collector that is slow or dead fills the queues, and what does not fit is counted: it costs
nothing else.
Rule: imported only where something is exported: the SDK is a third of a second and ten megabytes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import sleep, time_ns

from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from runestone import __version__
from runestone.core.record import Record
from runestone.core.trace import Span, Trace
from runestone.telemetry.otel_metrics import Measurements

MOST = 10_000
"""Records that wait to be made into spans."""
PAUSE = 0.25
"""Seconds between two looks at the queue."""
LAST_WORDS = 2.0
"""Seconds that what waits at the end may take to be sent."""

_SCOPE = InstrumentationScope("runestone", __version__)

_log = logging.getLogger("runestone.telemetry")


class Counted(SpanExporter):
    """An exporter whose failures are counted, and logged once."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = 0
        """Spans that did not arrive."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self.failed:
                _log.warning("spans cannot be exported; how many is in runestone_spans_dropped_total")
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        """See SpanExporter."""
        self._exporter.shutdown()


class Otel:
    """An observer of records, and of traces that are no call's. Making one blocks, and so does `close`, which sends
    what waits: both are for threads.
    """

    def __init__(
        self, spans: Iterable[SpanExporter], metrics: Iterable[MetricExporter], label: Callable[[Record], str]
    ) -> None:
        self._resource = Resource.create({"service.name": "runestone", "service.version": __version__}).merge(
            Resource.create()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first
        )
        self._exporters = [Counted(exporter) for exporter in spans]
        self._processors = [BatchSpanProcessor(exporter) for exporter in self._exporters]
        self._metrics = list(metrics)
        self._measurements = Measurements(label)
        self._waiting: deque[tuple[Record | None, Trace, int]] = deque()
        self._dropped = 0
        self._over = threading.Event()
        works = [self._work, *([self._send_metrics] if self._metrics else [])]
        self._threads = [threading.Thread(target=work, name="opentelemetry", daemon=True) for work in works]
        for thread in self._threads:
            thread.start()
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would log every batch that fails

    @property
    def dropped(self) -> int:
        """Spans and records that did not arrive, as far as is known."""
        return self._dropped + sum(exporter.failed for exporter in self._exporters)

    def __call__(self, record: Record) -> None:
        if self._metrics:
            self._measurements.note(record)  # here: a thread that wakes up for it costs the loop more
        if record.trace is not None:
            self._put(record, record.trace)

    def connection(self, trace: Trace) -> None:
        """Takes the trace of a connection that is over."""
        self._put(None, trace)

    def close(self) -> None:
        """Sends what waits, for LAST_WORDS at most, and ends the threads."""
        self._over.set()
        ending = threading.Thread(target=self._end, name="end of opentelemetry", daemon=True)
        ending.start()
        ending.join(LAST_WORDS)  # exporters try a dead collector again and again, and listen to no deadline

    def _end(self) -> None:
        for thread in self._threads:
            thread.join()
        for processor in self._processors:
            processor.force_flush(int(LAST_WORDS * 1000))
            processor.shutdown()  # type: ignore[no-untyped-call]
        for exporter in self._metrics:
            exporter.shutdown(int(LAST_WORDS * 1000))

    def _put(self, record: Record | None, trace: Trace) -> None:
        if len(self._waiting) >= MOST:
            self._dropped += 1
        else:
            self._waiting.append((record, trace, time_ns()))

    def _work(self) -> None:
        while True:
            is_over = self._over.wait(PAUSE)
            while self._waiting:
                self._take(*self._waiting.popleft())
                sleep(0)  # gives way to the loop, whose thread waits for the interpreter
            if is_over:
                return

    def _send_metrics(self) -> None:
        seconds = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or 60_000) / 1000
        while True:
            is_over = self._over.wait(seconds)
            data = self._measurements.data(self._resource, _SCOPE)
            for exporter in self._metrics:
                if data.resource_metrics[0].scope_metrics[0].metrics:
                    exporter.export(data)
            if is_over:
                return

    def _take(self, record: Record | None, trace: Trace, now: int) -> None:
        if record is not None:
            _conclude(trace.root, record)
        trace.root.end = trace.root.end or now
        for span in trace.spans:
            made = self._span(trace, span, now)
            for processor in self._processors:
                processor.on_end(made)

    def _span(self, trace: Trace, span: Span, now: int) -> ReadableSpan:
        flags, state = TraceFlags(TraceFlags.SAMPLED), TraceState.from_header([trace.state] if trace.state else [])
        parent = SpanContext(trace.id, span.parent, span is trace.root, flags, state) if span.parent else None
        failed = span.error is not None
        root = SpanKind.SERVER if span is trace.root else SpanKind.INTERNAL
        return ReadableSpan(
            span.name,
            context=SpanContext(trace.id, span.id, False, flags, state),
            parent=parent,
            resource=self._resource,
            attributes={**span.attributes, **({"error.type": span.error} if span.error else {})},
            kind=SpanKind.CLIENT if span.is_client else root,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=span.start,
            end_time=span.end or now,
            instrumentation_scope=_SCOPE,
        )


def _conclude(root: Span, record: Record) -> None:
    """What became of the call."""
    told, summary = root.attributes, record.summary
    root.error = record.error
    told["runestone.cache"] = record.cache
    told["runestone.attempts"] = record.attempts
    told["http.response.status_code"] = record.status
    if record.failures:
        told["runestone.failed"] = tuple(f"{target}:{code}" for target, code in record.failures)
    if record.provider is not None:
        told["gen_ai.provider.name"] = record.provider
    for name, value in (
        ("gen_ai.response.model", summary.model or record.target_model),
        ("gen_ai.response.id", summary.response_id),
        ("gen_ai.usage.input_tokens", summary.input_tokens),
        ("gen_ai.usage.output_tokens", summary.output_tokens),
    ):
        if value is not None:
            told[name] = value
    if summary.finish_reason is not None:
        told["gen_ai.response.finish_reasons"] = (summary.finish_reason,)
    if record.first_token is not None:
        told["gen_ai.server.time_to_first_token"] = record.first_token
        if summary.output_tokens is not None and summary.output_tokens > 1:
            each = (record.duration - record.first_token) / (summary.output_tokens - 1)
            told["gen_ai.server.time_per_output_token"] = each
