"""Our histograms say what prometheus-client's own would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client import Histogram as Theirs

from runestone.telemetry.histogram import Histogram

BOUNDS = (0.005, 0.1, 1, 2.5, 60)
VALUES = st.lists(st.tuples(st.sampled_from(["a", 'b"\n']), st.floats(0, 100) | st.sampled_from(BOUNDS)))


@given(VALUES)
def test_the_exposition_is_the_same(values: list[tuple[str, float]]) -> None:
    """Text, names, labels, buckets, counts and sums, for any values, those on a border too."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    mine, theirs = CollectorRegistry(), CollectorRegistry()
    ours = Histogram("x_seconds", "Text", ("label",), BOUNDS)
    mine.register(ours)
    reference = Theirs("x_seconds", "Text", ("label",), buckets=BOUNDS, registry=theirs)
    for label, value in values:
        ours.labels(label).observe(value)
        reference.labels(label).observe(value)
    assert sorted(generate_latest(mine).splitlines()) == sorted(generate_latest(theirs).splitlines())


def test_without_labels_it_is_there_from_the_start() -> None:
    """Zeros are told before the first value, as Prometheus wants them."""
    registry = CollectorRegistry()
    registry.register(Histogram("y", "Text", (), BOUNDS))
    assert b"y_count 0.0" in generate_latest(registry)
