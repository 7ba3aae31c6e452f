"""An instance of a JSON schema, with the words of a prompt in it.

Rule: what comes out validates, or `BadRequest` is raised; how large it may grow is bounded (a schema of a few lines can
ask for billions of items). Understood: type, enum, const, properties, required, additionalProperties (for
minProperties), items, prefixItems, min/maxItems, uniqueItems, min/maxLength, format, minimum, maximum, exclusive
bounds, multipleOf, anyOf, oneOf (its parts apart), allOf (its parts in agreement) and local $ref, recursive ones too.
Deliberately absent: pattern, not, if/then, contains, dependent*, maxProperties: they are not looked at, and remote $ref
is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runestone.core.json import JsonObject
from runestone.errors import BadRequest

MAX_NODES = 5_000
"""Values in one instance."""
MAX_DEPTH = 64
"""Levels of one instance, and steps of resolving one schema."""

_DEEP = 3  # from here on the smallest choice is taken, so that recursive schemas come to an end
_WHOLE_PROMPT = frozenset({"query", "question", "text", "prompt", "input", "content", "message", "body", "q"})
_FORMATS = {
    "date-time": "2025-01-15T09:30:00Z",
    "date": "2025-01-15",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "6f1c9e1a-2b7d-4c53-9a51-0d8f2f6f7a10",
}
_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_KIND_BY_KEY = (
    ("object", ("properties", "additionalProperties", "minProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)


@dataclass(frozen=True, slots=True)
class Hints:
    """What the instance may talk about: the prompt, its telling words, its numbers. `words` is never empty."""

    prompt: str
    words: tuple[str, ...]
    numbers: tuple[float, ...]


def instance(schema: object, hints: Hints, param: str) -> object:
    """A JSON value valid under `schema`. Raises BadRequest naming `param` if there is none, or none this small."""
    return _Writer(schema, hints, param).value(schema, "", 0, 0)


class _Writer:
    """One instance being written: `_left` is what may still be spent on it."""

    __slots__ = ("_hints", "_left", "_param", "_root")

    def __init__(self, root: object, hints: Hints, param: str) -> None:
        self._root = root
        self._hints = hints
        self._param = param
        self._left = MAX_NODES

    def value(self, schema: object, key: str, index: int, depth: int) -> object:
        """The value at `key`; `index` counts the items of an array, so that they differ."""
        self._spend(1)
        if depth > MAX_DEPTH:
            raise self._refusal("has no finite instance")
        rules = self._resolved(schema, depth)
        if "const" in rules:
            return rules["const"]
        if "enum" in rules:
            options = rules["enum"]
            if not isinstance(options, list) or not options:
                raise self._refusal("has an empty enum")
            return options[index % len(options)]
        kind = _kind(rules)
        if kind == "object":
            return self._object(rules, depth)
        if kind == "array":
            return self._array(rules, key, depth)
        if kind in ("integer", "number"):
            try:
                return self._number(rules, index, whole=kind == "integer")
            except OverflowError:
                raise self._refusal("has bounds beyond all measure") from None
        if kind == "boolean":
            return index % 2 == 0
        return None if kind == "null" else self._string(rules, key, index)

    def _refusal(self, what: str) -> BadRequest:
        return BadRequest(f"The schema in '{self._param}' {what}.", param=self._param)

    def _spend(self, nodes: int) -> None:
        self._left -= nodes
        if self._left < 0:
            raise self._refusal("asks for too large an instance")

    def _resolved(self, schema: object, depth: int) -> JsonObject:
        """The schema with its $ref, allOf, anyOf and oneOf folded in."""
        if depth > MAX_DEPTH:
            raise self._refusal("has references that never end")
        for _ in range(MAX_DEPTH):
            self._spend(1)
            if schema is True:
                return {}
            if not isinstance(schema, dict):
                raise self._refusal("allows nothing" if schema is False else "is not a JSON schema")
            if "$ref" in schema:
                target = self._target(schema["$ref"])
                rest = {name: rule for name, rule in schema.items() if name != "$ref"}
                schema = _merged(target, rest) if rest and isinstance(target, dict) else target
            elif isinstance(schema.get("allOf"), list):
                merged = {name: rule for name, rule in schema.items() if name != "allOf"}
                for part in schema["allOf"]:
                    merged = _merged(self._resolved(part, depth + 1), merged)
                schema = merged
            else:
                name = "anyOf" if isinstance(schema.get("anyOf"), list) else "oneOf"
                listed = schema.get(name)
                if not isinstance(listed, list):
                    return schema
                options = [option for option in listed if option is not False]
                if not options:
                    raise self._refusal(f"has an empty {name}")
                rest = {rule: value for rule, value in schema.items() if rule != name}
                chosen = min(options, key=self._weight) if depth >= _DEEP else _first_real(options)
                schema = _merged(chosen, rest) if isinstance(chosen, dict) else rest
        raise self._refusal("has references that never end")

    def _weight(self, schema: object) -> int:
        """How much an alternative may grow: null, scalars, arrays, objects by what they require, choices."""
        if isinstance(schema, dict) and "$ref" in schema:
            schema = self._target(schema["$ref"])
        if not isinstance(schema, dict):
            return 1
        if "$ref" in schema or "anyOf" in schema or "oneOf" in schema or "allOf" in schema:
            return 1_000
        required = len(_list(schema.get("required")))
        return {"null": 0, "array": 2, "object": 3 + required}.get(_kind(schema), 1)

    def _target(self, reference: object) -> object:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise self._refusal("has a reference that is not local")
        found = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise self._refusal(f"has no {reference[:80]}")
        return found

    def _object(self, rules: JsonObject, depth: int) -> JsonObject:
        properties, required = _mapping(rules.get("properties")), rules.get("required")
        asked = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        if not asked and depth < _DEEP:
            asked = [name for name, rule in properties.items() if rule is not False]
        needed = set(asked)
        names = [name for name in properties if name in needed] + [name for name in asked if name not in properties]
        extra = rules.get("additionalProperties", True)
        made = {name: self.value(properties.get(name, extra), name, 0, depth + 1) for name in names}
        least = _count(rules.get("minProperties"), 0)
        for name in [*properties, *(f"key{i + 1}" for i in range(min(least, MAX_NODES)))]:
            if len(made) >= least:
                break
            if name not in made:
                made[name] = self.value(properties.get(name, extra), name, 0, depth + 1)
        return made

    def _array(self, rules: JsonObject, key: str, depth: int) -> list[object]:
        prefix = rules.get("prefixItems")
        schemas = list(prefix) if isinstance(prefix, list) else []
        least, most = _count(rules.get("minItems"), 0), _count(rules.get("maxItems"), MAX_NODES)
        self._spend(max(0, least))
        rest = rules.get("items", True)
        wanted = max(least, len(schemas) if rest is False else max(len(schemas), 2) if depth < _DEEP else 0)
        wanted = min(wanted, most)
        items: list[object] = []
        for index in range(wanted):
            schema = schemas[index] if index < len(schemas) else rest
            item = self.value(schema, key, index, depth + 1)
            if not rules.get("uniqueItems") or item not in items:
                items.append(item)
        if len(items) < least:
            raise self._refusal("asks for more different items than the simulated model can think of")
        return items

    def _number(self, rules: JsonObject, index: int, *, whole: bool) -> int | float:
        step = abs(_numeric(rules.get("multipleOf")) or whole)
        low, high = _numeric(rules.get("minimum")), _numeric(rules.get("maximum"))
        above, below = _numeric(rules.get("exclusiveMinimum")), _numeric(rules.get("exclusiveMaximum"))
        base = low if low is not None else above if above is not None else high if high is not None else below
        floor = 0 if base is None else base
        candidates: list[int | float] = [*self._hints.numbers[index : index + 1]]
        if step:
            first = math.ceil(floor / step)
            candidates += [(first + offset) * step for offset in (index + 1 if base is None else index, 0, 1, -1, -2)]
        else:
            ceiling = high if high is not None else below if below is not None else floor + 2
            candidates += [floor + index, (floor + ceiling) / 2, floor, ceiling]
        for candidate in candidates:
            number = int(candidate) if whole and candidate == int(candidate) else candidate
            if (
                (not whole or isinstance(number, int))
                and (low is None or number >= low)
                and (high is None or number <= high)
                and (above is None or number > above)
                and (below is None or number < below)
                and (not step or math.isclose(number / step, round(number / step), rel_tol=0, abs_tol=1e-9))
            ):
                return number
        raise self._refusal("has bounds no simple number meets")

    def _string(self, rules: JsonObject, key: str, index: int) -> str:
        hints, form = self._hints, rules.get("format")
        least, most = _count(rules.get("minLength"), 0), _count(rules.get("maxLength"), 200)
        self._spend(least // 16)
        if least > most:
            raise self._refusal("has a minLength above its maxLength")
        known = _FORMATS.get(form) if isinstance(form, str) else None
        if known is not None and least <= len(known) <= most:
            return known
        text = hints.prompt if key.lower() in _WHOLE_PROMPT and hints.prompt else hints.words[index % len(hints.words)]
        if len(text) < least:
            text = (f"{text} " * (least // (len(text) + 1) + 1))[:least]
        return text[:most]


def _merged(base: object, over: JsonObject) -> JsonObject:
    """Both sets of rules in one: bounds are the tighter ones, properties and required are joined, else `over` wins."""
    if not isinstance(base, dict):
        return over
    merged = {**base, **over}
    if "properties" in base and "properties" in over:
        merged["properties"] = {**_mapping(base["properties"]), **_mapping(over["properties"])}
    merged["required"] = [*_list(base.get("required")), *_list(over.get("required"))]
    enums = _list(base.get("enum")), _list(over.get("enum"))
    if all(enums):
        merged["enum"] = [option for option in enums[0] if option in enums[1]]
    for names, tighter in ((_LOWER_BOUNDS, max), (_UPPER_BOUNDS, min)):
        for name in names:
            bounds = [bound for rules in (base, over) if (bound := _numeric(rules.get(name))) is not None]
            if bounds:
                merged[name] = tighter(bounds)
    return merged


def _kind(rules: JsonObject) -> str:
    """The type to write: the first that is not null, or what the other rules speak of."""
    kind = rules.get("type")
    if isinstance(kind, list):
        named = [name for name in kind if isinstance(name, str)]
        kind = next((name for name in named if name != "null"), "null" if named else None)
    if isinstance(kind, str):
        return kind
    return next((name for name, keys in _KIND_BY_KEY if any(key in rules for key in keys)), "string")


def _first_real(options: list[object]) -> object:
    return next((o for o in options if not (isinstance(o, dict) and o.get("type") == "null")), options[0])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _count(value: object, default: int) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else default


def _numeric(value: object) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
