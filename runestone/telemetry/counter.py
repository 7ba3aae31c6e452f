"""Counters that cost a call little: a number, made into prometheus-client's family when somebody scrapes.

prometheus-client's own Counter takes a lock for each addition, which a process with one loop does not need.
Rule: a child is made once for its labels and kept; it never falls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from runestone.telemetry.text import before_values, head, number


class Total:
    """One series. Who counts on the path of a call adds to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counter(Collector):
    """One family under its whole `name`."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._children: dict[tuple[str, ...], Total] = {}
        self._head = head(self._family())
        self._befores: dict[tuple[str, ...], tuple[str, ...]] = {}
        if not labels:
            self.labels()

    def labels(self, *values: str) -> Total:
        """The child of these label values, in the order of the names."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Total()
        return child

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for values, child in self._children.items():
            family.add_metric(values, child.value)
        yield family

    def text(self) -> str:
        """What is scraped."""
        said = [self._head]
        for values, child in self._children.items():
            before = self._befores.get(values) or self._before(values)
            said.append(f"{before[0]}{number(child.value)}\n")
        return "".join(said)

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self._labels)

    def _before(self, values: tuple[str, ...]) -> tuple[str, ...]:
        family = self._family()
        family.add_metric(values, 0)
        before = self._befores[values] = before_values(family)
        return before
