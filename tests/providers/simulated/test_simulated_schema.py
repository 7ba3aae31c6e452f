"""Instances of JSON schemas: valid, bounded, finite."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.errors import BadRequest
from runestone.providers.simulated.schema import Hints, instance

HINTS = Hints("Plan 3 days in Paris for 2.5 people", ("Paris", "Plan", "days", "people"), (3.0, 2.5))
Schema = dict[str, object]


def made(schema: object) -> object:
    return instance(schema, HINTS, "schema")


def valid(schema: object, value: object, root: object = None) -> bool:
    """The rules of JSON Schema that these tests use."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    assert isinstance(schema, dict)
    if "$ref" in schema:
        target: object = root
        for step in str(schema["$ref"]).split("/")[1:]:
            assert isinstance(target, dict)
            target = target[step]
        return valid(target, value, root)
    kinds = schema.get("type")
    if kinds is not None and not any(is_kind(kind, value) for kind in (kinds if isinstance(kinds, list) else [kinds])):
        return False
    checks = [
        "const" not in schema or schema["const"] == value,
        "enum" not in schema or value in schema["enum"],
        "anyOf" not in schema or any(valid(option, value, root) for option in schema["anyOf"]),
        "oneOf" not in schema or sum(valid(option, value, root) for option in schema["oneOf"]) == 1,
        "allOf" not in schema or all(valid(option, value, root) for option in schema["allOf"]),
    ]
    if isinstance(value, str):
        checks += [len(value) >= schema.get("minLength", 0), len(value) <= schema.get("maxLength", math.inf)]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        step = schema.get("multipleOf", 0)
        checks += [
            value >= schema.get("minimum", -math.inf),
            value <= schema.get("maximum", math.inf),
            value > schema.get("exclusiveMinimum", -math.inf),
            value < schema.get("exclusiveMaximum", math.inf),
            not step or math.isclose(value / step, round(value / step), abs_tol=1e-9),
        ]
    elif isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        rules = [prefix[i] if i < len(prefix) else schema.get("items", True) for i in range(len(value))]
        checks += [valid(rule, item, root) for rule, item in zip(rules, value, strict=True)]
        checks += [len(value) >= schema.get("minItems", 0), len(value) <= schema.get("maxItems", math.inf)]
        checks.append(not schema.get("uniqueItems") or len({repr(item) for item in value}) == len(value))
    elif isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
        checks += [valid(properties.get(name, extra), item, root) for name, item in value.items()]
        checks += [name in value for name in schema.get("required", [])]
        checks.append(len(value) >= schema.get("minProperties", 0))
    return all(checks)


def is_kind(kind: object, value: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "object": dict,
        "null": type(None),
    }
    return isinstance(value, types[str(kind)])


NODE: Schema = {
    "type": "object",
    "properties": {
        "value": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["value", "next", "children"],
    "additionalProperties": False,
}

TABLE: list[Schema] = [
    {},
    {"type": "string"},
    {"type": "string", "minLength": 40},
    {"type": "string", "maxLength": 2},
    {"type": "string", "maxLength": 0},
    {"type": ["null", "integer"]},
    {"type": "null"},
    {"type": "boolean"},
    {"type": "integer", "minimum": 10},
    {"type": "integer", "maximum": -10},
    {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6},
    {"type": "integer", "minimum": 7, "multipleOf": 5},
    {"type": "integer", "minimum": 2.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": 0, "maximum": 0},
    {"type": "number", "multipleOf": 0.5, "minimum": 1.2},
    {"enum": ["red", "green"]},
    {"const": {"a": [1]}},
    {"enum": [None]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 4},
    {"type": "array", "items": {"type": "string"}, "maxItems": 1},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    {"type": "array", "maxItems": 0},
    {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
    {"type": "object", "required": ["unlisted"]},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3},
    {"type": "object", "properties": {"a": False, "b": {"type": "null"}}},
    {"properties": {"deep": {"properties": {"deeper": {"items": {"type": "number"}}}}}},
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 5}]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"minimum": 8}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["b"]}], "type": "object"},
    {"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]},
    {"$ref": "#/$defs/city", "$defs": {"city": {"type": "string", "minLength": 3}}},
    {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"const": 3}}},
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {"anyOf": [{"$ref": "#/$defs/branch"}, {"$ref": "#/$defs/leaf"}]},
            "branch": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}},
                "required": ["left", "right"],
            },
            "leaf": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        },
    },
]


@pytest.mark.parametrize("schema", TABLE, ids=repr)
def test_an_instance_is_valid(schema: Schema) -> None:
    """What is made of a schema validates against it."""
    assert valid(schema, made(schema))


SCALARS = st.one_of(
    st.builds(
        lambda a, n: {"type": "integer", "minimum": a, "maximum": a + n}, st.integers(-50, 50), st.integers(0, 9)
    ),
    st.builds(lambda a, n: {"type": "number", "minimum": a, "maximum": a + n}, st.integers(-50, 50), st.integers(0, 9)),
    st.builds(
        lambda a, n: {"type": "string", "minLength": a, "maxLength": a + n}, st.integers(0, 50), st.integers(0, 9)
    ),
    st.builds(lambda options: {"enum": options}, st.lists(st.text() | st.integers() | st.none(), min_size=1)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"const": [1]}, {}]),
)


def objects(properties: dict[str, object], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(lambda i, a, n: {"type": "array", "items": i, "minItems": a, "maxItems": a + n}, inner,
                  st.integers(0, 3), st.integers(0, 3)),
        st.dictionaries(st.text(max_size=5), inner, max_size=4).flatmap(
            lambda p: st.builds(objects, st.just(p), st.lists(st.sampled_from(sorted(p) or ["a"]), unique=True))
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)  # fmt: skip


@given(SCHEMAS)
def test_every_schema_of_the_common_rules_has_a_valid_instance(schema: Schema) -> None:
    """Objects, arrays, alternatives, enums and bounds, nested at will."""
    assert valid(schema, made(schema))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"enum": []},
        {"anyOf": []},
        {"type": "array", "minItems": 10**12},
        {"type": "string", "minLength": 10**12},
        {"type": "object", "minProperties": 10**12},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "number", "minimum": 1e308, "multipleOf": 1e-300},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
        {"type": "array", "minItems": 99, "items": {"type": "array", "minItems": 99, "items": {"type": "null"}}},
    ],
    ids=repr,
)
def test_a_schema_without_a_small_instance_is_refused(schema: object) -> None:
    """Impossible, endless and enormous schemas are the client's fault, and found out quickly."""
    with pytest.raises(BadRequest) as caught:
        made(schema)
    assert caught.value.param == "schema"


def test_the_words_of_the_prompt_fill_strings() -> None:
    """Strings are telling words, or the whole prompt where a field asks for it; numbers come from the prompt too."""
    schema = objects({"city": {"type": "string"}, "query": {"type": "string"}, "days": {"type": "integer"}}, [])
    assert made(schema) == {"city": "Paris", "query": HINTS.prompt, "days": 3}


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("date", r"\d{4}-\d\d-\d\d"),
        ("date-time", r"\d{4}-\d\d-\d\dT.*Z"),
        ("email", r".+@.+"),
        ("uuid", r"[0-9a-f-]{36}"),
    ],
)
def test_formats_are_kept(form: str, pattern: str) -> None:
    """A string of a known format has it."""
    assert re.fullmatch(pattern, str(made({"type": "string", "format": form})))
