"""What `runestone top` shows of a gateway's state: lines and tables, as texts; how they are drawn is top.py's.

Rule: what the gateway does not tell is left blank; every text comes out of here fit for a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runestone.console.remote import shown
from runestone.core.json import JsonObject

_UNITS = ("B", "KB", "MB", "GB", "TB")
_MOST = 10**18
"""A number beyond is none that a gateway tells."""


@dataclass(frozen=True, slots=True)
class Table:
    """`heads` that begin with ">" are of numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class View:
    """`lines` say what goes on altogether."""

    lines: tuple[str, ...]
    tables: tuple[Table, ...]


def view(state: JsonObject, before: JsonObject | None = None, seconds: float = 0.0) -> View:
    """The view of `state`; with the state `before`, that was `seconds` ago, also what happened since."""
    calls, log = _of(state, "calls"), _of(state, "log")
    lines = [
        _joined(
            f"runestone {shown(state.get('version', ''))}",
            f"pid {shown(state.get('pid', ''))}",
            f"up {duration(_number(state.get('uptime_seconds')))}",
            f"{_size(_number(state.get('memory_bytes')))}",
            f"loop {_number(state.get('loop_lag_seconds')) * 1000:.1f} ms",
            "DRAINING" if state.get("draining") is True else "",
        ),
        _joined(
            f"calls {_count(calls, 'total')} in flight{_stages(_of(calls, 'stages'))}",
            f"{_count(calls, 'finished')} finished",
            _rate(state, before, seconds),
        ),
        _joined(_cache(_of(state, "cache"))),
        _joined(*_live(_of(state, "websocket"), _of(state, "streams"))),
    ]
    if _count(log, "dropped"):
        lines.append(f"log {_count(log, 'dropped')} lines dropped: stderr is not read")
    return View(tuple(filter(None, lines)), (_targets(_of(state, "providers")), _oldest(calls)))


def duration(seconds: float) -> str:
    """For people: 0.3s, 12s, 3m05s, 2h07m, 4d03h."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit, rest, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // rest:02d}{small}"
    return f"{whole}s"


def _targets(providers: JsonObject) -> Table:
    heads = ("provider", ">active", ">idle", ">waiting", "target", ">calls", ">latency", ">score", "breaker")
    rows = []
    for name in providers:
        provider = _of(providers, name)
        pool, targets = _of(provider, "pool"), _list(provider, "targets")
        own = [shown(name, 30), *(shown(pool.get(part, "")) for part in ("active", "idle", "waiting"))]
        if provider.get("draining") is True:
            own[0] += " (drained)"
        for at, target in enumerate(targets or [{}]):
            rows.append((*(own if at == 0 else ("",) * 4), *_target(target, name)))
    return Table("providers", heads, tuple(rows))


def _target(target: JsonObject, provider: str) -> tuple[str, ...]:
    if not target:
        return ("",) * 5
    breaker = shown(target.get("breaker") or "")
    if breaker == "open":
        breaker += f", {duration(_number(target.get('breaker_retry_after')))}"
    return (
        shown(str(target.get("target", "")).removeprefix(f"{provider}/"), 40),
        shown(target.get("in_flight", "")),
        f"{_number(target.get('latency_seconds')) * 1000:.0f} ms",
        shown(target.get("score", "")),
        breaker,
    )


def _oldest(calls: JsonObject) -> Table:
    heads = (">age", "stage", "operation", "model", "target", ">tries", "key", "cache", "id")
    rows = tuple(
        (
            duration(_number(call.get("age_seconds"))),
            shown(call.get("stage", "")),
            shown(call.get("operation", "")) + (" (stream)" if call.get("stream") is True else ""),
            shown(call.get("model", ""), 30),
            shown(call.get("target") or "", 40),
            shown(call.get("attempts", "")),
            shown(call.get("key", ""), 20),
            shown(call.get("cache", "")),
            shown(call.get("id", ""), 40),
        )
        for call in _list(calls, "oldest")
    )
    return Table("calls, the oldest first", heads, rows)


def _stages(stages: JsonObject) -> str:
    found = ", ".join(f"{_count(stages, name)} {shown(name)}" for name in sorted(stages))
    return f" ({found})" if found else ""


def _rate(state: JsonObject, before: JsonObject | None, seconds: float) -> str:
    if before is None or seconds <= 0 or state.get("pid") != before.get("pid"):
        return ""
    return f"{(_count(_of(state, 'calls'), 'finished') - _count(_of(before, 'calls'), 'finished')) / seconds:.0f}/s"


def _cache(cache: JsonObject) -> str:
    hits, misses = _count(cache, "hits"), _count(cache, "misses")
    if not cache or not hits + misses:
        return ""
    told = f"cache {_count(cache, 'entries')} answers, {_size(_count(cache, 'bytes'))}"
    return f"{told}, {hits / (hits + misses):.0%} of {hits + misses} hit, {_count(cache, 'collapsed')} collapsed"


def _live(websocket: JsonObject, streams: JsonObject) -> Iterable[str]:
    if _count(streams, "active") or _count(streams, "resumable"):
        yield f"streams {_count(streams, 'active')} running, {_count(streams, 'resumable')} to be rejoined"
    if _count(websocket, "connections") or _count(websocket, "away"):
        told = f"WebSocket {_count(websocket, 'connections')} connections, {_count(websocket, 'away')} away"
        yield f"{told}, {_count(websocket, 'rooms')} rooms"


def _joined(*parts: str) -> str:
    return "   ".join(part for part in parts if part)


def _of(told: Mapping[str, object], name: str) -> JsonObject:
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _list(told: Mapping[str, object], name: str) -> list[JsonObject]:
    found = told.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < _MOST else 0.0


def _count(told: Mapping[str, object], name: str) -> int:
    return int(_number(told.get(name)))


def _size(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {_UNITS[unit]}"
