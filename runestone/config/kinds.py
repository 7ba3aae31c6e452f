"""The kinds of values that a configuration has beside TOML's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NewType

Duration = NewType("Duration", float)
"""Seconds; written with a unit."""
Size = NewType("Size", int)
"""Bytes; written with a unit."""
Ratio = NewType("Ratio", float)
"""0 to 1."""
Port = NewType("Port", int)
"""0 (any free one) to 65535."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by reference ("env:NAME" or "file:PATH"); its value is never printed."""

    reference: str
    value: str = field(repr=False)
