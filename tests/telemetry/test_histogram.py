"""Our histograms and counters say what prometheus-client's own would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client import Counter as TheirCounter
from prometheus_client import Histogram as TheirHistogram

from runestone.core.buckets import Buckets
from runestone.telemetry.counter import Counter
from runestone.telemetry.histogram import Histogram

BOUNDS = (0.005, 0.1, 1, 2.5, 60)
LABELS = st.sampled_from(["a", 'b"\n', "c \\ d", "e\u2028f", "g\x85\x0b", "# h", ""])
VALUES = st.lists(st.tuples(LABELS, st.floats(0, 1e12) | st.floats(0, 100) | st.sampled_from(BOUNDS)))


@given(VALUES)
def test_the_exposition_of_histograms_is_the_same(values: list[tuple[str, float]]) -> None:
    """Text, names, labels, buckets, counts and sums, for any values, those on a border too; by way of the library, and
    by our own shorter one, the first time and later.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    mine, theirs = CollectorRegistry(), CollectorRegistry()
    ours = Histogram("x_seconds", "Text\nof two lines", ("label",), BOUNDS)
    mine.register(ours)
    reference = TheirHistogram("x_seconds", "Text\nof two lines", ("label",), buckets=BOUNDS, registry=theirs)
    for label, value in values:
        ours.labels(label).observe(value)
        reference.labels(label).observe(value)
        ours.text()
    expected = generate_latest(theirs)
    assert generate_latest(mine) == expected
    assert ours.text().encode() == expected


@given(VALUES)
def test_the_exposition_of_counters_is_the_same(values: list[tuple[str, float]]) -> None:
    """For any labels and amounts."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    mine, theirs = CollectorRegistry(), CollectorRegistry()
    ours = Counter("x_total", "Text", ("label",))
    mine.register(ours)
    reference = TheirCounter("x_total", "Text", ("label",), registry=theirs)
    for label, value in values:
        ours.labels(label).value += value
        reference.labels(label).inc(value)
        ours.text()
    expected = generate_latest(theirs)
    assert generate_latest(mine) == expected
    assert ours.text().encode() == expected


def test_a_count_of_millions_is_written_as_the_library_does() -> None:
    """Go's way of writing large numbers, in whole counts too."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours = Histogram("x", "Text", (), BOUNDS)
    registry = CollectorRegistry()
    registry.register(ours)
    for count in (999_999, 1_000_000, 1_234_567, 123_456_789):
        ours.labels().counts[1] = count
        assert ours.text().encode() == generate_latest(registry)


def test_without_labels_they_are_there_from_the_start() -> None:
    """Zeros are told before the first value, as Prometheus wants them."""
    assert "y_count 0.0\n" in Histogram("y", "Text", (), BOUNDS).text()
    assert "y_total 0.0\n" in Counter("y_total", "Text").text()


def test_noughts_that_were_not_noted_are_added_to_a_copy() -> None:
    """What waited nought seconds needs no observation of its own; the original goes on counting."""
    buckets = Buckets(BOUNDS)
    buckets.observe(0.05)
    copy = buckets.with_zeros(3)
    buckets.observe(0.0)
    assert (copy.counts, copy.total) == ([3, 1, 0, 0, 0, 0], 0.05)
    assert buckets.counts == [1, 1, 0, 0, 0, 0]
