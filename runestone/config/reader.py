"""Reads a table into the dataclasses of `schema`, strictly: unknown keys, wrong types and units are faults, all
listed at once.

Rule: the dataclasses are the grammar; this file knows types, not sections. A fault never repeats a value that could
be a secret.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin

from runestone.config.kinds import Duration, Port, Ratio, Secret, Size
from runestone.config.units import parse_duration, parse_size

T = TypeVar("T")

MOST = 10**15
"""The largest number that anything here could mean."""


class Faults:
    """The faults found so far; each becomes one line `source:path: message`."""

    def __init__(self, source: str) -> None:
        self.lines: list[str] = []
        self._source = source
        self._paths: list[str] = []

    def add_unless_known(self, path: str, message: str) -> None:
        """Notes what a second look found, unless the table it lies in has a fault already that may be its cause."""
        table = path.rpartition(".")[0]
        if not any(known == path or known.startswith((f"{table}.", f"{table}[")) for known in self._paths):
            self.add(path, message)

    def add(self, path: str, message: str) -> None:
        """Notes a fault at the dotted `path`; a line stays one line whatever a key is called."""
        self._paths.append(path)
        line = f"{self._source}:{path}: {message}"
        self.lines.append(line if line.isprintable() else "".join(s if s.isprintable() else "?" for s in line))


def nearest(name: str, names: Iterable[str]) -> str:
    """ ", did you mean X?" for the closest of `names`, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f", did you mean {found[0]!r}?" if found else ""


class Reader:
    """Reads values by type. `environ` resolves `env:` references; `base` is the folder relative `file:` paths start
    at.
    """

    def __init__(self, faults: Faults, environ: Mapping[str, str], base: Path) -> None:
        self._faults = faults
        self._environ = environ
        self._base = base
        self._scalars: dict[object, Callable[[object], object]] = {
            str: _string,
            bool: _boolean,
            int: _whole_number,
            float: _number,
            Duration: parse_duration,
            Size: parse_size,
            Ratio: _ratio,
            Port: _port,
            Secret: self.secret,
            datetime: _date_time,
        }

    def table(self, kind: type[T], value: object, path: str) -> T | None:
        """An instance of the dataclass `kind`, with defaults for what was wrong; None when something needed is."""
        if not isinstance(value, dict):
            self._faults.add(path, f"must be a table, not {_name(value)}")
            return None
        hints = typing.get_type_hints(kind)
        known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        for name in value:
            if name not in known:
                self._faults.add(_join(path, name), f"unknown key{nearest(name, known)}")
        given: dict[str, object] = {}
        is_whole = True
        for name, field in known.items():
            has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if name not in value:
                if not has_default:
                    self._faults.add(_join(path, name), "is missing")
                is_whole = is_whole and has_default
                continue
            read = self.value(hints[name], value[name], _join(path, name))
            if read is not None:
                given[name] = read
            # A wrong value counts as its default from here on, so that what depends on it can be checked as well.
            is_whole = is_whole and (read is not None or has_default)
        return kind(**given) if is_whole else None

    def value(self, kind: object, value: object, path: str) -> object:
        """`value` as the type `kind`; None after a fault."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (typing.Union, types.UnionType):
            (kind,) = (argument for argument in arguments if argument is not type(None))
            return self.value(kind, value, path)
        if origin is Literal:
            return self._choice(arguments, value, path)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            chosen = self._choice(tuple(member.value for member in kind), value, path)
            return None if chosen is None else kind(str(chosen))
        if origin is tuple:
            return self._list(arguments[0], value, path)
        if origin is dict:
            return self._mapping(arguments[1], value, path)
        if dataclasses.is_dataclass(kind) and kind is not Secret and isinstance(kind, type):
            return self.table(kind, value, path)
        try:
            return self._scalars[kind](value)
        except ValueError as error:
            self._faults.add(path, str(error))
            return None

    def is_set(self, name: str) -> bool:
        """Whether the environment has a value under this name."""
        return bool(self._environ.get(name, "").strip())

    def secret(self, value: object) -> Secret:
        """Resolves "env:NAME" or "file:PATH". Raises ValueError, never repeating the value."""
        scheme, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
        if scheme == "env" and name:
            found = self._environ.get(name, "").strip()
            if not found:
                raise ValueError(f"the environment variable {name} is not set")
        elif scheme == "file" and name:
            try:
                found = (self._base / Path(name).expanduser()).read_text().strip()
            except (OSError, ValueError, RuntimeError) as error:  # not there, not text, no such home
                raise ValueError(f"the secret's file cannot be read: {error.__class__.__name__}") from None
            if not found:
                raise ValueError("the secret's file is empty")
        else:
            raise ValueError('must be a reference, "env:NAME" or "file:PATH": a secret is never written here')
        if not found.isprintable():
            raise ValueError("the secret has characters that no header can carry")
        return Secret(f"{scheme}:{name}", found)

    def _choice(self, choices: tuple[object, ...], value: object, path: str) -> object:
        if value in choices:
            return value
        listed = ", ".join(repr(choice) for choice in choices)
        self._faults.add(path, f"must be one of {listed}{nearest(str(value), map(str, choices))}")
        return None

    def _list(self, kind: object, value: object, path: str) -> object:
        if not isinstance(value, list):
            self._faults.add(path, f"must be a list, not {_name(value)}")
            return None
        read = (self.value(kind, item, f"{path}[{index}]") for index, item in enumerate(value))
        return tuple(item for item in read if item is not None)

    def _mapping(self, kind: object, value: object, path: str) -> object:
        if not isinstance(value, dict):
            self._faults.add(path, f"must be a table, not {_name(value)}")
            return None
        read = {name: self.value(kind, item, _join(path, name)) for name, item in value.items()}
        return {name: item for name, item in read.items() if item is not None}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _name(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {_name(value)}")  # noqa: TRY004 - the reader collects ValueErrors
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_name(value)}")  # noqa: TRY004
    return value


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError("must be a whole number, 0 or more")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
        raise ValueError("must be a number, 0 or more")
    return float(value)


def _ratio(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("must be a number from 0 to 1")
    return float(value)


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise ValueError("must be a port, 0 to 65535")
    return value


def _date_time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise ValueError("must be a date-time such as 2027-01-31T00:00:00Z")  # noqa: TRY004
    return value if value.tzinfo else value.replace(tzinfo=UTC)
