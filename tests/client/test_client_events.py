"""Server-sent events with their ids, read at any split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.client.errors import TooLarge
from runestone.client.events import Event, Events

STREAM = b'id: 1\ndata: {"a":1}\n\n: comment\n\nid: 2\ndata: x\ndata:  y\n\ndata: no id\n\nid: 4\n\nid: 5\ndata\n\n'
SAID = [Event("1", b'{"a":1}'), Event("2", b"x\n y"), Event(None, b"no id"), Event("5", b"")]


@given(st.lists(st.integers(0, len(STREAM) * 2), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_the_same_at_any_split(cuts: list[int], end: bytes) -> None:
    """Whatever the line ends: a comment is none, data of several lines is one, an event without data is not told."""
    data = STREAM.replace(b"\n", end)
    events, found = Events(1000), []
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for first, last in pairwise(places):
        found += events.feed(data[first:last])
    found += events.feed(b"\n")  # a lone carriage return may have been half of a line break
    assert found == SAID


def test_what_a_lost_connection_left_unfinished_is_not_told() -> None:
    """An event counts when the empty line behind it has come."""
    events = Events(1000)
    assert events.feed(b"id: 1\ndata: a\n\nid: 2\ndata: half") == [Event("1", b"a")]
    assert events.feed(b" and more\n") == []


@pytest.mark.parametrize("data", [b"data: " + b"x" * 2000, b"data: x\n" * 300])
def test_an_event_that_is_too_large_is_refused(data: bytes) -> None:
    """In one line or in many, whole or byte by byte: memory is bounded."""
    events = Events(1000)
    with pytest.raises(TooLarge):
        [events.feed(data[at : at + 1]) for at in range(len(data))]
    with pytest.raises(TooLarge):
        Events(1000).feed(data + b"\n\n")
    assert len(Events(3000).feed(data + b"\n\n")) == 1
