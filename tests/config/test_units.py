"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300s", 300.0),
        ("5m", 300.0),
        ("100ms", 0.1),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("10_000ms", 10.0),
        (" 30 s ", 30.0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    """Every unit is understood, with decimals, underscores and blanks."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512B", 512),
        ("10KB", 10_000),
        ("10KiB", 10_240),
        ("20MB", 20_000_000),
        ("256MiB", 268_435_456),
        ("1.5GB", 1_500_000_000),
        ("1GiB", 1_073_741_824),
    ],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    """KB is a thousand bytes, KiB is 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize("bare", ["300", "0", 300, 1.5, 0])
def test_a_bare_number_is_refused_with_an_example(bare: object) -> None:
    """Nobody can tell seconds from milliseconds by looking at 300: the message shows how to write it."""
    with pytest.raises(ValueError, match="with a unit, such as"):
        parse_duration(bare)
    with pytest.raises(ValueError, match="with a unit, such as"):
        parse_size(bare)


@pytest.mark.parametrize("wrong", ["", "s", "-1s", "1 minute", "1e3s", "1s2s", "s1", "∞s", "1.s", ".5s", "1__0s"])
def test_what_is_no_duration_is_refused(wrong: str) -> None:
    """Signs, exponents, words and leftovers are errors, not guesses."""
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(wrong)


@pytest.mark.parametrize("wrong", [None, True, [], {}, b"1s"])
def test_what_is_no_text_is_refused(wrong: object) -> None:
    """Any other type is a ValueError too, for whoever collects the faults."""
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(wrong)
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(wrong)


@pytest.mark.parametrize(("text", "unit"), [("5min", "min"), ("5S", "S"), ("5MB", "MB"), ("1us", "us")])
def test_an_unknown_unit_is_named(text: str, unit: str) -> None:
    """The message says which part was not understood."""
    with pytest.raises(ValueError, match=f"unknown unit '{unit}'"):
        parse_duration(text)


@pytest.mark.parametrize("parse", [parse_duration, parse_size])
@pytest.mark.parametrize("unit", ["s", "B"])
def test_a_number_beyond_all_bounds_is_refused(parse: object, unit: str) -> None:
    """Four hundred digits are a fault to be listed, not infinity and not an OverflowError."""
    assert callable(parse)
    with pytest.raises(ValueError, match="must be"):
        parse("9" * 400 + unit)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "100ms"), (1.0, "1s"), (90.0, "90s"), (300.0, "5m"), (7200.0, "2h"), (86400.0, "1d"), (1.5, "1500ms")],
)
def test_a_duration_is_written_as_people_would(seconds: float, text: str) -> None:
    """The largest unit that divides it."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (1024, "1024B"), (20_000_000, "20MB"), (1_000, "1KB")])
def test_a_size_is_written_as_people_would(size: int, text: str) -> None:
    """The largest unit that divides it."""
    assert format_size(size) == text


@given(st.integers(0, 10**15))
@settings(max_examples=100, deadline=None)
def test_sizes_read_back(size: int) -> None:
    """What is written reads as the same number of bytes."""
    assert parse_size(format_size(size)) == size


@given(
    st.one_of(
        st.integers(0, 10**7).map(lambda millis: f"{millis}ms"),
        st.decimals(0, 10**6, places=7).map(lambda number: f"{number:f}s"),
        st.integers(0, 10**4).map(lambda days: f"{days}d"),
    )
)
@settings(max_examples=200, deadline=None)
def test_durations_read_back(text: str) -> None:
    """A duration somebody wrote, written again, reads as the same number of seconds."""
    seconds = parse_duration(text)
    assert parse_duration(format_duration(seconds)) == seconds
