"""The client's bytes: read strictly, sent on unchanged but for the model's name."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.dialects.body import MAX_DEPTH, MOST_VALUES, parse_object, with_model
from runestone.errors import BadRequest


def nested(levels: int, blank: bytes = b"") -> bytes:
    """An object that is `levels` deep, itself included."""
    return b'{"a":' + blank + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", {}),
        (b' \r\n\t{ "a" : 1 } \n', {"a": 1}),
        (b'{"a":{"b":1},"c":{"b":1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        (b'{"a": [{"b": 1}, {"b": 1}]}', {"a": [{"b": 1}, {"b": 1}]}),
        (b'{"":1, "a":{"":2}}', {"": 1, "a": {"": 2}}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"\\u0061":"\\u0000"}', {"a": "\0"}),
        (b'{"a":18446744073709551615, "b":-9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
        (b'{"a":1e5,"b":-0.0,"c":1E-400}', {"a": 100000.0, "b": 0.0, "c": 0.0}),
        (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
        (nested(MAX_DEPTH, b" "), json.loads(nested(MAX_DEPTH))),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_object_is_read(body: bytes, fields: dict[str, Any]) -> None:
    """Any JSON object that every parser reads in the same way."""
    assert parse_object(body) == fields


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b" ", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"a":1}x', "the body is not JSON"),
        (b'{"a":1,}', "the body is not JSON"),
        (b"{'a':1}", "the body is not JSON"),
        (b'{"a":1}{"a":1}', "the body is not JSON"),
        (b'{"a":01}', "the body is not JSON"),
        (b'{"a":"\n"}', "the body is not JSON"),
        (b'{"a":NaN}', "the body is not JSON"),
        (b'{"a":-Infinity}', "the body is not JSON"),
        (b'{"a":1e400}', "the body is not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "the body is not JSON"),
        (b'{"a":"\\ud800"}', "the body is not JSON"),
        (b'{"\\udc00":1}', "the body is not JSON"),
        (b'{"a":"\xff"}', "the body is not JSON"),
        (b'{"a":"\xed\xa0\x80"}', "the body is not JSON"),
        (b'{"a":"\xc0\xaf"}', "the body is not JSON"),
        (b"\xef\xbb\xbf{}", "the body is not JSON"),
        ('{"a":1}'.encode("utf-16"), "the body is not JSON"),
        (nested(1100), "the body is not JSON"),
        (nested(260), "nested deeper than 254 levels"),
        (nested(260, b" "), "nested deeper than 254 levels"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b"1", "must be a JSON object"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_object_is_refused(body: bytes, message: str) -> None:
    """A 400 that says what is wrong; nothing two parsers might read differently goes through."""
    with pytest.raises(BadRequest, match=message):
        parse_object(body)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"a":1,"a":1}', "a"),
        (b'{"a":1,"b":2,"a":1}', "a"),
        (b'{"model":"cheap","\\u006dodel":"dear"}', "model"),
        (b'{"a":{"b":1,"b":2}}', "b"),
        (b'{"a":[[{"b":1},{"c":1,"c":1}]]}', "c"),
        (b'{"a":{"/":1,"\\/":2}}', "/"),
        (b'{"":1,"":2}', ""),
        ('{"\u00e9":1,"\\u00e9":2}'.encode(), "\u00e9"),
    ],
)
def test_a_name_that_stands_twice_is_refused(body: bytes, name: str) -> None:
    """At any depth and however it is written: which of the two counts is different from parser to parser."""
    with pytest.raises(BadRequest, match="stands twice") as caught:
        parse_object(body)
    assert caught.value.param == name


@pytest.mark.parametrize(
    "body", [b'{"s3cret":NaN}', b'{"a":"s3cret', b's3cret"', b'{"a":"s3cret","b":1e999}', b'["s3cret"]']
)
def test_a_refusal_repeats_no_contents(body: bytes) -> None:
    """What a client sent may be private also when it is broken."""
    with pytest.raises(BadRequest) as caught:
        parse_object(body)
    assert "s3cret" not in caught.value.message


def test_a_refusal_is_short() -> None:
    """A name of a megabyte is not sent back whole."""
    name = b'"' + b"n" * 1_000_000 + b'"'
    with pytest.raises(BadRequest) as caught:
        parse_object(b"{%b:1,%b:2}" % (name, name))
    assert len(caught.value.message) < 300
    assert len(caught.value.param or "") < 300


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"model":"old"}', b'{"model":"new"}'),
        (b' { "model" :\n"old" , "n":1 }\n', b' { "model" :\n"new" , "n":1 }\n'),
        (b'{"a":{"model":"old"},"model":"old"}', b'{"a":{"model":"old"},"model":"new"}'),
        (b'{"model":"old","a":{"model":"old"}}', b'{"model":"new","a":{"model":"old"}}'),
        (b'{"a":"\\"model\\":\\"old\\"","model":"old"}', b'{"a":"\\"model\\":\\"old\\"","model":"new"}'),
        (b'{"a\\"model":"old","model":"old"}', b'{"a\\"model":"old","model":"new"}'),
        (b'{"model":"o\\"l\\\\d"}', b'{"model":"new"}'),
        (b'{"a":["model"],"model":"old"}', b'{"a":["model"],"model":"new"}'),
        (b'{"a":1.10,"model":"old","b":1e2}', b'{"a":1.10,"model":"new","b":1e2}'),
        (b"{}", b'{"model":"new"}'),
        (b' { "n":1}', b' {"model":"new", "n":1}'),
    ],
)
def test_only_the_models_value_changes(body: bytes, result: bytes) -> None:
    """The top level's `model`, wherever it stands; every other byte stays as the client wrote it."""
    assert with_model(body, parse_object(body), "new") == result


@pytest.mark.parametrize("body", [b'{"mod\\u0065l":"old","n":1}', b'{"model":null,"n":1}', b'{"model":["x"],"n":1}'])
def test_a_model_that_is_not_plainly_written_is_replaced_too(body: bytes) -> None:
    """Then the body is written anew, with the same meaning."""
    assert orjson.loads(with_model(body, parse_object(body), "new")) == {"model": "new", "n": 1}


@pytest.mark.parametrize("model", ['quo"te', "back\\slash", "日本", "a/b:c", "new\nline"])
def test_any_name_can_be_written(model: str) -> None:
    """The name is escaped as JSON needs it."""
    body = b'{"model":"old"}'
    assert orjson.loads(with_model(body, parse_object(body), model)) == {"model": model}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"model": "x"}] * 50_000},
        {"tool": {"model": "x"}, **{f"k{number}": "model" for number in range(100_000)}},
    ],
    ids=["as a name", "as a value"],
)
def test_many_models_inside_do_not_make_it_slow(fields: dict[str, Any]) -> None:
    """The work grows with the body, not with its square: nobody can stop the loop with a list of models."""
    body = orjson.dumps({**fields, "model": "old"})
    read = parse_object(body)
    before = time.process_time()
    changed = with_model(body, read, "new")
    assert time.process_time() - before < 1.0
    assert changed == body[:-5] + b'new"}'


# Names and values that look like the member that is sought.
NAMES = st.sampled_from(["model", 'a"model', "model\\", '"model":"x"', "n", ""]) | st.text(max_size=4)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["model", "old", '"model": "old"', "\\"])
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
BLANKS = st.sampled_from(["", " ", "\n", "\t ", " \r\n"])


def written(value: Any, draw: st.DrawFn) -> str:
    """JSON with blanks anywhere and strings with or without escapes."""
    blank = draw(BLANKS)
    if isinstance(value, dict):
        members = [f"{written(name, draw)}:{written(inner, draw)}" for name, inner in value.items()]
        return blank + "{" + ",".join(members) + draw(BLANKS) + "}" + draw(BLANKS)
    if isinstance(value, list):
        return blank + "[" + ",".join(written(inner, draw) for inner in value) + draw(BLANKS) + "]"
    if isinstance(value, str) and value == value.encode("ascii", "ignore").decode() and draw(st.integers(0, 9)) == 0:
        return blank + '"' + "".join(f"\\u{ord(sign):04x}" for sign in value) + '"' + draw(BLANKS)
    return blank + json.dumps(value, ensure_ascii=draw(st.booleans())) + draw(BLANKS)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    fields = draw(OBJECTS)
    if draw(st.booleans()):
        fields["model"] = draw(st.sampled_from(["old", 'o"ld', "", "ölt"]))
    return written(fields, draw).encode(), fields


@given(given_body=bodies())
@settings(max_examples=250, deadline=None)
def test_any_object_is_read_as_it_was_written(given_body: tuple[bytes, dict[str, Any]]) -> None:
    """Whatever the blanks and escapes, the meaning is the writer's."""
    body, fields = given_body
    assert parse_object(body) == fields


@given(given_body=bodies(), model=st.sampled_from(["new", "old", 'ne"w', "a/b"]) | st.text(max_size=5))
@settings(max_examples=250, deadline=None)
def test_any_object_gets_another_model_and_nothing_else(given_body: tuple[bytes, dict[str, Any]], model: str) -> None:
    """The result means the same but for the model; where the member is plainly written, only its value's bytes
    differ.
    """
    body, fields = given_body
    result = with_model(body, fields, model)
    assert orjson.loads(result) == {**fields, "model": model}
    if isinstance(fields.get("model"), str) and b"\\u" not in body:
        new = orjson.dumps(model)
        at = [start for start in range(len(result)) if result.startswith(new, start)]
        rests = [(result[:start], result[start + len(new) :]) for start in at]
        assert any(
            body.startswith(head) and body.endswith(tail) and len(head) + len(tail) <= len(body) for head, tail in rests
        )


def test_a_body_of_millions_of_values_is_refused_unread() -> None:
    """Each takes fifty bytes and more, whatever it holds: 20 MB of them would be 700 MB, and the loop would stand."""
    most = b'{"a":[' + b"1," * (MOST_VALUES - 3) + b"1]}"
    assert len(parse_object(most)["a"]) == MOST_VALUES - 2
    for value in (b"1,", b"[],", b"{},", b"[[]],"):
        with pytest.raises(BadRequest, match="more than 2000000 values"):
            parse_object(b'{"a":[' + value * MOST_VALUES + b"1]}")


def test_a_large_text_is_one_value() -> None:
    """What stands in it counts a little, and far from the limit."""
    text = "Twenty megabytes of prose, with a comma, or two, in each of its sentences. " * 260_000
    assert parse_object(orjson.dumps({"a": text}))["a"] == text
