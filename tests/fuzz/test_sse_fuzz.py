"""For any bytes, chopped anywhere: nothing is lost or added, blocks end at borders, and the events are those that a
reader finds who follows the standard line by line over the whole stream. What is held is never more than MAX_EVENT
bytes, in about as much memory however small the pieces were, and StreamBroken is raised exactly when an event without
an end is longer than that; nothing else is ever raised. What is encoded is decoded.
"""

from __future__ import annotations

import re
import sys
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from runestone.dialects.sse import Cutter, Decoder, Event, encode
from runestone.errors import StreamBroken
from tests.fuzz.effort import effort
from tests.fuzz.strategies import cuts

BORDERS = (b"\n\n", b"\n\r\n", b"\r\r")
BREAKS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"])
FIELDS = st.sampled_from([b"data:", b"data: ", b"data", b"event: ", b": c", b"id: 1", b"\xef\xbb\xbf", b":", b" "])
VALUES = st.sampled_from([b"a", b"{}", b"ping", b"\x00", b"\xff", b"\xc2\x85", b"[DONE]", b"\x0b", b"\x1c"])
STREAMS = st.lists(BREAKS | FIELDS | VALUES, max_size=30).map(b"".join) | st.binary(max_size=40)
CHOPPED = STREAMS.flatmap(lambda stream: st.tuples(st.just(stream), cuts(stream)))
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
SMALL = 16
"""Bytes of an event, for want of time for sixteen million."""


def by_the_standard(stream: bytes) -> list[Event]:
    """WHATWG HTML 9.2.6, a line at a time; the end of the stream counts as the end of its last event."""
    events: list[Event] = []
    name, data = "", []
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            if data:
                events.append(Event(name, b"\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.strip().decode("utf-8", "replace")  # names are compared, so blanks around them do not count
    return events


@given(CHOPPED)
@effort(140)
def test_the_cutter_keeps_every_byte(chopped: tuple[bytes, list[bytes]]) -> None:
    """Blocks and tail joined are the stream; each block ends at a border; the tail holds none."""
    stream, parts = chopped
    cutter = Cutter()
    blocks = [cutter.feed(part) for part in parts]
    assert b"".join(blocks) + cutter.tail == stream
    assert all(block.endswith(BORDERS) for block in blocks if block)
    assert not any(border in cutter.tail for border in BORDERS)


@given(CHOPPED)
@effort(140)
def test_the_decoder_reads_as_the_standard_says(chopped: tuple[bytes, list[bytes]]) -> None:
    """However it is chopped, a stream has the events that the standard's own steps find."""
    stream, parts = chopped
    decoder = Decoder()
    found = [event for part in parts for event in decoder.feed(part)]
    assert found + decoder.finish() == by_the_standard(stream)


@given(CHOPPED)
@effort(100)
def test_what_is_held_is_bounded(chopped: tuple[bytes, list[bytes]]) -> None:
    """Refused is exactly an event that is longer than may be, as soon as that much of it is there."""
    _, parts = chopped
    with patch("runestone.dialects.sse.MAX_EVENT", SMALL):
        cutter, fed = Cutter(), b""
        for part in parts:
            fed += part
            # Borders may share bytes, so where the last one was seen depends on the pieces, by as much as a border.
            ends = [end for end in range(len(fed) + 1) if fed[:end].endswith(BORDERS)]
            least = len(fed) - max(ends, default=0)
            try:
                cutter.feed(part)
            except StreamBroken:
                assert least + 3 > SMALL
                return
            assert fed.endswith(cutter.tail)
            assert least <= len(cutter.tail) <= SMALL


@given(st.integers(1, 40), st.integers(100, 3000))
@effort(30)
def test_small_pieces_weigh_no_more(size: int, pieces: int) -> None:
    """Pieces of any size are held in twice their bytes and a little: nobody fills the memory a byte at a time."""
    cutter = Cutter()
    for number in range(pieces):
        cutter.feed(bytes([97 + number % 26]) * size)
    held = [getattr(cutter, name) for name in cutter.__slots__]
    inner = [item for value in held if isinstance(value, list) for item in value]
    assert sum(map(sys.getsizeof, [*held, *inner])) < 2 * size * pieces + 1024
    assert len(cutter.tail) == size * pieces


@given(st.lists(st.tuples(WORDS.map(str.encode), WORDS.map(str.strip)), max_size=6))
@effort(100)
def test_what_is_encoded_is_decoded(events: list[tuple[bytes, str]]) -> None:
    """Data without line breaks and a name come back as they were."""
    decoder = Decoder()
    found = [event for data, name in events for event in decoder.feed(encode(data, name))]
    assert found == [Event(name, data) for data, name in events]
