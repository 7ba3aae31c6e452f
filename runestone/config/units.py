"""Durations ("300s", "5m", "100ms") and sizes ("10MB") as people write them.

Rule: a bare number is an error, because nobody can tell seconds from milliseconds by looking at it.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?)\s*([a-zA-Z]*)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_duration(text: object) -> float:
    """Seconds. Raises ValueError with a message for the person who wrote it."""
    return _parse(text, _SECONDS, 'a duration with a unit, such as "300s", "5m" or "100ms"')


def parse_size(text: object) -> int:
    """Bytes (KB is 1000, KiB is 1024). Raises ValueError with a message for the person who wrote it."""
    return int(_parse(text, _BYTES, 'a size with a unit, such as "10MB" or "256KiB"'))


def _parse(text: object, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f"must be {wanted}")  # noqa: TRY004 - one error kind for whoever collects the faults
    match = _NUMBER.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be {wanted}, not {text!r}")
    number, unit = match.groups()
    if unit not in units:
        raise ValueError(f"must be {wanted}; {text!r} has " + (f"the unknown unit {unit!r}" if unit else "no unit"))
    return float(number.replace("_", "")) * units[unit]


def format_duration(seconds: float) -> str:
    """The shortest way to write it, so that reading it again gives the same number."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and (seconds / _SECONDS[unit]).is_integer():
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    millis = seconds * 1000
    return f"{int(millis)}ms" if millis.is_integer() else f"{seconds:g}s"


def format_size(size: int) -> str:
    """The shortest way to write it, so that reading it again gives the same number."""
    for unit in ("GB", "MB", "KB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
