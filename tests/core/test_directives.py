"""What a client says to the cache, and what the cache says of an answer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.directives import LONGEST, NO_WISHES, Directives, forwarded, hit, parse, stored

NUMBERS = ["max-age", "min-fresh", "max-stale", "stale-while-revalidate", "stale-if-error"]
FLAGS = ["no-cache", "no-store", "only-if-cached"]
CAUTIOUS = {
    "max-age": Directives(max_age=0.0),
    "min-fresh": Directives(min_fresh=LONGEST),
    "max-stale": NO_WISHES,
    "stale-while-revalidate": Directives(stale_while_revalidate=0.0),
    "stale-if-error": Directives(stale_if_error=0.0),
}
"""What each says when its number is none: nothing old, or nothing kept at all."""
UNKNOWN = [
    "foo",
    "no-transform",
    "private",
    "s-maxage=9",
    'bar="x y"',
    "no-cached",
    "nocache",
    "max-age-x=1",
    "x=",
    "=",
]

# RFC 8941, as much of it as Cache-Status (RFC 9211) uses: one item, a token, with parameters.
KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
BARE = {
    "token": re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*"),
    "integer": re.compile(r"-?[0-9]{1,15}"),
    "string": re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'),
}


def status(value: str) -> tuple[str, dict[str, str | int | bool]]:
    """The cache's name and the parameters of a Cache-Status; what is malformed is a failure of the test."""
    name, *parameters = value.split(";")
    assert BARE["token"].fullmatch(name)
    read: dict[str, str | int | bool] = {}
    for parameter in parameters:
        key, sign, text = parameter.lstrip(" ").partition("=")
        assert KEY.fullmatch(key)
        assert key not in read
        kind = next((kind for kind, form in BARE.items() if form.fullmatch(text)), None)
        assert kind is not None or not sign
        read[key] = True if not sign else int(text) if kind == "integer" else text.strip('"')
    return name, read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("no-cache", Directives(no_cache=True)),
        ("no-store", Directives(no_store=True)),
        ("only-if-cached", Directives(only_if_cached=True)),
        ("max-age=60", Directives(max_age=60.0)),
        ("max-age=0", Directives(max_age=0.0)),
        ("min-fresh=60", Directives(min_fresh=60.0)),
        ("max-stale=60", Directives(max_stale=60.0)),
        ("stale-while-revalidate=60", Directives(stale_while_revalidate=60.0)),
        ("stale-if-error=60", Directives(stale_if_error=60.0)),
        ("no-cache, no-store", Directives(no_cache=True, no_store=True)),
        ("max-age=60,min-fresh=5,max-stale=7", Directives(max_age=60.0, min_fresh=5.0, max_stale=7.0)),
        ("stale-if-error=0, only-if-cached", Directives(only_if_cached=True, stale_if_error=0.0)),
    ],
)
def test_each_directive_is_read(value: str, read: Directives) -> None:
    """RFC 9111 5.2.1 and RFC 5861, alone and together."""
    assert parse(value) == read


@pytest.mark.parametrize("value", ["", " ", ",", " ,, , ", "\t", ";", '"', "=", ",=,", *UNKNOWN, ", ".join(UNKNOWN)])
def test_nothing_said_is_no_wish(value: str) -> None:
    """Empty values, empty members and what nobody knows change nothing."""
    assert parse(value) == NO_WISHES


@given(
    st.permutations(["no-cache", "max-age=60", "stale-if-error=5"]),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(UNKNOWN))),
)
def test_unknown_directives_are_ignored(known: list[str], unknown: list[tuple[int, str]]) -> None:
    """Wherever they stand among the others, and in whatever order those are."""
    for place, directive in unknown:
        known.insert(place, directive)
    assert parse(", ".join(known)) == Directives(no_cache=True, max_age=60.0, stale_if_error=5.0)


@pytest.mark.parametrize(
    "value",
    ['x="no-store"', 'x="a, no-store, b"', 'x="a,no-store"', 'x=",max-age=0,", y=","', 'x="only-if-cached , "'],
)
def test_what_stands_in_quotes_is_no_directive(value: str) -> None:
    """An unknown directive's argument may hold a comma: it is ignored with all it holds (RFC 9111 5.2)."""
    assert parse(value) == NO_WISHES


@pytest.mark.parametrize(
    "value",
    [
        "MAX-AGE=60, No-Cache", "max-age=60,no-cache", "  max-age=60  ,\tno-cache ", 'max-age="60", no-cache',
        "max-age = 60, no-cache", 'no-cache, max-age= "60" ', "no-cache,,max-age=060,", 'no-cache="field", max-age=60',
    ],
)  # fmt: skip
def test_case_white_space_and_quotes_say_nothing(value: str) -> None:
    """A number may be quoted, and names are written as anybody likes."""
    assert parse(value) == Directives(no_cache=True, max_age=60.0)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "number",
    [
        "-1",
        "+1",
        "1.5",
        "1e3",
        "0x10",
        "1_000",
        "1 000",
        "60s",
        "abc",
        "",
        '""',
        "\u0661\u0662",
        "\u00b2",
        "nan",
        "inf",
    ],
)
def test_a_number_that_is_none_is_the_most_cautious(name: str, number: str) -> None:
    """Rather an answer too fresh than one the client did not want."""
    assert parse(f"{name}={number}") == CAUTIOUS[name]


@given(st.sampled_from(NUMBERS), st.text(st.characters(exclude_characters=',"')))
def test_no_text_is_taken_for_a_number(name: str, text: str) -> None:
    """Digits are one; everything else is none, and the most cautious one."""
    if re.fullmatch("[0-9]+", text.strip()):
        number = int(text.strip())
        assert parse(f"{name}={text}") == parse(f"{name}={number}")
        if 0 < number < LONGEST:  # either may itself be the most cautious number
            assert parse(f"{name}={text}") != CAUTIOUS[name]
    else:
        assert parse(f"{name}={text}") == CAUTIOUS[name]


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"max-stale"}))
def test_a_number_that_is_missing_is_the_most_cautious(name: str) -> None:
    """Only max-stale means something without one."""
    assert parse(name) == CAUTIOUS[name]


def test_max_stale_alone_takes_anything() -> None:
    """RFC 9111 5.2.1.2: without a value any staleness is welcome; an empty value is a number that is none."""
    assert parse("max-stale") == parse(" Max-Stale ") == Directives(max_stale=LONGEST)
    assert parse("max-stale=") == NO_WISHES


@pytest.mark.parametrize("number", ["2147483648", "2147483649", "9" * 30, "9" * 400, "9" * 5000])
def test_a_huge_number_is_the_longest_time(number: str) -> None:
    """RFC 9111 1.2.2: past 2^31 all are the same; none is infinite."""
    read = parse(", ".join(f"{name}={number}" for name in NUMBERS))
    assert (read.max_age, read.min_fresh, read.max_stale) == (LONGEST, LONGEST, LONGEST)
    assert (read.stale_while_revalidate, read.stale_if_error) == (LONGEST, LONGEST)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_twice_is_a_flag(flag: str) -> None:
    """And so it is with an argument it should not have."""
    assert parse(f"{flag}, {flag}") == parse(flag) == parse(f"{flag}=x") == parse(f"{flag}=")


LAXITY: dict[str, Callable[[Directives], float | None]] = {
    "max-age": lambda read: read.max_age,
    "min-fresh": lambda read: -read.min_fresh,
    "max-stale": lambda read: read.max_stale,
    "stale-while-revalidate": lambda read: read.stale_while_revalidate,
    "stale-if-error": lambda read: read.stale_if_error,
}
"""The more, the more answers from memory are welcome."""


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("first", "second"), [("=60", "=60"), ("=60", "=30"), ("=0", "=60"), ("=60", "=0"), ("=x", "=60"), ("=60", "")]
)
def test_of_two_values_the_first_counts_or_the_more_cautious(name: str, first: str, second: str) -> None:
    """What is added behind makes no answer welcome that was ruled out before (of answers: RFC 9111 4.2.1)."""
    both, one = LAXITY[name](parse(f"{name}{first}, {name}{second}")), LAXITY[name](parse(f"{name}{first}"))
    assert both is not None
    assert one is not None
    assert both <= one


PIECES = st.sampled_from([*NUMBERS, *FLAGS, "=", ",", '"', " ", "\t", "9", "-", "\\", "\u0130", "\udcff", "\0", "x"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_any_text_is_read(value: str) -> None:
    """Never an exception; every number is within 0 and LONGEST."""
    read = parse(value)
    for seconds in (read.max_age, read.stale_while_revalidate, read.stale_if_error, read.min_fresh, read.max_stale):
        assert seconds is None or 0.0 <= seconds <= LONGEST


@pytest.mark.parametrize(
    ("said", "written"),
    [
        (hit(271.0), "runestone; hit; ttl=271"),
        (hit(271.9), "runestone; hit; ttl=271"),
        (hit(0.0), "runestone; hit; ttl=0"),
        (hit(0.4), "runestone; hit; ttl=0"),
        (hit(-0.4), "runestone; hit; ttl=-1"),
        (hit(-30.0, "stale-if-error"), 'runestone; hit; ttl=-30; detail="stale-if-error"'),
        (forwarded("miss"), "runestone; fwd=miss"),
        (forwarded("stale"), "runestone; fwd=stale"),
        (forwarded("request"), "runestone; fwd=request"),
        (forwarded("bypass"), "runestone; fwd=bypass"),
        (forwarded("miss", collapsed=True), "runestone; fwd=miss; collapsed"),
        (stored(forwarded("miss")), "runestone; fwd=miss; stored"),
        (stored(forwarded("stale")), "runestone; fwd=stale; stored"),
    ],
)
def test_the_status_is_told_as_rfc_9211_has_it(said: str, written: str) -> None:
    """One item, the gateway's name, with its parameters."""
    assert said == written
    assert status(said)[0] == "runestone"


@given(st.floats(-LONGEST, 2 * LONGEST), st.sampled_from(["", "stale-if-error", "stale-while-revalidate"]))
def test_a_hits_ttl_is_whole_seconds_that_are_left(ttl: float, detail: str) -> None:
    """Never more than is left; below 0 exactly when the time is over; always a structured field."""
    name, parameters = status(hit(ttl, detail))
    told = parameters["ttl"]
    assert isinstance(told, int)
    assert told == math.floor(ttl)
    assert (told < 0) is (ttl < 0)
    assert (name, parameters) == (
        "runestone",
        {"hit": True, "ttl": told, **({"detail": detail} if detail else {})},
    )


@pytest.mark.parametrize("why", ["miss", "stale", "request", "bypass"])
@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize("is_stored", [False, True])
def test_what_was_asked_for_says_why(why: str, collapsed: bool, is_stored: bool) -> None:
    """`fwd` is a token, the others are flags, in any combination; a hit says nothing of them."""
    said = forwarded(why, collapsed=collapsed)
    _, parameters = status(stored(said) if is_stored else said)
    flags = {"collapsed": collapsed, "stored": is_stored}
    assert parameters == {"fwd": why, **{flag: True for flag, is_set in flags.items() if is_set}}
