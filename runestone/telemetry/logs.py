"""Logs: one line for every call, as text or JSON, on stderr.

    error    our own faults, with a traceback
    warning  calls whose provider failed (at any attempt) or that we failed; what an operator should know
    info     the other calls, and requests that were refused before they became one
    debug    what the gateway does by itself

Rule: ids, names, counts and times; never contents, never keys. What a client can choose freely (ids, model names) is
quoted so that it cannot forge a line. Nothing waits for the line to be written (log_queue.py).
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Literal

import orjson

from runestone.core.record import Record
from runestone.telemetry.log_queue import Queued

_HARMLESS = re.compile(r"[A-Za-z0-9_./:@+*-]+")
_LONGEST = 300
"""Characters of one value."""
MOST = 4_000_000
"""Bytes of lines that wait to be written."""

Price = Callable[[Record], float | None]
"""US dollars of a call; None where that is not known."""

_calls = logging.getLogger("runestone.calls")


def set_up(level: str, form: Literal["text", "json"], most: int = MOST, worker: str | None = None) -> Queued:
    """Sends the package's logs, and warnings of the libraries, to stderr; `most` bytes wait to be written. Each line
    names the `worker`, where there are several. Whoever gets the handler closes it, so that the last lines are written.
    """
    formatter = JsonFormatter(worker) if form == "json" else TextFormatter(worker)
    file = sys.stderr.fileno() if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY)
    handler = Queued(formatter.format, file, most)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)  # it repeats sub-protocols, and a key may be one
    logging.captureWarnings(True)
    return handler


def set_level(level: str) -> None:
    """The least level that is written from now on."""
    logging.getLogger("runestone").setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """`time level message key=value ...`"""

    def __init__(self, worker: str | None = None) -> None:
        super().__init__()
        self._said = {"worker": worker} if worker is not None else {}

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
        fields = {**(getattr(record, "fields", None) or {}), **self._said}
        line = as_text(moment, record.levelname.lower(), record.getMessage(), fields)
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def __init__(self, worker: str | None = None) -> None:
        super().__init__()
        self._said = {"worker": worker} if worker is not None else {}

    def format(self, record: logging.LogRecord) -> str:
        fields = {**(getattr(record, "fields", None) or {}), **self._said}
        entry = as_entry(record.created, record.levelname, record.name, record.getMessage(), fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(entry, default=str).decode()
        except TypeError:  # half a surrogate pair, which UTF-8 cannot say
            return json.dumps(entry, default=str)


def as_text(moment: str, level: str, message: str, fields: Mapping[str, object]) -> str:
    """A line for people."""
    said = [f"{name}={_plain(value)}" for name, value in fields.items() if value is not None]
    return " ".join([moment, f"{level:7}", message, *said])


def as_entry(created: float, level: str, logger: str, message: str, fields: Mapping[str, object]) -> dict[str, object]:
    """A line for programs. `created` in seconds since 1970."""
    time = datetime.fromtimestamp(created, UTC).isoformat()
    return {"time": time, "level": level.lower(), "logger": logger, "message": message, **fields}


class CallLog:
    """An observer: one line a call, at info; at warning when the provider or we are to blame. `price` says what it
    cost.
    """

    def __init__(self, price: Price | None = None) -> None:
        self._price = price

    def __call__(self, record: Record) -> None:
        level = level_of(record)
        if not _calls.isEnabledFor(level):
            return
        # As Logger.log does, without looking for the line of code it is called from.
        line = logging.LogRecord(_calls.name, level, "", 0, record.operation.value, None, None)
        line.__dict__["fields"] = fields_of(record, self._price)
        _calls.handle(line)


def level_of(record: Record) -> int:
    """How much a call is an operator's business."""
    return logging.WARNING if record.failures or record.source in ("provider", "gateway") else logging.INFO


def fields_of(record: Record, price: Price | None = None) -> dict[str, object]:
    """What is told of a call; what is not known is left out."""
    summary = record.summary
    fields = {
        "id": record.id,
        "trace_id": f"{record.trace.id:032x}" if record.trace is not None else None,
        "status": record.status,
        "error": record.error,
        "source": record.source,
        "stream": record.stream or None,
        "model": record.model,
        "target": f"{record.provider}/{record.target_model}" if record.provider else None,
        "response_id": summary.response_id,
        "cache": record.cache if record.cache != "none" else None,
        "key": record.caller,
        "attempts": record.attempts,
        "failed": ",".join(f"{target}:{code}" for target, code in record.failures) or None,
        "ms": round(record.duration * 1000, 1),
        "gateway_ms": round(record.head * 1000, 2) if record.head is not None else None,
        "upstream_ms": round(record.waited * 1000, 1) if record.waited else None,
        "first_token_ms": round(record.first_token * 1000, 1) if record.first_token is not None else None,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "cached_tokens": summary.cached_tokens,
        "cost_usd": price(record) if price is not None else None,
        "finish": summary.finish_reason,
    }
    return {
        name: value[:_LONGEST] if type(value) is str else value for name, value in fields.items() if value is not None
    }


def _plain(value: object) -> str:
    text = str(value)
    if type(value) is not str:
        return text
    return text if _HARMLESS.fullmatch(text) else repr(text)
