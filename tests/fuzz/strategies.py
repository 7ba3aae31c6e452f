"""What the fuzz tests draw from: JSON, bytes cut anywhere, and whole things of which a part is made wrong.

Rule: strategies only; what they say of the world is in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from hypothesis import strategies as st

from runestone.dialects.sse import encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Any text that UTF-8 can say."""

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-2, 5) | NUMBERS | TEXT


def json_of(names: st.SearchStrategy[str], scalars: st.SearchStrategy[Any] = SCALARS) -> st.SearchStrategy[Any]:
    """JSON with these names and scalars in it."""
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=10,
    )


JSON = json_of(TEXT)
ODD = st.sampled_from([None, True, 0, -1, 1.5, 2**64 - 1, "", " ", "x", [], [[]], [{}], {}, {"a": []}, {"type": []}])
"""Values that are wrong almost everywhere."""


def nested(levels: int) -> Any:
    """Arrays in each other, so many."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


DEEP = st.sampled_from([200, 253, 254, 255, 900]).map(nested)
"""Around what is read and what is written: nobody may fall over any of it."""


def deep_json(value: Any) -> bytes:
    """JSON of whatever depth; orjson writes 254 levels."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    if isinstance(value, dict):
        return b"{" + b",".join(orjson.dumps(name) + b":" + deep_json(inner) for name, inner in value.items()) + b"}"
    levels, at = 0, value
    while isinstance(at, list) and len(at) == 1:
        levels, at = levels + 1, at[0]
    if levels > 100:
        return b"[" * levels + deep_json(at) + b"]" * levels
    return b"[" + b",".join(map(deep_json, value)) + b"]"


# -- whole things with something wrong


Key = tuple[str | int, ...]


DEEPEST = 12
"""Steps to a place that is made wrong; what is deeper in is one like the other."""


def places(value: Any, at: Key = ()) -> Iterator[Key]:
    """The keys of everything in `value`, itself left out."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if len(at) == DEEPEST:
        return
    for key, item in inner:
        yield (*at, key)
        yield from places(item, (*at, key))


def changed(value: Any, key: Key, change: Callable[[Any, str | int], None]) -> Any:
    """`value` with `change(container, last key)` done to a copy of the container; nothing else is copied."""
    copy = value.copy()
    if len(key) == 1:
        change(copy, key[0])
    else:
        copy[key[0]] = changed(value[key[0]], key[1:], change)
    return copy


@st.composite
def spoiled(draw: st.DrawFn, seeds: list[Any], values: st.SearchStrategy[Any] = ODD | JSON) -> Any:
    """One of `seeds` in which up to three places are replaced, dropped, doubled, renamed, or exchanged with another."""
    value = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(value))
        if not found:
            break
        key, how = draw(st.sampled_from(found)), draw(st.integers(0, 5))
        if how == 0:
            value = changed(value, key, lambda place, last: place.__delitem__(last))
        elif how == 1:
            taken = value
            for step in draw(st.sampled_from(found)):
                taken = taken[step]
            value = changed(value, key, lambda place, last, taken=taken: place.__setitem__(last, taken))  # type: ignore[misc]
        elif how == 2:
            value = changed(value, key, _doubled)
        else:
            new = draw(values)
            value = changed(value, key, lambda place, last, new=new: place.__setitem__(last, new))  # type: ignore[misc]
    return value


def _doubled(place: Any, last: str | int) -> None:
    if isinstance(place, list):
        place.insert(int(last), place[int(last)])
    else:
        place[f"{last}_"] = place[last]


# -- bytes, cut anywhere


@st.composite
def cuts(draw: st.DrawFn, data: bytes, most: int = 8) -> list[bytes]:
    """`data` in pieces; some may be empty."""
    if draw(st.integers(0, 9)) == 9:
        return [data[at : at + 1] for at in range(len(data))] if len(data) <= 400 else [data]
    marks = sorted(draw(st.lists(st.integers(0, len(data)), max_size=most)))
    return [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]


LINE_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn, events: list[Any], *, end: bytes = b"") -> bytes:
    """Events (JSON, or bytes as they are) as a provider may write them: comments, names, any line ends, the last event
    whole or not.
    """
    out = []
    for event in events:
        data = event if isinstance(event, bytes) else deep_json(event)
        how = draw(st.integers(0, 12))
        if how == 0:
            out.append(b": comment\n\n")
        name = str(event.get("type")) if isinstance(event, dict) and how in (1, 2) else ""
        name = name if name.isprintable() else ""
        out.append(b"data:" + data + b"\n\n" if how == 3 else encode(data, name))
    out.append(end)
    whole = b"".join(out)
    line_end = draw(LINE_ENDS)
    if line_end != b"\n":
        whole = whole.replace(b"\n", line_end)
    if draw(st.integers(0, 7)) == 0:
        whole = whole.rstrip(b"\r\n") + draw(st.sampled_from([b"", line_end]))
    return whole
