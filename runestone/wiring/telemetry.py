"""What is told to whom about calls: traces and export, from the configuration and OpenTelemetry's own variables."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

from runestone.config.front import Telemetry
from runestone.core.record import Record
from runestone.core.trace import Trace
from runestone.telemetry.tracer import Tracer

_ENDPOINTS = tuple(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT" for which in ("", "TRACES_", "METRICS_"))


class Otel(Protocol):
    """What exports (telemetry/otel.py), by what is needed of it here."""

    @property
    def dropped(self) -> int:
        """What did not arrive."""

    def __call__(self, record: Record) -> None:
        """See Observer."""

    def connection(self, trace: Trace) -> None:
        """Takes the trace of a connection that is over."""

    def close(self) -> None:
        """Sends what waits. Blocks."""


class Following:
    """Who begins traces (None where there are none), and who takes them: an observer, from `start` to `close`."""

    def __init__(self, tracer: Tracer | None = None, open_: Callable[[], Otel] | None = None) -> None:
        self.tracer = tracer
        self._open = open_
        self._otel: Otel | None = None

    async def start(self) -> None:
        """Opens the export. Raises ConfigurationError where an extra is missing."""
        if self._open is not None:
            self._otel = await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Sends what waits."""
        if self._otel is not None:
            await asyncio.to_thread(self._otel.close)

    def __call__(self, record: Record) -> None:
        if self._otel is not None:
            self._otel(record)

    def connection(self, trace: Trace) -> None:
        """Takes the trace of a connection that is over."""
        if self._otel is not None:
            self._otel.connection(trace)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What metrics read at any time."""
        if self._otel is not None:
            yield "spans_dropped_total", {}, self._otel.dropped


def following_of(told: Telemetry, models: Iterable[str], environ: Mapping[str, str] = os.environ) -> Following:
    """What the configuration asks for."""
    names = {name for name in told.exporters if name != "prometheus"}
    if not told.exporters and (told.endpoint or any(environ.get(name) for name in _ENDPOINTS)):
        names = {"otlp"}
    if not told.enabled or not names or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Following()

    def otel() -> Otel:
        exporters: Any = import_module("runestone.telemetry.exporters")  # only now: see telemetry/otel.py
        made: Otel = exporters.otel_of(names, frozenset(models), told.endpoint)
        return made

    tracer = Tracer(ratio=_ratio(told, environ), content=told.content, chance=random.random, bits=random.getrandbits)
    return Following(tracer, otel)


def _ratio(told: Telemetry, environ: Mapping[str, str]) -> float:
    """OpenTelemetry's own variables come first: they are set where the gateway is deployed."""
    sampler, argument = environ.get("OTEL_TRACES_SAMPLER", ""), environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    if sampler.endswith("always_off"):
        return 0.0
    if sampler.endswith("always_on"):
        return 1.0
    if sampler.endswith("traceidratio"):
        try:
            return min(max(float(argument), 0.0), 1.0)
        except ValueError:
            return 1.0  # as the specification has it
    return told.sample_ratio
