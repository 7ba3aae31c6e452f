"""OpenAI's strict subset of JSON Schema: closed objects, every property required. It refuses others, so they are sent
unstrict.

Rule: a schema is looked into as far as the subset goes; what stands there with a wrong type is the client's mistake.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from typing import Any, Final

from runestone.dialects.crossing.expect import array, mapping, string

_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
"""Keys that hold schemas by name."""

_VALUES: Final = ("enum", "const", "default", "examples", "required")
"""Keys that hold values, which are no schemas."""


def is_strict(schema: dict[str, Any], path: str) -> bool:
    """Whether strict mode takes the schema at `path`. Raises BadRequest for a part that is none."""
    left: list[tuple[Any, str]] = [(schema, path)]
    strict = True
    while left:
        part, where = left.pop()
        if isinstance(part, list):
            left += [(item, f"{where}[{i}]") for i, item in enumerate(part)]
        elif isinstance(part, dict):
            strict = _is_closed(part, where) and strict
            left += _parts(part, where)
    return strict


def _is_closed(schema: dict[str, Any], path: str) -> bool:
    properties, required = schema.get("properties"), schema.get("required")
    if properties is not None:
        mapping(properties, f"{path}.properties")
    given = array(required, f"{path}.required") if required is not None else []
    names = {string(name, f"{path}.required") for name in given}
    if properties is None and schema.get("type") != "object":
        return True
    return schema.get("additionalProperties") is False and names == set(properties or ())


def _parts(schema: dict[str, Any], path: str) -> list[tuple[Any, str]]:
    parts = []
    for name, value in schema.items():
        if name in _NAMED and isinstance(value, dict):
            parts += [(inner, f"{path}.{name}.{key}") for key, inner in value.items()]
        elif name not in _VALUES:
            parts.append((value, f"{path}.{name}"))
    return parts
