"""Logs: one line for every call, as text or JSON, on stderr.

Rule: ids, names, counts and times; never contents, never keys. What a client can choose freely (ids, model names) is
quoted so that it cannot forge a line.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

import orjson

from runestone.core.record import Record

_HARMLESS = re.compile(r"[A-Za-z0-9_./:@+*-]+")
_LONGEST = 300
"""Characters of one value."""

_calls = logging.getLogger("runestone.calls")


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Sends the package's logs, and warnings of the libraries, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("runestone").setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """`time level message key=value ...`"""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}"
        fields = getattr(record, "fields", None)
        if fields:
            line += " " + " ".join(f"{name}={_plain(value)}" for name, value in fields.items() if value is not None)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(getattr(record, "fields", None) or {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


class CallLog:
    """An observer: one line a call, at info; at warning when the provider or we are to blame."""

    def __call__(self, record: Record) -> None:
        level = logging.WARNING if record.failures or record.source in ("provider", "gateway") else logging.INFO
        if not _calls.isEnabledFor(level):
            return
        fields = {
            "id": record.id,
            "status": record.status,
            "error": record.error,
            "stream": record.stream or None,
            "model": record.model,
            "target": f"{record.provider}/{record.target_model}" if record.provider else None,
            "cache": record.cache if record.cache != "none" else None,
            "key": record.caller,
            "attempts": record.attempts,
            "failed": ",".join(f"{target}:{code}" for target, code in record.failures) or None,
            "ms": round(record.duration * 1000, 1),
            "gateway_ms": round(record.head * 1000, 2) if record.head is not None else None,
            "first_token_ms": round(record.first_token * 1000, 1) if record.first_token is not None else None,
            "input_tokens": record.summary.input_tokens,
            "output_tokens": record.summary.output_tokens,
            "finish": record.summary.finish_reason,
        }
        short = {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in fields.items()}
        _calls.log(level, record.operation.value, extra={"fields": short})


def _plain(value: object) -> str:
    text = str(value)
    return text if _HARMLESS.fullmatch(text) else repr(text)
