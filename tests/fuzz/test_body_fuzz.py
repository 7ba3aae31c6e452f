"""For any bytes: they are read as one JSON object, with the value that Python's own reader finds, or refused by a
BadRequest; and refused are exactly those that a strict reader refuses: bytes that are no UTF-8, half a surrogate pair,
a name twice in one object, a number that is none or without end, an object that is not one, or more levels than are
written. Nothing else is raised, and no refusal repeats what the body holds, but for the name of a field.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from runestone.dialects.body import MAX_DEPTH, parse_object
from runestone.errors import BadRequest
from tests.fuzz.effort import effort

# -- the oracle


class Refused(ValueError):
    """What a strict reader does not take."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise Refused("twice")
    return read


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Refused("without end")
    return value


def _int(digits: str) -> float:
    value = int(digits)  # ValueError past 4,300 digits
    if -(2**63) <= value < 2**64:
        return value
    return _float(digits)


def _constant(name: str) -> Any:
    raise Refused(name)


def depth_of(value: Any) -> int:
    """Levels of nesting."""
    levels, row = 0, [value]
    while row := [item for item in row if isinstance(item, dict | list)]:
        levels += 1
        row = [inner for item in row for inner in (item.values() if isinstance(item, dict) else item)]
    return levels


def strictly(body: bytes) -> dict[str, Any] | None:
    """What Python's reader, told to be strict, makes of it; None where it takes it for nothing."""
    try:
        text = body.decode()
        value = json.loads(
            text, object_pairs_hook=_unique, parse_float=_float, parse_int=_int, parse_constant=_constant
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair
    except (ValueError, RecursionError):
        return None
    return value if type(value) is dict and depth_of(value) <= MAX_DEPTH else None


# -- bodies

NAMES = st.sampled_from(
    ['"a"', '"b"', '"c"', '"model"', '""', '"é"', '"\\u00e9"', '"A"', '"\\u0061"', '"mod\\u0065l"', '"\\ud800"', "a"]
)
SECRET = "Contents"
SOUND = (
    st.sampled_from(
        [
            "0",
            "-0",
            "1e5",
            "1E-5",
            "1e-400",
            "0.1",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
        ]
    )
    | st.sampled_from(
        ["9" * 30, "0.1234567890123456789", "123456789012345.6789e-5", "5e-324", "2.5e-324", "1.7976931348623159e307"]
    )
    | st.sampled_from(
        ['"x"', '"\\ud83d\\ude00"', '"\x7f"', '"\\/"', "null", "true", "false", f'"{SECRET}"', '"\u2028"']
    )
)
BROKEN = (
    st.sampled_from(
        [
            "-",
            "01",
            "1.",
            ".5",
            "1e400",
            "-1e400",
            "9" * 400,
            "9" * 4400,
            "NaN",
            "Infinity",
            "-Infinity",
            "+1",
            "0x1",
            "1_0",
        ]
    )
    | st.sampled_from(
        ['"', "'x'", '"\\x"', '"\\ude00"', '"\\ud83d"', '"\\u12"', '"\t"', "True", "nul", "", "//", "{", "]", ","]
    )
    | st.sampled_from([SECRET, f'"{SECRET}\\q"'])
)
BLANKS = st.sampled_from(["", "", " ", "\n", "\t", "\r"] * 3 + ["\x0b", "\xa0", "\ufeff", "\x00"])


def _object(members: list[tuple[str, str]], blank: str) -> str:
    return "{" + ",".join(f"{name}{blank}:{value}" for name, value in members) + blank + "}"


VALUES = st.recursive(
    SOUND
    | SOUND
    | SOUND
    | BROKEN
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers().map(str),
    lambda inner: (
        st.builds(lambda items, blank: "[" + f",{blank}".join(items) + "]", st.lists(inner, max_size=2), BLANKS)
        | st.builds(_object, st.lists(st.tuples(NAMES, inner), max_size=2), BLANKS)
    ),
    max_leaves=3,
)
WRITTEN = st.builds(
    lambda members, before, after: (before + _object(members, "") + after).encode(),
    st.lists(st.tuples(NAMES, VALUES), max_size=3),
    BLANKS,
    BLANKS,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON that is almost right, or has a byte wrong, or is very deep; or any bytes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=30))
    if kind == 1:
        levels = draw(st.sampled_from([252, 253, 254, 255, 300, 1100]))
        blank = draw(st.sampled_from([b"", b" "]))
        return b'{"a":' + blank + b"[" * levels + b"]" * levels + b"}"
    body = draw(WRITTEN)
    if kind in (2, 3) and body:
        at = draw(st.integers(0, len(body) - 1))
        byte = draw(st.sampled_from([b"", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b'"', b"\\", b"}", b"{"]))
        body = body[:at] + byte + body[at + draw(st.integers(0, 1)) :]
    return body


@given(bodies())
@effort(200)
def test_what_is_read_is_what_a_strict_reader_reads(body: bytes) -> None:
    """The same is refused, and the same value is found, in bodies with one meaning and in no others."""
    meant = strictly(body)
    read = outcome(body)
    event("refused" if isinstance(read, BadRequest) else "read")
    if isinstance(read, BadRequest):
        assert meant is None, body
        assert SECRET not in read.message
        assert read.param is None or len(read.param) <= 100
    else:
        assert meant is not None, body
        assert _same(read, meant)


def outcome(body: bytes) -> dict[str, Any] | BadRequest:
    """What is read of it, or why not."""
    try:
        return parse_object(body)
    except BadRequest as error:
        return error


def _same(one: Any, other: Any) -> bool:
    """Of one type and value; 1, 1.0 and true are three things."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
