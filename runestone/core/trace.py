"""What one call did, step by step, for who follows it through several services.

Noted while the call runs, as cheaply as can be; made into spans of OpenTelemetry when it is over, off the path
(telemetry/otel.py). Names and ids are those of W3C Trace Context (https://www.w3.org/TR/trace-context/).
Rule: pure; times (nanoseconds since 1970) and ids are handed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

Value = str | int | float | bool | tuple[str, ...]
NewId = Callable[[int], int]
"""A random number of so many bits, never 0."""

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
LONGEST_STATE = 512
"""Characters of a `tracestate` that are passed on."""


class Context(NamedTuple):
    """Where a call comes from, as its `traceparent` and `tracestate` say."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str

    def header(self) -> str:
        """`traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


def read_context(traceparent: str, tracestate: str = "") -> Context | None:
    """The context of the headers; None for what is none, which starts a new trace, as the standard has it."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (found[1] == "00" and found[5]):
        return None
    state = tracestate if len(tracestate) <= LONGEST_STATE else ""
    return Context(int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & 1), state)


@dataclass(slots=True, eq=False)
class Span:
    """One step. `error` is the code of its failure."""

    name: str
    id: int
    parent: int
    start: int
    end: int = 0
    is_client: bool = False
    """Whether it is a request to another service."""
    error: str | None = None
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Trace:
    """The steps of one call, or of one connection. `root` is the first of them."""

    id: int
    state: str
    new_id: NewId
    root: Span
    spans: list[Span] = field(default_factory=list)

    def begin(self, name: str, parent: Span | None, now: int) -> Span:
        """A new step."""
        span = Span(name, self.new_id(64), (parent or self.root).id, now)
        self.spans.append(span)
        return span

    def context(self, span: Span | None = None) -> Context:
        """What a service that is asked in `span` is told."""
        return Context(self.id, (span or self.root).id, True, self.state)


def begin_trace(name: str, context: Context | None, new_id: NewId, now: int) -> Trace:
    """A trace whose first step is `name`, a child of `context` where there is one."""
    root = Span(name, new_id(64), context.span_id if context is not None else 0, now)
    return Trace(
        context.trace_id if context is not None else new_id(128),
        context.state if context is not None else "",
        new_id,
        root,
        [root],
    )
