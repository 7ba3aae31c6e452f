"""What both ways share: reading JSON without losing a digit, and cutting texts as streams do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import orjson

from runestone.core.tokens import pieces

_DIGITS = re.compile(rb"[0-9]{19}")
"""Where an integer may stand that orjson rounds."""
_LONG_ENOUGH = 32
"""Characters of a text's piece, at least; it ends where a token may end."""


class Inexact(Exception):
    """An answer cannot be told in its other form; the message says why."""


def refuse(why: str) -> NoReturn:
    """Raises Inexact."""
    raise Inexact(why)


def load(data: bytes) -> dict[str, Any]:
    """The object in `data`. Raises Inexact for anything else, and for a number that would not come out as it went
    in.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        refuse("not JSON")
    if type(value) is not dict:
        refuse("not an object")
    if _DIGITS.search(data) and json.loads(data) != value:
        refuse("a number of more digits than are read")
    return value


def dump(value: object) -> bytes:
    """The JSON of what was loaded. Raises Inexact for what is nested deeper than orjson writes."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        refuse("nested too deep")


def cut(text: str) -> Iterator[str]:
    """The text in pieces of a few dozen characters; joined, they are the text."""
    start = end = 0
    for piece in pieces(text):
        end += len(piece)
        if end - start >= _LONG_ENOUGH:
            yield text[start:end]
            start = end
    if end > start:
        yield text[start:end]


def is_empty(value: object) -> bool:
    """Whether a value says nothing: null, or an empty text, list or object. A number and false say something."""
    return value is None or value == "" or value == [] or value == {}
