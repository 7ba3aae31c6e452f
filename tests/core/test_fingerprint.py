"""Whether two calls ask the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.core.fingerprint import HEADERS, UNASKED, fingerprint, of_item
from runestone.dialects.body import MAX_DEPTH, parse_object

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "user", "content": "there"}],
    "temperature": 1,
    "max_tokens": 5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"required": ["a", "b"]}}}],
}

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
NAMES = st.sampled_from(["a", "b", "stream", "stream_options", "user", "metadata", "messages", ""]) | TEXTS
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 2)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=5)
FIELDS = BODIES.filter(lambda body: not isinstance(body.get("stream_options"), dict)).map(
    lambda body: {name: value for name, value in body.items() if name not in UNASKED}
)
"""Bodies of nothing but what is asked; deeper inside, the names that are not mean something else."""


def print_of(fields: dict[str, Any], **more: Any) -> bytes:
    told: dict[str, Any] = {"operation": "chat", "scope": ("key", "k"), "targets": ("up/m",), "headers": {}} | more
    return fingerprint(told["operation"], told["scope"], told["targets"], told["headers"], fields)


def written(value: object) -> str:
    """The value as JSON that differs where the value does: the order of names is not part of it."""
    return json.dumps(value, sort_keys=True)


def shuffled(value: Any, draw: st.DrawFn) -> Any:
    """The same value with the names of every object in another order."""
    if isinstance(value, dict):
        order = draw(st.permutations(list(value)))
        return {name: shuffled(value[name], draw) for name in order}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    body = draw(BODIES)
    return body, shuffled(body, draw)


def changed(value: Any, draw: st.DrawFn) -> Any:
    """The value with one thing in it, at any depth, changed, left out, added or in another place."""
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if _is_list(value) else []
    if inside and draw(st.integers(0, 3)):
        at, inner = draw(st.sampled_from(inside))
        copy = value.copy()
        verb = draw(st.sampled_from(["deeper", "deeper", "deeper", "out", "renamed", "moved"]))
        if verb == "deeper":
            copy[at] = changed(inner, draw)
        elif verb == "out":
            del copy[at]
        elif isinstance(value, dict):
            del copy[at]
            copy[draw(NAMES)] = inner
        else:
            copy.insert(draw(st.integers(0, len(value))), copy.pop(at))
        return copy
    if isinstance(value, dict):
        return {**value, draw(NAMES): draw(VALUES)}
    return [*value, draw(VALUES)] if isinstance(value, list) and draw(st.booleans()) else draw(VALUES)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


@st.composite
def body_and_change(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    body = draw(FIELDS)
    other = changed(body, draw)
    return body, {name: value for name, value in other.items() if name not in UNASKED}


@given(body_and_change())
def test_whatever_is_changed_asks_something_else(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """One field, known or not, at any depth: two prints are the same exactly when the bodies are."""
    body, other = pair
    assert (print_of(body) == print_of(other)) is (written(body) == written(other))


@settings(max_examples=40)
@given(two_orders())
def test_the_order_of_names_says_nothing(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """At any depth."""
    assert print_of(pair[0]) == print_of(pair[1])


@settings(max_examples=40)
@given(two_orders(), st.sampled_from([None, 0, 1, "\t"]), st.booleans(), st.sampled_from(["", " ", "\n", "\r\n\t "]))
def test_white_space_says_nothing(
    pair: tuple[dict[str, Any], dict[str, Any]], indent: int | str | None, is_ascii: bool, blank: str
) -> None:
    """However a client's JSON is laid out, in whatever order, with escapes or without: read, it asks the same."""
    compact = json.dumps(pair[0], ensure_ascii=False, separators=(",", ":"))
    loose = json.dumps(pair[1], ensure_ascii=is_ascii, indent=indent, separators=(blank + ",", ":" + blank))
    bodies = [compact.encode(), (blank + loose + blank).encode()]
    assert len({print_of(parse_object(body)) for body in bodies}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, "1"), (1, True), (0, False), (0, None), ("", None), ("null", None), ([], None), ({}, None),
        ([], {}), ([], ""), ([1], 1), ([[1]], [1]), ([1, 2], [2, 1]), (["ab"], ["a", "b"]), (0.0, -0.0), (0, 0.0),
        (1e16, 10**16), (2**53, 2**53 + 1), (0.1, 0.1 + 2**-56), ("a", "A"), ("a", "a "), ("\u00e9", "e\u0301"),
        ({"a": 1}, {"b": 1}), ({"a": {"b": 1}}, {"a": 1, "b": 1}), ({"a": None}, {}), ([None], []),
        ({"user": "a"}, {"user": "b"}), ({"stream": True}, {}), ({"metadata": {}}, {}), ([{"user": 1}], [{}]),
        ({"stream_options": {"include_usage": True}}, {"stream_options": {}}),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_values_that_look_alike_are_different(one: object, other: object, depth: int) -> None:
    """Types, order and case count, and null is not the same as nothing; inside, no name is left out."""
    for _ in range(depth):
        one, other = {"x": [one]}, {"x": [other]}
    assert print_of({"a": one}) != print_of({"a": other})


@pytest.mark.parametrize("name", [*BODY, "encoding_format", "seed", "store", "n", "unheard-of", "Stream", "users"])
def test_every_field_counts(name: str) -> None:
    """Absent, null and two values are four questions."""
    rest = {known: value for known, value in BODY.items() if known != name}
    assert len({print_of({**rest, **more}) for more in ({}, {name: None}, {name: "float"}, {name: "base64"})}) == 4


@pytest.mark.parametrize(
    "more",
    [
        {"stream": True}, {"stream": False}, {"stream": None}, {"user": "u"}, {"user": ""}, {"metadata": {"a": "b"}},
        {"metadata": None}, {"stream": True, "stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": False}}, {"stream_options": {}},
    ],
    ids=repr,
)  # fmt: skip
def test_who_asks_and_in_what_form_says_nothing(more: dict[str, Any]) -> None:
    """`stream`, `stream_options.include_usage`, `user` and `metadata` are no part of the question."""
    assert print_of({**BODY, **more}) == print_of(BODY)


@settings(max_examples=40)
@given(FIELDS, st.dictionaries(st.sampled_from(["stream", "user", "metadata"]), VALUES))
def test_what_is_not_asked_says_nothing_of_any_body(body: dict[str, Any], more: dict[str, Any]) -> None:
    """Whatever else the body holds, and whatever value it has."""
    assert print_of({**more, **body}) == print_of({**body, **more}) == print_of(body)


@settings(max_examples=40)
@given(FIELDS, st.dictionaries(NAMES, VALUES, min_size=1), VALUES)
def test_the_other_members_of_stream_options_count(body: dict[str, Any], options: dict[str, Any], usage: Any) -> None:
    """Only `include_usage` is the answer's form; what else stands there may change the answer."""
    asked = {name: value for name, value in options.items() if name != "include_usage"}
    plain = print_of({**body, "stream_options": asked})
    assert print_of({**body, "stream_options": {**asked, "include_usage": usage}}) == plain
    assert (plain == print_of(body)) is (not asked)


@pytest.mark.parametrize("options", [{"a": 1}, {"a": 2}, {"a": None}, {"include_obfuscation": False}, {"b": {"c": 1}}])
def test_two_stream_options_are_two_questions(options: dict[str, Any]) -> None:
    """Name and value of the other members count."""
    others: list[Any] = [{"a": 1}, {"a": 2}, {"a": None}, {"include_obfuscation": False}, {"b": {"c": 1}}]
    mine = print_of({"stream_options": options})
    assert sum(print_of({"stream_options": other}) == mine for other in others) == 1


@pytest.mark.parametrize("options", ["x", 5, True, [], ["include_usage"], [{"include_usage": True}]], ids=repr)
def test_stream_options_that_are_none_count(options: object) -> None:
    """A provider refuses them: a call that is right must not be answered by, or wait for, one that is wrong."""
    assert print_of({**BODY, "stream_options": options}) != print_of(BODY)


@pytest.mark.parametrize(
    "more",
    [
        {"operation": "messages"}, {"operation": ""}, {"scope": ("key", "l")}, {"scope": ("tenant", "k")},
        {"scope": ("keyk",)}, {"scope": ("key", "k", "")}, {"scope": ()}, {"scope": ("key", "k", "credential", "c")},
        {"scope": ("key", "k", "up/m"), "targets": ()}, {"scope": ("key",), "targets": ("k", "up/m")},
        {"targets": ("up/n",)}, {"targets": ("up/m", "up/n")}, {"targets": ("up", "m")}, {"targets": ()},
        {"operation": 'chat",["key"'}, {"scope": ('key","k',)},
        *({"headers": {name: value}} for name in HEADERS for value in ("1", "")),
    ],
    ids=repr,
)  # fmt: skip
def test_what_stands_around_the_body_counts(more: dict[str, Any]) -> None:
    """Operation, scope, targets, and the headers that change what a provider does."""
    assert print_of(BODY, **more) != print_of(BODY)


def test_the_order_of_targets_counts() -> None:
    """Who is asked first is part of what is asked; so is how often."""
    orders = [("a/m", "b/m"), ("b/m", "a/m"), ("a/m", "b/m", "a/m"), ("a/m",), ("a/m", "a/m")]
    assert len({print_of(BODY, targets=order) for order in orders}) == len(orders)


def test_no_two_surroundings_are_alike() -> None:
    """A text never slides from one place into the next."""
    texts = ["", "a", "b", "a,b", '"', "[", "\n", "]\n{", "null"]
    prints = {print_of({}, operation=text) for text in texts}
    prints |= {print_of({}, scope=(text,)) for text in texts} | {print_of({}, targets=(text,)) for text in texts}
    prints |= {print_of({}, headers={name: text}) for name in HEADERS for text in texts}
    prints |= {print_of({"": text}) for text in texts}
    assert len(prints) == len(texts) * (4 + len(HEADERS))


@pytest.mark.parametrize("name", ["user-agent", "x-request-id", "idempotency-key", "http-referer", "x-title", "cookie"])
def test_other_headers_say_nothing(name: str) -> None:
    """Who asks, and from where, does not change the answer."""
    assert print_of(BODY, headers={name: "v"}) == print_of(BODY)


@pytest.mark.parametrize(
    "more", [{"headers": {"anthropic-beta": "\udcff"}}, {"scope": ("key", "k", "credential", "\udcff")}], ids=repr
)
def test_bytes_that_are_no_utf8_in_a_header_are_a_difference_like_any_other(more: dict[str, Any]) -> None:
    """aiohttp hands them over as lone surrogates; they pass where nothing is kept, and must do so here."""
    assert print_of(BODY, **more) not in {print_of(BODY), print_of(BODY, headers={"anthropic-beta": "\udcfe"})}


def test_a_print_is_32_bytes_and_the_same_each_time() -> None:
    """Also in another process: entries outlive one (`cache.persist`)."""
    assert len(print_of(BODY)) == len(of_item(print_of(BODY), "a")) == 32
    assert print_of(BODY) == print_of(json.loads(json.dumps(BODY)), scope=iter(("key", "k")), targets=iter(["up/m"]))


def test_the_body_is_left_alone() -> None:
    """Nothing is taken out of what is sent on."""
    body = {**BODY, "user": "u", "stream": True, "stream_options": {"include_usage": True, "a": 1}}
    before = written(body)
    print_of(body)
    assert written(body) == before


@pytest.mark.parametrize(("levels", "is_read"), [(MAX_DEPTH, True), (MAX_DEPTH + 2, False)])
def test_whatever_is_read_has_a_print(levels: int, is_read: bool) -> None:
    """As deep as a body may be; deeper is a TypeError, which a call that was read cannot come to."""
    nested: Any = 1
    for _ in range(levels - 1):
        nested = [nested]
    if is_read:
        assert len(print_of(parse_object(json.dumps({"a": nested}).encode()))) == 32
    else:
        with pytest.raises(TypeError):
            print_of({"a": nested})


ITEMS = TEXTS | st.lists(st.integers(0, 2**63), max_size=4)


@settings(max_examples=40)
@given(ITEMS, ITEMS, BODIES, BODIES)
def test_an_items_print_is_of_the_item_and_the_rest(
    one: object, other: object, body: dict[str, Any], rest: dict[str, Any]
) -> None:
    """Another item of the same question, or the same item of another question, has another print."""
    whole = print_of(body)
    assert (of_item(whole, one) == of_item(whole, other)) is (one == other)
    assert (of_item(whole, one) == of_item(print_of(rest), one)) is (whole == print_of(rest))
    assert of_item(whole, one) != whole


@pytest.mark.parametrize(
    ("one", "other"), [("1", [1]), ("[1]", [1]), ("", []), ([1, 2], [12]), ([1, 2], [2, 1]), ("a", "a ")], ids=repr
)
def test_texts_and_token_ids_are_different_items(one: object, other: object) -> None:
    """An item is compared as it was written."""
    assert of_item(b"w" * 32, one) != of_item(b"w" * 32, other)
