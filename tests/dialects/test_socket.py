"""The messages of the WebSocket protocol, and the frames they leave in."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketReader
from hypothesis import given
from hypothesis import strategies as st

from runestone.dialects.socket import LONGEST_REF, Message, Unreadable, frame, read, write


def message(**fields: object) -> str:
    return orjson.dumps(fields).decode()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"event":"a","payload":{"b":1}}', Message("a", {"b": 1}, None)),
        ('{"payload":{"b":1},"event":"a","ref":"r"}', Message("a", {"b": 1}, "r")),
        ('  {"event": "a"}\n', Message("a", {}, None)),
        ('{"event":"a","payload":null,"ref":null}', Message("a", {}, None)),
        ('{"event":"a","ref":7}', Message("a", {}, 7)),
        ('{"event":"a","ref":-1.5}', Message("a", {}, -1.5)),
        ('{"event":"a","ref":0}', Message("a", {}, 0)),
        ('{"event":"a","ref":""}', Message("a", {}, "")),
        ('{"event":"","payload":{}}', Message("", {}, None)),
        ('{"event":"a","join_ref":"1","topic":"t"}', Message("a", {}, None)),
        ('{"event":"ping","payload":"anything"}', Message("ping", {}, None)),
        ('{"event":"ping","payload":[1]}', Message("ping", {}, None)),
        ('{"event":"ping","payload":7,"ref":1}', Message("ping", {}, 1)),
        ('{"event":"\\u00e9\\ud83e\\uddff"}', Message("é\U0001f9ff", {}, None)),
    ],
)
def test_what_is_read(text: str, meant: Message) -> None:
    """Unknown fields are passed over, what is left out is empty."""
    assert read(text) == meant


WRONG = [
    ("", "not JSON", None),
    ("hello", "not JSON", None),
    ('{"event":"a"', "not JSON", None),
    ('{"event":"a"}{"event":"b"}', "not JSON", None),
    ('{"event":NaN}', "not JSON", None),
    ("[]", "object", None),
    ("null", "object", None),
    ('"event"', "object", None),
    ("{}", "'event'", None),
    ('{"ref":3}', "'event'", 3),
    ('{"event":null,"ref":"r"}', "'event'", "r"),
    ('{"event":["a"],"ref":"r"}', "'event'", "r"),
    ('{"event":1}', "'event'", None),
    ('{"event":"a","payload":[],"ref":"r"}', "'payload'", "r"),
    ('{"event":"a","payload":"b","ref":1.5}', "'payload'", 1.5),
    ('{"event":"a","payload":false}', "'payload'", None),
    ('{"event":"a","ref":{}}', "'ref'", None),
    ('{"event":"a","ref":[1]}', "'ref'", None),
    ('{"event":"a","ref":true}', "'ref'", None),
    (message(event="a", ref="x" * (LONGEST_REF + 1)), "'ref'", None),
    ('{"event":"a","event":"b"}', "twice", None),
    ('{"event":"a","payload":{"x":1,"x":2}}', "twice", None),
    ('{"event":"\ud800"}', "surrogate", None),
    ('{"event":"\\ud800"}', "not JSON", None),
    ('{"event":"a","payload":' + "[" * 5000 + "]" * 5000 + "}", "", None),
    ('{"event":"a","payload":{"x":' + "[" * 400 + "]" * 400 + "}}", "nested", None),
    ("[" * 100_000, "", None),
]


@pytest.mark.parametrize(("text", "why", "ref"), WRONG, ids=range(len(WRONG)))
def test_what_is_none_says_why_and_whose_it_was(text: str, why: str, ref: object) -> None:
    """An error with a reason, with the `ref` where there was one, and without what the client wrote."""
    with pytest.raises(Unreadable) as caught:
        read(text)
    assert why in caught.value.message
    assert caught.value.ref == ref
    assert len(caught.value.message) < 300
    assert "the body" not in caught.value.message


@given(st.one_of(st.text(), st.text(st.sampled_from('{}[]":,\\u01dae event payload ref null'), max_size=40)))
def test_any_text_is_a_message_or_is_none(text: str) -> None:
    """Nothing a client can send is anything else."""
    told = _read(text)
    assert told.message if isinstance(told, Unreadable) else type(told.event) is str


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"event": JSON, "payload": JSON, "ref": JSON}))
def test_any_object_is_a_message_or_is_none(fields: dict[str, Any]) -> None:
    """Of the right kinds it is what it says; of wrong kinds it is none; `ref` comes back whichever it is."""
    ref = fields.get("ref")
    is_ref = ref is None or (isinstance(ref, (str, int, float)) and not isinstance(ref, bool))
    payload = fields.get("payload")
    is_well = is_ref and type(fields.get("event")) is str and (payload is None or type(payload) is dict)
    told = _read(orjson.dumps(fields).decode())
    if isinstance(told, Unreadable):
        assert not is_well or (isinstance(ref, str) and len(ref) > LONGEST_REF)
        assert told.ref is None or told.ref == ref
    else:
        assert is_well or fields.get("event") == "ping"
        assert (told.event, told.ref) == (fields["event"], ref)


def _read(text: str) -> Message | Unreadable:
    try:
        return read(text)
    except Unreadable as error:
        return error


@pytest.mark.parametrize("value", ["", "x" * 201, None, 7, True, ["a"], {"a": 1}, 1.5])
def test_a_text_field_is_a_short_text(value: object) -> None:
    """Of 1 to 200 characters; anything else says which field."""
    asked = Message("a", {"room": value}, "r")
    with pytest.raises(Unreadable) as caught:
        asked.text("room")
    assert "'payload.room'" in caught.value.message
    assert caught.value.ref == "r"
    with pytest.raises(Unreadable, match=r"payload\.other"):
        asked.text("other")
    assert Message("a", {"room": "x" * 200}, None).text("room") == "x" * 200


@pytest.mark.parametrize("value", ["1", None, True, False, 1.0, -1, 1e30, [1]])
def test_a_number_field_is_a_whole_number(value: object) -> None:
    """Not negative, not a boolean, not a fraction."""
    with pytest.raises(Unreadable, match=r"payload\.last_seq"):
        Message("a", {"last_seq": value}, None).number("last_seq")
    for good in (0, 1, 2**63):
        assert Message("a", {"last_seq": good}, None).number("last_seq") == good


@given(st.text(max_size=20), JSON, st.integers(1, 10**12), st.none() | st.text(max_size=50) | st.integers(-9, 10**15))
def test_what_is_written_reads_as_it_was_meant(event: str, payload: object, seq: int, ref: str | int | None) -> None:
    """JSON of one line with event, seq, payload, and the ref where there was one."""
    event = "".join(letter for letter in event if letter.isascii() and letter.isprintable() and letter not in '"\\')
    written = write(event, orjson.dumps(payload), seq, ref)
    expected = {"event": event, "seq": seq, "payload": payload}
    assert orjson.loads(written) == (expected if ref is None else {**expected, "ref": ref})
    assert b"\n" not in written


def parsed(data: bytes) -> list[tuple[WSMsgType, bytes]]:
    """The messages in `data` as another implementation reads them."""
    loop = asyncio.new_event_loop()
    try:
        queue = WebSocketDataQueue(Mock(spec=BaseProtocol, _reading_paused=False), 2**30, loop=loop)
        reader = WebSocketReader(queue, 0, compress=False, decode_text=False)
        assert reader.feed_data(data) == (False, b"")
        return [(told.type, told.data) for told, _ in queue._buffer]
    finally:
        loop.close()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 65535, 65536, 65537, 1_000_000])
def test_a_frame_is_one_whole_text_of_a_server(size: int) -> None:
    """At every border of the three forms of the length: final, text, without a mask, in the shortest form."""
    data = frame(b"x" * size)
    assert parsed(data) == [(WSMsgType.TEXT, b"x" * size)]
    assert data[0] == 0x81
    assert data[1] < 128
    assert len(data) - size == (2 if size < 126 else 4 if size < 65536 else 10)


@given(st.lists(st.text(max_size=200).map(str.encode), max_size=5))
def test_frames_behind_each_other_stay_apart(texts: list[bytes]) -> None:
    """What leaves in one write arrives as many messages."""
    assert parsed(b"".join(map(frame, texts))) == [(WSMsgType.TEXT, text) for text in texts]
