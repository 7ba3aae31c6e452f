"""Narrowing of what a client sent: the value, or a BadRequest that names its path.

Rule: only what the crossing itself must look into is checked; the provider judges the rest in its own words.
"""

from __future__ import annotations

from typing import Any

from runestone.errors import BadRequest


def mapping(value: Any, path: str) -> dict[str, Any]:
    """An object. Raises BadRequest that names `path`."""
    if isinstance(value, dict):
        return value
    raise BadRequest(f"{path} must be an object", param=path)


def array(value: Any, path: str) -> list[Any]:
    """An array. Raises BadRequest that names `path`."""
    if isinstance(value, list):
        return value
    raise BadRequest(f"{path} must be an array", param=path)


def string(value: Any, path: str) -> str:
    """A string. Raises BadRequest that names `path`."""
    if isinstance(value, str):
        return value
    raise BadRequest(f"{path} must be a string", param=path)


def optional(value: Any, path: str) -> str:
    """A string, "" where it is null or absent. Raises BadRequest that names `path`."""
    return "" if value is None else string(value, path)


def flag(value: Any, path: str) -> bool:
    """A boolean, False where it is null or absent. Raises BadRequest that names `path`."""
    if value is None or isinstance(value, bool):
        return value is True
    raise BadRequest(f"{path} must be a boolean", param=path)


def whole(value: Any, path: str) -> int:
    """An integer of at least 1. Raises BadRequest that names `path`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise BadRequest(f"{path} must be an integer of at least 1", param=path)
