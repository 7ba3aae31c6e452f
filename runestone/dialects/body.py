"""The client's bytes: read once, strictly, and sent on unchanged but for the model's name.

Rule: what we understand must be what the provider will understand, so anything two parsers may read differently is
refused: duplicate names, NaN, lone surrogates, invalid UTF-8 (RFC 8259 sections 4, 6, 8), and nesting deeper than can
be written again.
"""

from __future__ import annotations

import json
import re

import orjson

from runestone.core.json import JsonObject
from runestone.errors import BadRequest

MAX_DEPTH = 254
"""Levels of nesting: what orjson writes."""

UNCOUNTED, MOST_VALUES = 1_000_000, 2_000_000
"""Bytes up to which nobody counts; and values, of which each takes fifty bytes and more, whatever it holds."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]')
_COLON = re.compile(rb"\s*:")
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')


def parse_object(body: bytes) -> JsonObject:
    """The JSON object in `body`. Raises BadRequest, which never repeats contents."""
    if len(body) > UNCOUNTED and sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise BadRequest(f"the body holds more than {MOST_VALUES} values")
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
    written = orjson.dumps(model)
    if "model" not in fields:
        brace = body.index(b"{")
        rest = body[brace + 1 :]
        return body[: brace + 1] + b'"model":' + written + (b"," if fields else b"") + rest
    # Inside a string the quotes are escaped, so the expression finds keys only; one that is found once is the right one
    # if the objects come out equal. A key "model" may also stand deeper (tools, metadata), or be written with escapes.
    if type(fields["model"]) is not str:  # the model was named by the path, and what stands in the body is none
        return orjson.dumps({**fields, "model": model})
    match = _MODEL.search(body)
    if match is not None and _MODEL.search(body, match.end()) is None:
        candidate = body[: match.start(1)] + written + body[match.end(1) :]
        if orjson.loads(candidate) == {**fields, "model": model}:
            return candidate
    start, end = _top_level_model(body)
    return body[:start] + written + body[end:]


def _top_level_model(body: bytes) -> tuple[int, int]:
    """Where the value of the outermost object's `model`, a string, stands; `body` is JSON that has one."""
    depth = 0
    is_next = False
    for token in _TOKEN.finditer(body):
        text = token.group()
        if text in b"{[":
            depth += 1
        elif text in b"]}":
            depth -= 1
        elif is_next:
            return token.span()
        elif depth == 1 and (text == b'"model"' or b"\\" in text):
            is_next = orjson.loads(text) == "model" and _COLON.match(body, token.end()) is not None
    raise BadRequest("'model' must be a string", param="model")
