"""Objects that come in parts, joined as their members are: texts are appended, lists by index, facts stay as they are.

Rule: a member that comes once is taken whole, whatever it is. One that comes again is joined if it is known how, and
refused otherwise: two equal texts may be one fact said twice, or the halves of "bonbon".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runestone.dialects.replay.exact import is_empty, refuse


@dataclass(frozen=True, slots=True)
class Shape:
    """How the members of an object join. Those that are not named here may come once, besides null and empty."""

    texts: frozenset[str] = frozenset()
    """Strings are pieces of one text."""
    facts: frozenset[str] = frozenset()
    """Said again, they are the same."""
    objects: Mapping[str, Shape] = field(default_factory=dict)
    """Objects that come in parts themselves."""
    lists: Mapping[str, Items] = field(default_factory=dict)
    """Lists whose items come in parts."""
    appended: frozenset[str] = frozenset()
    """Lists whose items come whole, one after the other."""


@dataclass(frozen=True, slots=True)
class Items:
    """How the items of a list join: those that agree in `keys` (`index` is one of them) are parts of the same."""

    shape: Shape
    keys: tuple[str, ...] = ("index",)
    keeps_index: bool = False
    """Whether the index stands in the whole answer too; where not, the items come in its order."""


class Pieces:
    """An object that comes in parts."""

    __slots__ = ("_found", "_inner", "_lists", "_shape", "_texts")

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._found: dict[str, Any] = {}  # every member, in order; a placeholder for those that are joined
        self._texts: dict[str, list[str]] = {}
        self._inner: dict[str, Pieces] = {}
        self._lists: dict[str, _Listed] = {}

    def add(self, part: Mapping[str, Any]) -> None:
        """Takes the next part. Raises Inexact."""
        for name, value in part.items():
            self._add(name, value)

    def whole(self) -> dict[str, Any]:
        """The object."""
        found = self._found
        for name, texts in self._texts.items():
            if not found[name]:
                found[name] = "".join(texts)
        for name, inner in self._inner.items():
            found[name] = inner.whole()
        for name, items in self._lists.items():
            found[name] = items.whole()
        return found

    def _add(self, name: str, value: Any) -> None:
        shape = self._shape
        if value is None:
            self._found.setdefault(name, None)
        elif name in shape.texts and type(value) is str:
            if not is_empty(self._found.get(name)):
                refuse(f"{name} is a text and something else")
            self._found[name] = ""
            texts = self._texts.setdefault(name, [])
            if value:
                texts.append(value)
        elif name in shape.objects and type(value) is dict:
            self._found.setdefault(name, None)
            if name not in self._inner:
                self._inner[name] = Pieces(shape.objects[name])
            self._inner[name].add(value)
        elif name in shape.lists and type(value) is list:
            self._found.setdefault(name, None)
            if name not in self._lists:
                self._lists[name] = _Listed(name, shape.lists[name])
            self._lists[name].add(value)
        elif name in shape.appended:
            append(self._found, name, value)
        else:
            self._take(name, value)

    def _take(self, name: str, value: Any) -> None:
        """A member that is not made of parts."""
        if name in self._inner or name in self._lists or self._texts.get(name):
            refuse(f"{name} is of two kinds")
        known = self._found.get(name)
        if is_empty(known):
            if known is None or not is_empty(value):
                self._found[name] = value
        elif not is_empty(value) and not (is_same(known, value) and (name in self._shape.facts or type(value) is bool)):
            refuse(f"{name} comes more than once")


class _Listed:
    """A list whose items come in parts."""

    __slots__ = ("_found", "_how", "_last", "_name", "_whole")

    def __init__(self, name: str, how: Items) -> None:
        self._name = name
        self._how = how
        self._found: dict[tuple[object, ...], Pieces] = {}
        self._whole: list[Any] = []  # items that have no index come whole, all at once
        self._last = -1

    def add(self, part: list[Any]) -> None:
        if not part:
            return
        indexed = [type(item) is dict and "index" in item for item in part]
        if self._whole or (self._found and not all(indexed)) or any(indexed) != all(indexed):
            refuse(f"items of {self._name} have no index")
        if not any(indexed):
            self._whole = part
            return
        for item in part:
            self._find(item).add(item)

    def whole(self) -> list[Any]:
        items = [item.whole() for item in self._found.values()]
        if not self._how.keeps_index:
            for item in items:
                del item["index"]
        return items or self._whole

    def _find(self, item: dict[str, Any]) -> Pieces:
        key = tuple(item.get(name) for name in self._how.keys)
        index = item["index"]
        if type(index) is not int or any(type(part) not in (int, str, type(None)) for part in key):
            refuse(f"an index of {self._name} is none")
        if key not in self._found:
            if index < self._last and not self._how.keeps_index:
                refuse(f"{self._name} are not in order")
            self._last = index
            self._found[key] = Pieces(self._how.shape)
        return self._found[key]


def append(found: dict[str, Any], name: str, value: Any) -> None:
    """Appends a list to the one that is there; null is none. Raises Inexact for anything else."""
    known = found.get(name)
    if known is None:
        found[name] = value
    elif type(known) is list and type(value) is list:
        known.extend(value)
    elif value is not None:
        refuse(f"{name} comes more than once")


def state(found: dict[str, Any], name: str, value: Any) -> None:
    """Notes what every part may say again, as far as it is known by then: null and empty give way, objects grow.
    Raises Inexact for what changes.
    """
    if name not in found:
        found[name] = value
        return
    known = found[name]
    if is_same(known, value):
        return
    if is_empty(known):
        if value is not None:
            found[name] = value
    elif type(known) is dict and type(value) is dict:
        for inner, told in value.items():
            state(known, inner, told)
    elif not is_empty(value):
        refuse(f"{name} changes")


def is_same(one: object, other: object) -> bool:
    """Whether two JSON values are equal and of one type (1 and true are not)."""
    return type(one) is type(other) and one == other
