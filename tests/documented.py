"""The tables of docs/configuration.md, as the schema has them. `python -m tests.documented` prints them for pasting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from runestone.config import front, kinds, schema
from runestone.config.units import format_duration, format_size

SECTIONS: dict[str, type] = {
    "[server]": front.Server,
    "[auth]": front.Auth,
    "[[auth.keys]]": front.Key,
    "[providers.NAME]": schema.Provider,
    "[providers.NAME.simulated]": schema.Simulated,
    "[models.NAME]": schema.Model,
    "[pool]": schema.Pool,
    "[breaker]": schema.Breaker,
    "[routing]": schema.Routing,
    "[routing.timeouts]": schema.Timeouts,
    "[cache]": schema.Cache,
    "[batch]": schema.Batch,
    "[websocket]": front.WebSocket,
    "[streams]": front.Streams,
    "[pipelines]": schema.Pipelines,
    "[telemetry]": front.Telemetry,
    "[log]": front.Log,
    "[debug]": front.Debug,
}
_NAMES: dict[Any, str] = {
    str: "string",
    int: "whole number",
    float: "number",
    bool: "true / false",
    kinds.Duration: "duration",
    kinds.Size: "size",
    kinds.Ratio: "0 to 1",
    kinds.Port: "port",
    kinds.Secret: "secret",
    datetime: "date-time",
}


def tables() -> Iterator[tuple[str, list[str]]]:
    """(heading, table lines) of every section."""
    for heading, kind in SECTIONS.items():
        lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            text = field.metadata["doc"]
            lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(field, hints)} | {text} |")
        yield heading, lines


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return _type(next(argument for argument in arguments if argument is not type(None)))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f'"{member}"' for member in kind)
    if origin is Literal:
        return ", ".join(f'"{argument}"' for argument in arguments)
    if origin is tuple:
        inner = _type(arguments[0])
        return f"list of {inner}" if inner.startswith('"') else f"list of {inner}s"
    if origin is dict:
        return "table"
    return _NAMES.get(kind, "table")


def _default(field: dataclasses.Field[Any], hints: dict[str, Any]) -> str:
    value, kind = field.default, hints[field.name]
    if value is dataclasses.MISSING:
        return "" if field.default_factory is not dataclasses.MISSING else "needed"
    if value is None or value == () or dataclasses.is_dataclass(value):
        return ""
    if kind is kinds.Duration:
        return f'`"{format_duration(value)}"`'
    if kind is kinds.Size:
        return f'`"{format_size(value)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"


if __name__ == "__main__":
    for heading, lines in tables():
        print(f"### `{heading}`\n\n" + "\n".join(lines) + "\n")
