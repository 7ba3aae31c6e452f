"""The client's bytes: read once, strictly, and sent on unchanged but for the model's name.

Rule: what we understand must be what the provider will understand, so anything two parsers may read differently is
refused:
duplicate names, NaN, lone surrogates, invalid UTF-8 (RFC 8259 sections 4, 6, 8), and nesting deeper than can be
written again.
"""

from __future__ import annotations

import json
import re

import orjson

from runestone.core.json import JsonObject
from runestone.errors import BadRequest

MAX_DEPTH = 250
"""Levels of nesting; orjson writes 254."""

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


def parse_object(body: bytes) -> JsonObject:
    """The JSON object in `body`. Raises BadRequest, which never repeats contents."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    if type(fields) is not dict:
        raise BadRequest("the body must be a JSON object")
    # What SDKs send is compact, and then writing it again gives the same bytes: proof, at memcpy speed, that no name is
    # there twice (the writer cannot repeat one). Only other bodies pay for a second, slower reading.
    try:
        if orjson.dumps(fields) == body:
            return fields
    except TypeError:
        raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    _refuse_duplicates(body)
    return fields


def _refuse_duplicates(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_unique)
    except RecursionError:
        raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # numbers longer than Python converts, above all
        raise BadRequest("the body holds a number that is out of range") from None


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest(f"the name {name[:100]!r} stands twice in one object", param=name[:100])
            seen.add(name)


def with_model(body: bytes, fields: JsonObject, model: str) -> bytes:
    """`body` with the top-level `model` replaced (or added); every other byte stays as the client wrote it."""
    wanted = {**fields, "model": model}
    written = orjson.dumps(model)
    if "model" not in fields:
        brace = body.index(b"{")
        rest = body[brace + 1 :]
        return body[: brace + 1] + b'"model":' + written + (b"," if fields else b"") + rest
    # A key "model" may also stand deeper (tools, metadata): the right one is the one that makes the objects equal.
    # Inside a string the quotes are escaped, so the expression finds keys only.
    for match in _MODEL.finditer(body):
        start, end = match.span(1)
        candidate = body[:start] + written + body[end:]
        if orjson.loads(candidate) == wanted:
            return candidate
    return orjson.dumps(wanted)  # the key was written with escapes
