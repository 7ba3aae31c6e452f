"""For any value of a header that a client sends, and any name it asks for: what is read of it is what its standard says
or nothing, nothing is raised but a BadRequest that names the header, and what is repeated in an answer is safe there.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from time import process_time

from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from runestone.core.directives import Directives, parse
from runestone.core.names import matcher
from runestone.core.trace import read_context
from runestone.edge.request import credential, request_id, socket_credential
from tests.fuzz.effort import effort

BYTES = st.binary(max_size=12).map(lambda value: value.decode("utf-8", "surrogateescape"))
"""As aiohttp hands them over."""
HEX = st.text("0123456789abcdef", min_size=1, max_size=4) | st.sampled_from(["A", "g", "", "é", "٣", " 1", "+1"])
CONTEXTS = st.builds(
    lambda parts, tail: "-".join(parts) + tail,
    st.tuples(
        st.sampled_from(["00", "01", "fe", "ff", "0", "000", "FF"]),
        st.builds(lambda end: end.rjust(32, "0"), HEX) | HEX,
        st.builds(lambda end: end.rjust(16, "0"), HEX) | HEX,
        st.sampled_from(["00", "01", "03", "ff", "1", "0g"]),
    ),
    st.sampled_from(["", "", "-", "-x", " ", "\n", "-\n"]),
)


def sound(header: str) -> bool:
    """https://www.w3.org/TR/trace-context/#traceparent-header, read by hand."""
    version, *fields = header.split("-")
    sizes = [len(field) for field in fields[:3]]
    text = version + "".join(fields[:3])
    return (
        len(version) == 2
        and version != "ff"
        and sizes == [32, 16, 2]
        and set(text) <= set("0123456789abcdef")
        and set(fields[0]) != {"0"}
        and set(fields[1]) != {"0"}
        and (version != "00" or len(fields) == 3)
        and "\n" not in header
    )


@given(CONTEXTS | BYTES, BYTES)
@effort(120)
def test_a_traceparent_is_one_or_none(header: str, state: str) -> None:
    """What is read is written as it was, as far as it is known."""
    context = read_context(header, state)
    assert (context is not None) is sound(header)
    if context is not None:
        assert context.header()[2:] in (header[2:55], header[2:53] + f"{context.sampled:02x}")
        assert context.trace_id
        assert context.span_id
        assert read_context(context.header(), state) == context


@given(st.lists(st.text("a*?[]!-|.^\\(){}\n$", max_size=6), max_size=3), st.text("ab*?[]!-|.\n", max_size=5))
@effort(120)
def test_a_pattern_matches_what_shells_match(patterns: list[str], name: str) -> None:
    """Several as one expression, each by itself."""
    assert (matcher(patterns).match(name) is not None) is any(fnmatchcase(name, pattern) for pattern in patterns)


CREDENTIALS = st.sampled_from(["Authorization", "x-api-key", "api-key", "Sec-WebSocket-Protocol", "x-request-id"])
SHOWN = st.sampled_from(
    ["Bearer k", "bearer  k ", "Bearer", "Basic eDp5", "k", "", " ", "runestone.key.k", "a, runestone.key."]
)


@given(st.lists(st.tuples(CREDENTIALS, SHOWN | BYTES), max_size=4))
@effort(80)
def test_a_credential_is_a_text_or_none(given_headers: list[tuple[str, str]]) -> None:
    """Never an empty one; and an id that is repeated can stand in any header."""
    headers = CIMultiDict(given_headers)
    for found in (credential(headers), socket_credential(headers)):
        assert found is None or found
    assert re.fullmatch(r"[\x21-\x7e]{1,200}", request_id(headers))


PIECES = st.sampled_from(
    [
        "no-cache",
        "no-store",
        "max-age=5",
        "max-age=9",
        "min-fresh=5",
        "min-fresh=9",
        "max-age",
        "=",
        ",",
        '"',
        "\\",
        " ",
        "é",
    ]
)


WISHES = st.lists(PIECES, max_size=4).map(", ".join) | st.lists(PIECES, max_size=12).map("".join)


@given(WISHES, WISHES)
@effort(100)
def test_more_wishes_are_no_fewer(first: str, more: str) -> None:
    """What is added behind a value that is whole takes nothing back of what was asked for."""
    if first.count('"') % 2 or "\\" in first:
        return
    one, both = parse(first), parse(f"{first}, {more}")
    assert isinstance(both, Directives)
    assert both.no_cache >= one.no_cache
    assert both.no_store >= one.no_store
    assert both.only_if_cached >= one.only_if_cached
    assert both.min_fresh >= one.min_fresh
    assert one.max_age is None or (both.max_age is not None and both.max_age <= one.max_age)


@given(PIECES, PIECES, PIECES)
@effort(20)
def test_no_value_takes_long(one: str, two: str, three: str) -> None:
    """The longest that is let in costs no more than its length."""
    value = ((one + two + three) * 16_384)[:16_384]
    before = process_time()
    parse(value)
    read_context(value)
    assert process_time() - before < 0.5
