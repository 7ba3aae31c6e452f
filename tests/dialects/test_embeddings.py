"""Embeddings item by item: taken apart, and put together again."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.core.summary import Summary
from runestone.dialects.embeddings import asking, items, join, shared, split, summary_of, weight

FLOATS = [0.1, -0.0023064255, 1e-30, -1.0, 0.0, 1.7976931348623157e308, 5e-324, 0.1 + 2**-56]
BASE64 = base64.b64encode(struct.pack("<8f", *(float(number) for number in range(8)))).decode()


def embedding(index: object, vector: object = None, **more: object) -> dict[str, object]:
    return {"object": "embedding", "index": index, "embedding": FLOATS if vector is None else vector, **more}


def answer(*data: object, **more: object) -> bytes:
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return json.dumps({"object": "list", "data": data, "model": "m-2024", "usage": usage, **more}).encode()


def parts_of(whole: bytes, asked: list[Any]) -> list[dict[str, Any]]:
    parts = split(whole, asked)
    assert parts is not None
    return [json.loads(part) for part in parts]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("hi", ["hi"]),
        ("", [""]),
        (["hi"], ["hi"]),
        (["a", "b", "a"], ["a", "b", "a"]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([0], [[0]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        ([[1, 2, 3]], [[1, 2, 3]]),
    ],
    ids=repr,
)
def test_each_shape_of_input_has_its_items(asked: object, found: list[object]) -> None:
    """A text, texts, the token ids of one text, or of several; what stands twice is two items."""
    assert items({"model": "m", "input": asked}) == found


@pytest.mark.parametrize(
    "asked",
    [
        None, 1, 1.5, True, {}, {"text": "a"}, [], [None], ["a", None], ["a", 1], [1, "a"], [1, [2]], [[1], 2],
        [1.0, 2.0], [True], [1, True], [{"text": "a"}], ["a", {"image": "b"}], [["a"]], [["a", "b"]], [["a"], ["b"]],
        [[1], ["a"]], [[[1]]], [[]], ["a", []], [[1.5]], [[None]], [[True]], [[{}]],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_neither_has_no_items(asked: object) -> None:
    """It goes up as it is, for the provider to judge: taken apart it could become a question that is right."""
    assert items({"model": "m", "input": asked}) is None


def test_without_an_input_there_are_no_items() -> None:
    """The provider will say so."""
    assert items({"model": "m"}) is None


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (["hi"], "hi"),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ([[1, 2]], [1, 2]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
    ids=repr,
)
def test_asking_for_some_is_the_same_request_with_another_input(asked: list[Any], written: object) -> None:
    """One alone stands without a list around it; every other field stays, and the request it is made of too."""
    fields: dict[str, object] = {"input": ["x"], "model": "m", "dimensions": 3, "unheard-of": {"a": None}}
    assert asking(fields, asked) == {**fields, "input": written}
    assert fields["input"] == ["x"]


TEXTS = st.lists(st.text(max_size=10), min_size=1, max_size=6)
TOKENS = st.lists(st.lists(st.integers(0, 200_000), min_size=1, max_size=6), min_size=1, max_size=6)


@given(TEXTS | TOKENS)
def test_what_is_asked_for_has_the_items_it_was_made_of(asked: list[Any]) -> None:
    """Taken apart and put together as often as you like."""
    assert items(asking({}, asked)) == asked


@pytest.mark.parametrize(
    ("item", "tokens"),
    [("", 1), ("hello", 1), ("hello there", 2), ([], 1), ([7], 1), ([1, 2, 3], 3), (None, 1)],
    ids=repr,
)
def test_an_items_weight_is_about_its_tokens(item: object, tokens: int) -> None:
    """Token ids are counted, texts estimated; nothing weighs nothing."""
    assert weight(item) == tokens


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_each_item_has_its_own_answer(order: tuple[int, ...]) -> None:
    """In the order they were asked, by index, in whatever order the provider wrote them."""
    data = [embedding(index, [float(index)]) for index in order]
    parts = parts_of(answer(*data), ["a", "b", "c"])
    assert [part["data"] for part in parts] == [[embedding(0, [float(index)])] for index in range(3)]


def test_without_an_index_the_order_counts() -> None:
    """Some servers leave it out."""
    data = [{"embedding": [1.0]}, {"embedding": [2.0]}]
    parts = parts_of(answer(*data), ["a", "b"])
    assert [part["data"] for part in parts] == [[{"embedding": [1.0], "index": 0}], [{"embedding": [2.0], "index": 0}]]


@pytest.mark.parametrize(
    "indexes",
    [
        (), (0,), (0, 1, 2), (0, 1, 1), (0, 0), (1, 1), (1, 2), (0, 2), (-1, 0), (0, None), (0, "1"), ("0", "1"),
        (0, 1.5), (0, 2**60), (0, []), (0, {}), ([], {}), (0, [1]), (None, None),
    ],
    ids=repr,
)  # fmt: skip
def test_an_answer_without_just_one_for_each_is_none(indexes: tuple[object, ...]) -> None:
    """One missing, one twice, one too many, or an index that is none: nobody can say whose is whose."""
    assert split(answer(*map(embedding, indexes)), ["a", "b"]) is None


@pytest.mark.parametrize("missing", [0, 1])
def test_an_index_is_not_guessed_where_others_have_one(missing: int) -> None:
    """An item without an index counts by its place, and must not be where another says it is."""
    data = [embedding(1 - missing), embedding(1 - missing)]
    del data[missing]["index"]
    assert split(answer(*data), ["a", "b"]) is not None
    data[1 - missing]["index"] = missing
    assert split(answer(*data), ["a", "b"]) is None


@pytest.mark.parametrize(
    "whole",
    [
        b"", b"{", b"[]", b"null", b"1", b'"a"', b"{}", b"\xff", b'{"data":null}', b'{"data":{}}', b'{"data":"ab"}',
        b'{"data":[]}', b'{"data":[[],[]]}', b'{"data":["a","b"]}', b'{"data":[null,null]}', b'{"data":[{},1]}',
        b'{"error":{"message":"no"}}', b'{"data":[{"index":0},{"index":1,"embedding":[NaN]}]}',
        b'{"data":[{"index":0},{"index":1}]', b'{"data":[{"index":0},{"index":1}]}x',
        b'{"data":[{"index":0},{"index":1,"a":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
    ],
    ids=lambda whole: repr(whole)[:40],
)  # fmt: skip
def test_what_is_no_answer_is_none(whole: bytes) -> None:
    """Broken, of another kind, or in another shape."""
    assert split(whole, ["a", "b"]) is None


@pytest.mark.parametrize("levels", [100, 250, 256, 300, 1000])
def test_an_answer_nested_without_reason_does_no_harm(levels: int) -> None:
    """It is read deeper than it is written: it is taken apart, or it is none."""
    data = b'{"data":[{"index":0,"a":' + b"[" * levels + b"]" * levels + b"}]}"
    assert split(data, ["a"]) is None or len(parts_of(data, ["a"])) == 1


@pytest.mark.parametrize("vector", [FLOATS, BASE64, [], [1, 2], "", [0.1] * 4096, None], ids=lambda v: repr(v)[:20])
def test_an_embedding_survives_exactly(vector: object) -> None:
    """Numbers to the last bit, base64 to the last character."""
    data = [{"index": 0, "embedding": vector}, {"index": 1, "embedding": [1.0]}]
    parts = split(answer(*data), ["a", "b"])
    assert parts is not None
    for whole in (parts[0], join(parts)):
        kept = json.loads(whole)["data"][0]["embedding"]
        assert repr(kept) == repr(vector)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20), st.binary(max_size=40))
def test_every_number_survives_exactly(vector: list[float], packed: bytes) -> None:
    """Whatever their size and sign."""
    data = [embedding(1, base64.b64encode(packed).decode()), embedding(0, vector)]
    parts = parts_of(answer(*data), ["a", "b"])
    assert repr(parts[0]["data"][0]["embedding"]) == repr(vector)
    assert base64.b64decode(parts[1]["data"][0]["embedding"]) == packed


def test_unknown_members_survive() -> None:
    """At the top, in each embedding and in the usage; what is no whole number is not shared out."""
    usage = {"prompt_tokens": 5, "total_tokens": 9, "cost": 0.5, "details": {"a": 1}, "flag": True, "none": None}
    data = [embedding(0, extra={"n": 1}), embedding(1, extra=[2], text="\u00e9")]
    parts = parts_of(answer(*data, usage=usage, id="e1", created=7, x={"y": [None]}), ["a", "b"])
    for part, own in zip(parts, data, strict=True):
        assert part["data"] == [{**own, "index": 0}]
        assert {name: part[name] for name in ("object", "model", "id", "created", "x")} == {
            "object": "list", "model": "m-2024", "id": "e1", "created": 7, "x": {"y": [None]},
        }  # fmt: skip
        assert {**part["usage"], "prompt_tokens": 5, "total_tokens": 9} == usage
    assert [part["usage"]["prompt_tokens"] for part in parts] == [3, 2]
    assert [part["usage"]["total_tokens"] for part in parts] == [5, 4]


def test_tokens_are_shared_out_by_size() -> None:
    """The provider's count, in the proportion of what the items seem to have."""
    parts = parts_of(
        answer(*map(embedding, range(3)), usage={"prompt_tokens": 100}), [[1], list(range(7)), list(range(2))]
    )
    assert [part["usage"] for part in parts] == [{"prompt_tokens": 10}, {"prompt_tokens": 70}, {"prompt_tokens": 20}]


@pytest.mark.parametrize("usage", [None, [], "x", 5, {}])
def test_a_usage_that_is_none_stays_as_it_is(usage: object) -> None:
    """And so does one that is not there."""
    parts = parts_of(answer(embedding(0), embedding(1), usage=usage), ["a", "b"])
    assert [part["usage"] for part in parts] == [usage, usage]
    bare = json.dumps({"data": [embedding(0), embedding(1)]}).encode()
    assert [set(part) for part in parts_of(bare, ["a", "b"])] == [{"data"}, {"data"}]


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (10, [1], [10]),
        (10, [1, 1], [5, 5]),
        (10, [1, 1, 1], [4, 3, 3]),
        (10, [1, 2, 7], [1, 2, 7]),
        (2, [1, 1, 1], [1, 1, 0]),
        (1, [1, 9], [0, 1]),
        (0, [3, 4], [0, 0]),
        (5, [], []),
    ],
)
def test_a_count_in_parts(total: int, weights: list[int], parts: list[int]) -> None:
    """Largest remainders first; of the same size, who was asked first."""
    assert shared(total, weights) == parts


@given(st.integers(0, 2**64 - 1) | st.integers(0, 50), st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_shares_are_fair_and_add_up(total: int, weights: list[int]) -> None:
    """To the total exactly, each within 1 of its due, and no heavier item has less than a lighter one."""
    parts = shared(total, weights)
    whole = sum(weights)
    assert sum(parts) == total
    assert all(abs(part * whole - total * own) < whole for part, own in zip(parts, weights, strict=True))
    assert all(part >= 0 for part in parts)
    in_order = [part for _, part in sorted(zip(weights, parts, strict=True))]
    assert in_order == sorted(in_order)


SCALARS = st.none() | st.booleans() | st.integers(0, 2**53) | st.floats(0, 1) | st.text(max_size=5)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)
MORE = st.dictionaries(st.text(max_size=5) | st.sampled_from(["id", "model", "object"]), JSON, max_size=3)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    """Items, and an answer as providers give it."""
    asked = draw(TEXTS | TOKENS)
    vectors = st.lists(st.floats(-1, 1), max_size=4) | st.just(BASE64)
    data = [{**draw(MORE), "index": place, "embedding": draw(vectors)} for place in range(len(asked))]
    usage = {**draw(MORE), "prompt_tokens": draw(st.integers(0, 10**6)), "total_tokens": draw(st.integers(0, 10**6))}
    whole: dict[str, Any] = {**draw(MORE), "data": data}
    return asked, whole if draw(st.integers(0, 4)) == 0 else {**whole, "usage": usage}


@pytest.mark.parametrize("tokens", [0, 1, 2**53 - 1, 2**53, 2**64 - 1, -1, -5, 0.5, True, None, "5"], ids=repr)
def test_whatever_was_counted_comes_back(tokens: object) -> None:
    """A count of nonsense too: shared out or left as it is, put together it is what the provider said."""
    usage = {"prompt_tokens": tokens, "total_tokens": 7}
    whole = answer(embedding(0), embedding(1), embedding(2), usage=usage)
    assert json.loads(join(split(whole, ["a", "b", "c"]) or []))["usage"] == usage


@settings(max_examples=60)
@given(exchanges(), st.randoms(use_true_random=False))
def test_taken_apart_and_put_together_it_is_the_same(exchange: tuple[list[Any], dict[str, Any]], random: Any) -> None:
    """As JSON; the embeddings come in the order of their items."""
    asked, whole = exchange
    mixed = {**whole, "data": random.sample(whole["data"], len(asked))}
    parts = split(orjson.dumps(mixed), asked)
    assert parts is not None
    assert len(parts) == len(asked)
    assert orjson.loads(join(parts)) == whole


@settings(max_examples=40)
@given(exchanges())
def test_an_items_answer_is_one_a_call_for_it_could_have_had(exchange: tuple[list[Any], dict[str, Any]]) -> None:
    """Taken apart again, alone, nothing of it changes."""
    asked, whole = exchange
    parts = split(orjson.dumps(whole), asked)
    assert parts is not None
    for item, part in zip(asked, parts, strict=True):
        assert split(part, [item]) == [part]
        assert orjson.loads(join([part])) == orjson.loads(part)


@given(TEXTS, TEXTS)
def test_parts_of_different_answers_make_one(first: list[str], second: list[str]) -> None:
    """Some kept, some asked for just now: indexes anew, counts added up, the rest as the last one says it."""
    halves = []
    for number, asked in enumerate((first, second)):
        data = [embedding(place, [float(number), float(place)]) for place in range(len(asked))]
        usage = {"prompt_tokens": 10 + number, "total_tokens": 20, "cost": float(number)}
        halves.append(split(answer(*data, id=f"e{number}", usage=usage), asked) or [])
    read = json.loads(join([*halves[0], *halves[1]]))
    assert [one["index"] for one in read["data"]] == list(range(len(first) + len(second)))
    assert [one["embedding"] for one in read["data"]] == [
        [float(number), float(place)] for number, asked in enumerate((first, second)) for place in range(len(asked))
    ]
    assert read["usage"] == {"prompt_tokens": 21, "total_tokens": 40, "cost": 1.0}
    assert read["id"] == "e1"


@pytest.mark.parametrize(
    ("usages", "joined"),
    [
        ([{"prompt_tokens": 3}, {"prompt_tokens": 4}], {"prompt_tokens": 7}),
        ([{"prompt_tokens": 3}, {}, {"prompt_tokens": 4}], {"prompt_tokens": 7}),
        ([{}, {"prompt_tokens": 4}], {"prompt_tokens": 4}),
        ([None, {"prompt_tokens": 4}], {"prompt_tokens": 4}),
        ([{"prompt_tokens": None}, {"prompt_tokens": 4}], {"prompt_tokens": 4}),
        ([{"prompt_tokens": "3"}, {"prompt_tokens": 4}], {"prompt_tokens": 4}),
        ([{"prompt_tokens": [3]}, {"prompt_tokens": 4}], {"prompt_tokens": 4}),
        ([{"prompt_tokens": 3}, {"prompt_tokens": 4, "cost": 0.5}], {"prompt_tokens": 7, "cost": 0.5}),
    ],
    ids=repr,
)
def test_usages_of_different_answers_are_added_up(usages: list[Any], joined: dict[str, object]) -> None:
    """A provider that counted differently, or not at all, adds nothing, and does no harm to the others' answer."""
    read = json.loads(join([answer(embedding(0), usage=usage) for usage in usages]))
    assert read["usage"] == joined


def test_a_usage_of_an_earlier_part_is_not_lost() -> None:
    """Also where the last one has none."""
    read = json.loads(join([answer(embedding(0)), answer(embedding(0), usage=None)]))
    assert read["usage"] == {"prompt_tokens": 8, "total_tokens": 8}


ODD = st.sampled_from([*'{}[]:,"01-', '"data":[', '"index":', '"usage":{', '"embedding":', "null", "1e999", "{}"])
INDEXES = st.integers(0, 2) | st.sampled_from([None, True, 1.0, "1", [], {}, [0], 2**63])
NEARLY = st.fixed_dictionaries(
    {"data": st.lists(st.fixed_dictionaries({}, optional={"index": INDEXES}), min_size=1, max_size=3)},
    optional={
        "usage": st.dictionaries(st.text(max_size=3), st.integers(-(2**63), 2**64 - 1) | JSON, max_size=3) | JSON
    },
)
"""Answers that are nearly right, so that some are."""


@given(
    st.binary() | st.lists(ODD).map(lambda pieces: "".join(pieces).encode()) | (NEARLY | JSON).map(orjson.dumps),
    st.lists(st.sampled_from(["", "a", "a b c"]), min_size=1, max_size=3),
)
def test_any_bytes_are_split_or_refused(whole: bytes, asked: list[str]) -> None:
    """Never an exception; what is split can be joined."""
    assert isinstance(summary_of(whole), Summary)
    parts = split(whole, asked)
    if parts is not None:
        assert len(parts) == len(asked)
        assert split(join(parts), asked) == parts


def test_an_answer_says_whose_it_is_and_what_it_cost() -> None:
    """Model, id and tokens, for the record; of what is no answer, nothing."""
    assert summary_of(answer(id="e1")) == Summary(input_tokens=8, model="m-2024", response_id="e1")
    assert summary_of(answer(model=5, usage=[])) == summary_of(b"") == summary_of(b"[1]") == Summary()
