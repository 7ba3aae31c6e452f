"""The effective configuration as TOML, for `runestone check`: complete, and safe to paste into an issue.

Rule: a secret is shown by its reference only; a header's value is never shown.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Union, get_args, get_origin, get_type_hints

import tomli_w

from runestone.config.kinds import Duration, Secret, Size
from runestone.config.schema import Configuration, Provider
from runestone.config.units import format_duration, format_size


def render(configuration: Configuration) -> str:
    """TOML that reads back as the same configuration, headers' values excepted."""
    return tomli_w.dumps(_table(configuration))


def _table(instance: object) -> dict[str, object]:
    hints = get_type_hints(type(instance))
    table: dict[str, object] = {}
    for field in dataclasses.fields(instance):  # type: ignore[arg-type]
        value = getattr(instance, field.name)
        if value is None or (field.name == "simulated" and getattr(instance, "kind", "") != "simulated"):
            continue
        if isinstance(instance, Provider) and field.name == "headers":
            table[field.name] = dict.fromkeys(value, "[redacted]")
        else:
            table[field.name] = _value(_given(hints[field.name]), value)
    return table


def _given(hint: object) -> object:
    """The type of what is there, where it may be absent."""
    kinds = [kind for kind in get_args(hint) if kind is not types.NoneType]
    return kinds[0] if get_origin(hint) in (Union, types.UnionType) else hint


def _value(kind: object, value: object) -> object:
    if kind is Duration and isinstance(value, (int, float)):
        return format_duration(value)
    if kind is Size and isinstance(value, int):
        return format_size(value)
    if isinstance(value, Secret):
        return value.reference
    if isinstance(value, (str, int, float, bool, datetime)):
        return value
    if isinstance(value, tuple):
        return [_value(None, item) for item in value]
    if isinstance(value, Mapping):
        return {name: _value(None, item) for name, item in value.items()}
    return _table(value)
