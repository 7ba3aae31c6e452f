"""For any bytes, split anywhere: nothing is lost or added, blocks end at borders, the events are those of a reader
that follows the standard line by line, and nothing is raised.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.dialects.sse import Cutter, Decoder, Event

BORDERS = (b"\n\n", b"\n\r\n", b"\r\r")
BREAKS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"])
FIELDS = st.sampled_from([b"data:", b"data: ", b"event: ", b": c", b"id: 1", b"\xef\xbb\xbf", b":", b" "])
VALUES = st.sampled_from([b"a", b"{}", b"ping", b"\x00", b"\xff", b"[DONE]"])
PIECES = BREAKS | FIELDS | VALUES
STREAMS = st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=40)


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    stream = draw(STREAMS)
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return stream, [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


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


@given(split=split_streams())
@settings(max_examples=400, deadline=None)
def test_the_cutter_keeps_every_byte(split: tuple[bytes, list[bytes]]) -> None:
    """Blocks and tail joined are the stream; each block ends at a border; the tail holds none."""
    stream, parts = split
    cutter = Cutter()
    blocks = [cutter.feed(part) for part in parts]
    assert b"".join(blocks) + cutter.tail == stream
    assert all(block.endswith(BORDERS) for block in blocks if block)
    assert not any(border in cutter.tail for border in BORDERS)


@given(split=split_streams())
@settings(max_examples=400, deadline=None)
def test_the_decoder_reads_as_the_standard_says(split: tuple[bytes, list[bytes]]) -> None:
    """However it is split, a stream has the events that the standard's own steps find."""
    stream, parts = split
    decoder = Decoder()
    found = [event for part in parts for event in decoder.feed(part)]
    assert found + decoder.finish() == by_the_standard(stream)
