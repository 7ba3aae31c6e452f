"""Traces and metrics by OpenTelemetry's own SDK, with its exporters; names are those of the GenAI semantic conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/).

Calls leave their records in a bounded queue; a thread of our own makes spans and measurements of them, the SDK's
threads send those. A collector that is slow or dead fills the queues, and what does not fit is counted: it costs
nothing else.
Rule: imported only where something is exported: the SDK is a third of a second and ten megabytes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import sleep, time_ns

from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from runestone import __version__
from runestone.core.call import FREE
from runestone.core.record import Record
from runestone.core.trace import Span, Trace
from runestone.telemetry.tracer import OPERATIONS

MOST = 10_000
"""Records that wait to be made into spans."""
PAUSE = 0.25
"""Seconds between two looks at the queue."""
LAST_WORDS = 5.0
"""Seconds that what waits at the end may take to be sent."""

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_EACH = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
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


class Instruments:
    """The metrics that are sent. `label` bounds what a model may be called."""

    def __init__(self, provider: MeterProvider, label: Callable[[Record], str]) -> None:
        meter = provider.get_meter("runestone", __version__)

        def histogram(name: str, unit: str, text: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds)

        self._label = label
        self._tokens = histogram("gen_ai.client.token.usage", "{token}", "Tokens as providers counted them", _TOKENS)
        self._operation = histogram("gen_ai.client.operation.duration", "s", "Time waiting for providers", _SECONDS)
        self._request = histogram("gen_ai.server.request.duration", "s", "From the request to the last byte", _SECONDS)
        self._first = histogram("gen_ai.server.time_to_first_token", "s", "To the first content of a stream", _FIRST)
        self._each = histogram("gen_ai.server.time_per_output_token", "s", "From token to token of a stream", _EACH)

    def note(self, record: Record) -> None:
        """Measures one call."""
        told: dict[str, str] = {
            "gen_ai.operation.name": OPERATIONS[record.operation],
            "gen_ai.provider.name": record.provider or "none",
            "gen_ai.request.model": self._label(record),
        }
        if record.error is not None:
            told["error.type"] = record.error
        self._request.record(record.duration, told)
        if record.attempts:
            self._operation.record(record.waited, told)
        if record.first_token is not None:
            self._first.record(record.first_token, told)
            output = record.summary.output_tokens
            if output is not None and output > 1:
                self._each.record((record.duration - record.first_token) / (output - 1), told)
        if record.cache not in FREE:
            for kind, count in (("input", record.summary.input_tokens), ("output", record.summary.output_tokens)):
                if count:
                    self._tokens.record(count, {**told, "gen_ai.token.type": kind})


class Otel:
    """An observer of records, and of traces that are no call's. Making one blocks, and so does `close`, which sends
    what waits: both are for threads.
    """

    def __init__(
        self, spans: Iterable[SpanExporter], readers: Sequence[MetricReader], label: Callable[[Record], str]
    ) -> None:
        self._resource = Resource.create({"service.name": "runestone", "service.version": __version__}).merge(
            Resource.create()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first
        )
        self._exporters = [Counted(exporter) for exporter in spans]
        self._processors = [BatchSpanProcessor(exporter) for exporter in self._exporters]
        self._provider = MeterProvider(metric_readers=readers, resource=self._resource) if readers else None
        self._instruments = Instruments(self._provider, label) if self._provider is not None else None
        self._waiting: deque[tuple[Record | None, Trace | None, int]] = deque()
        self._dropped = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="opentelemetry", daemon=True)
        self._thread.start()
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would log every batch that fails

    @property
    def dropped(self) -> int:
        """Spans and records that did not arrive, as far as is known."""
        return self._dropped + sum(exporter.failed for exporter in self._exporters)

    def __call__(self, record: Record) -> None:
        if self._instruments is not None or record.trace is not None:
            self._put(record, record.trace)

    def connection(self, trace: Trace) -> None:
        """Takes the trace of a connection that is over."""
        self._put(None, trace)

    def close(self) -> None:
        """Sends what waits, for LAST_WORDS at most, and ends the threads."""
        self._over.set()
        self._thread.join(LAST_WORDS)
        for processor in self._processors:
            processor.force_flush(int(LAST_WORDS * 1000))
            processor.shutdown()  # type: ignore[no-untyped-call]
        if self._provider is not None:
            self._provider.shutdown(int(LAST_WORDS * 1000))

    def _put(self, record: Record | None, trace: Trace | None) -> None:
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

    def _take(self, record: Record | None, trace: Trace | None, now: int) -> None:
        if record is not None and self._instruments is not None:
            self._instruments.note(record)
        if trace is None:
            return
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
