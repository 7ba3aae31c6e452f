"""Server-sent events: one list of streams, fed whole, byte by byte and cut anywhere, to both readers."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from runestone.dialects.sse import MAX_EVENT, Cutter, Decoder, Event, encode
from runestone.errors import StreamBroken

BORDERS = (b"\n\n", b"\n\r\n", b"\r\r")
M = ""

# (name, stream, events); the last event may have no blank line behind it.
STREAMS: list[tuple[str, bytes, list[Event]]] = [
    ("empty", b"", []),
    ("blank lines", b"\n\n\n\r\n\r\n\r\r", []),
    ("one", b"data: a\n\n", [Event(M, b"a")]),
    ("two", b"data: a\n\ndata: b\n\n", [Event(M, b"a"), Event(M, b"b")]),
    ("crlf", b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(M, b"a"), Event(M, b"b")]),
    ("cr", b"data: a\r\rdata: b\r\r", [Event(M, b"a"), Event(M, b"b")]),
    ("lf then crlf", b"data: a\n\r\ndata: b\n\n", [Event(M, b"a"), Event(M, b"b")]),
    ("crlf then lf", b"data: a\r\n\ndata: b\n\n", [Event(M, b"a"), Event(M, b"b")]),
    ("cr then crlf", b"data: a\r\r\ndata: b\n\n", [Event(M, b"a"), Event(M, b"b")]),
    ("lf then cr", b"data: a\n\rdata: b\n\n", [Event(M, b"a"), Event(M, b"b")]),
    ("many blank lines", b"\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [Event(M, b"a"), Event(M, b"b")]),
    ("named", b"event: ping\ndata: {}\n\n", [Event("ping", b"{}")]),
    ("name after data", b"data: {}\nevent: ping\n\n", [Event("ping", b"{}")]),
    ("name does not last", b"event: x\ndata: a\n\ndata: b\n\n", [Event("x", b"a"), Event(M, b"b")]),
    ("no blank behind the colon", b"event:x\ndata:a\n\n", [Event("x", b"a")]),
    ("one blank is not data", b"data:  a \n\n", [Event(M, b" a ")]),
    ("several lines", b"data: a\ndata: b\n\n", [Event(M, b"a\nb")]),
    ("several lines, crlf", b"data: a\r\ndata: b\r\n\r\n", [Event(M, b"a\nb")]),
    ("a line without colon", b"data\n\n", [Event(M, b"")]),
    ("empty data", b"data:\n\n", [Event(M, b"")]),
    ("a colon in the data", b"data: a: b\n\n", [Event(M, b"a: b")]),
    ("comment", b": OPENROUTER PROCESSING\n\ndata: a\n\n", [Event(M, b"a")]),
    ("comment inside", b"data: a\n: hello\ndata: b\n\n", [Event(M, b"a\nb")]),
    ("name without data", b"event: ping\n\ndata: a\n\n", [Event(M, b"a")]),
    ("unknown fields", b"id: 7\nretry: 10\ndata: a\nfoo: bar\nDATA: x\n\n", [Event(M, b"a")]),
    ("bom", b"\xef\xbb\xbfdata: a\n\n", [Event(M, b"a")]),
    ("bom once", b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", [Event(M, b"a"), Event(M, b"c")]),
    ("any bytes", b"data: \xff\x00\xe2\x82\n\n", [Event(M, b"\xff\x00\xe2\x82")]),
    ("a name of any bytes", b"event: \xff\ndata: a\n\n", [Event("\ufffd", b"a")]),
    ("no blank line at the end", b"data: a\n\ndata: b\n", [Event(M, b"a"), Event(M, b"b")]),
    ("no line break at the end", b"data: a\n\ndata: [DONE]", [Event(M, b"a"), Event(M, b"[DONE]")]),
    ("cr at the end", b"data: a\r\n\r\ndata: b\r", [Event(M, b"a"), Event(M, b"b")]),
    ("half a border at the end", b"data: a\r\n\r", [Event(M, b"a")]),
]
every_stream = pytest.mark.parametrize(("stream", "events"), [s[1:] for s in STREAMS], ids=[s[0] for s in STREAMS])


def splits(stream: bytes) -> Iterable[list[bytes]]:
    """Whole, byte by byte, at every single place, and at twenty random lists of places."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    yield from ([stream[:at], stream[at:]] for at in range(1, len(stream)))
    dice = random.Random(7)
    for _ in range(20):
        places = sorted(dice.choices(range(len(stream) + 1), k=4))
        yield [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


@every_stream
def test_blocks_and_tail_joined_are_the_stream(stream: bytes, events: list[Event]) -> None:
    """The cutter gives every byte once, in order, changed in nothing."""
    for parts in splits(stream):
        cutter = Cutter()
        assert b"".join(map(cutter.feed, parts)) + cutter.tail == stream, parts


@every_stream
def test_a_block_ends_where_an_event_ends(stream: bytes, events: list[Event]) -> None:
    """No block stops inside an event, and the tail holds no whole one."""
    for parts in splits(stream):
        cutter = Cutter()
        blocks = [block for block in map(cutter.feed, parts) if block]
        assert all(block.endswith(BORDERS) for block in blocks), parts
        assert not any(border in cutter.tail for border in BORDERS), parts


@every_stream
def test_a_block_comes_as_soon_as_its_event_is_whole(stream: bytes, events: list[Event]) -> None:
    """Fed byte by byte, a border is given out with its last byte: nobody waits for the next event."""
    cutter = Cutter()
    held = b""
    for at in range(len(stream)):
        held += stream[at : at + 1]
        block = cutter.feed(stream[at : at + 1])
        assert block == (held if held.endswith(BORDERS) else b"")
        held = b"" if block else held


@every_stream
def test_events_do_not_depend_on_the_splits(stream: bytes, events: list[Event]) -> None:
    """The decoder gives the same events however the bytes came."""
    for parts in splits(stream):
        decoder = Decoder()
        found = [event for part in parts for event in decoder.feed(part)]
        assert found + decoder.finish() == events, parts


@every_stream
def test_the_decoder_reads_what_the_cutter_gives(stream: bytes, events: list[Event]) -> None:
    """Cut first and decoded then, a stream means the same."""
    for parts in splits(stream):
        cutter, decoder = Cutter(), Decoder()
        found = [event for part in parts for event in decoder.feed(cutter.feed(part))]
        assert found + decoder.feed(cutter.tail) + decoder.finish() == events, parts


@pytest.mark.parametrize(
    ("data", "name", "written"),
    [(b"{}", "", b"data: {}\n\n"), (b"{}", "ping", b"event: ping\ndata: {}\n\n"), (b"", "", b"data: \n\n")],
)
def test_what_is_encoded_is_decoded(data: bytes, name: str, written: bytes) -> None:
    """The writer writes what the reader reads."""
    assert encode(data, name) == written
    assert Decoder().feed(written) == [Event(name, data)]


@pytest.mark.parametrize("reader", [Cutter, Decoder])
def test_an_event_without_end_is_a_broken_stream(reader: type[Cutter] | type[Decoder]) -> None:
    """What is held of an event is bounded: a provider cannot fill memory."""
    fed = reader()
    part = b"data: " + b"x" * (MAX_EVENT // 4 - 6)
    for _ in range(4):
        fed.feed(part)
    with pytest.raises(StreamBroken, match=f"more than {MAX_EVENT} bytes"):
        fed.feed(b"x")


def test_the_bound_is_of_an_event_and_not_of_a_stream() -> None:
    """However much has passed, the next event may be large."""
    cutter = Cutter()
    for _ in range(3):
        assert cutter.feed(b"data: " + b"x" * (MAX_EVENT // 2)) == b""
        assert len(cutter.feed(b"\n\n")) == MAX_EVENT // 2 + 8
