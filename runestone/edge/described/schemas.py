"""JSON schemas (draft 2020-12, as OpenAPI 3.1 has them), written shortly.

Rule: pure; every function makes a new object.
"""

from __future__ import annotations

from collections.abc import Mapping

from runestone.core.json import JsonObject
from runestone.dialects.dialect import Types

LEAST, MOST = -(2**63), 2**64 - 1
"""Whole numbers outside of these are read as numbers with a fraction, and refused where whole ones are wanted."""

_NAMES: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


def ref(name: str) -> JsonObject:
    """The schema of that name among the document's own."""
    return {"$ref": f"#/components/schemas/{name}"}


def one(kind: str, says: str = "", **more: object) -> JsonObject:
    """A value of the JSON type `kind`."""
    return {"type": kind, **({"description": says} if says else {}), **more}


def maybe(kind: str, says: str = "", **more: object) -> JsonObject:
    """The same, or null."""
    return {"type": [kind, "null"], **({"description": says} if says else {}), **more}


def many(items: JsonObject, says: str = "", **more: object) -> JsonObject:
    """An array."""
    return one("array", says, items=items, **more)


def record(says: str, properties: JsonObject, required: tuple[str, ...] = (), **more: object) -> JsonObject:
    """An object; names that are not described may stand in it, unless `more` says otherwise."""
    needed = {"required": list(required)} if required else {}
    return one("object", says, properties=properties, **needed, **more)


def fields(
    types: Types, said: Mapping[str, str], *, positive: tuple[str, ...] = (), required: str | None = None
) -> JsonObject:
    """The properties that `check_types` lets through; null stands for "not given", but in what is `required`."""
    found: JsonObject = {}
    for name, kinds in types.items():
        names = [_NAMES[kind] for kind in kinds if not (kind is int and float in kinds)]
        schema: JsonObject = {"type": names if name == required else [*names, "null"]}
        if name in said:
            schema["description"] = said[name]
        if int in kinds and float not in kinds:
            schema |= {"minimum": 1 if name in positive else LEAST, "maximum": MOST}
        found[name] = schema
    return found
