"""One answer out of several of the same form: what the workers of a gateway say of themselves.

    numbers   added, but for those that are no amounts (LARGEST, LEAST)
    switches  true where one is
    states    the worst
    lists     of things that have a name: by that name; others one after the other, each once
    the rest  what the first says

Rule: `null` is no word: it counts where all say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

LARGEST: Final = frozenset(
    {
        *("uptime_seconds", "loop_lag_seconds", "latency_seconds", "breaker_retry_after", "rests", "generation"),
        *("pid", "index"),
    }
)
LEAST: Final = frozenset({"score"})
ALL: Final = frozenset({"reloaded", "enabled"})
"""Switches that are only true where all are."""
STATES: Final = ("closed", "half_open", "open")
NAMES: Final = ("target", "index")
"""By which things of a list are told apart."""


def merged(values: Sequence[Any], name: str = "") -> Any:
    """One out of `values`, JSON of the same form; `name` is what it is called."""
    told = [value for value in values if value is not None]
    if not told:
        return None
    first = told[0]
    if isinstance(first, bool):
        return all(told) if name in ALL else any(told)
    if isinstance(first, (int, float)):
        if name in LARGEST:
            return max(told)
        return min(told) if name in LEAST else sum(told)
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in told for key in value)
        whole = {key: merged([value.get(key) for value in told], key) for key in keys}
        if "hit_rate" in whole:
            asked = whole["hits"] + whole["misses"]
            whole["hit_rate"] = round(whole["hits"] / asked, 4) if asked else 0.0
        return whole
    if isinstance(first, list):
        return _list([entry for value in told for entry in value])
    if first in STATES:
        return max(told, key=STATES.index)
    return first


def _list(entries: list[Any]) -> list[Any]:
    named: dict[object, list[Any]] = {}
    for entry in entries:
        key = next((entry[name] for name in NAMES if name in entry), None) if isinstance(entry, dict) else repr(entry)
        named.setdefault(id(entry) if key is None or "age_seconds" in entry else key, []).append(entry)
    return [group[0] if len(group) == 1 else merged(group) for group in named.values()]
