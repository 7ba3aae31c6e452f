"""Durations ("300s", "5m", "100ms") and sizes ("10MB") as people write them.

Rule: a bare number is an error, because nobody can tell seconds from milliseconds by looking at it.
"""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?)\s*([a-zA-Z]*)")
_MOST = 1e15
"""Thirty million years, or a petabyte."""
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {
    "B": Decimal(1),
    "KB": Decimal(1000),
    "MB": Decimal(1000**2),
    "GB": Decimal(1000**3),
    "KiB": Decimal(1024),
    "MiB": Decimal(1024**2),
    "GiB": Decimal(1024**3),
}


def parse_duration(text: object) -> float:
    """Seconds. Raises ValueError with a message for the person who wrote it."""
    return float(_parse(text, _SECONDS, 'a duration with a unit, such as "300s", "5m" or "100ms"'))


def parse_size(text: object) -> int:
    """Bytes (KB is 1000, KiB is 1024). Raises ValueError with a message for the person who wrote it."""
    return int(_parse(text, _BYTES, 'a size with a unit, such as "10MB" or "256KiB"'))


def _parse(text: object, units: dict[str, Decimal], wanted: str) -> Decimal:
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f"must be {wanted}")  # noqa: TRY004 - one error kind for whoever collects the faults
    match = _NUMBER.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be {wanted}, not {text!r}")
    number, unit = match.groups()
    if unit not in units:
        raise ValueError(f"must be {wanted}; {text!r} has " + (f"the unknown unit {unit!r}" if unit else "no unit"))
    value = Decimal(number.replace("_", "")) * units[unit]
    if value > _MOST:
        raise ValueError(f"must be {wanted}, and of a believable size")
    return value


def format_duration(seconds: float) -> str:
    """The shortest way to write it, so that reading it again gives the same number."""
    if not seconds:
        return "0s"
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m", "s", "ms"):
        if exact >= _SECONDS[unit] and exact % _SECONDS[unit] == 0:
            return f"{exact // _SECONDS[unit]:f}{unit}"
    return f"{exact:f}s"


def format_size(size: int) -> str:
    """The shortest way to write it, so that reading it again gives the same number."""
    for unit in ("GB", "MB", "KB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // int(_BYTES[unit])}{unit}"
    return f"{size}B"
