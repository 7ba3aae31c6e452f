"""`runestone tail`: the calls of a gateway as they end, as its log would write them."""

from __future__ import annotations

import json
from typing import TextIO

from runestone.console.remote import LookFailed, Remote, shown
from runestone.telemetry.logs import as_text

_ABOUT = ("time", "level", "logger", "message")


def tail(remote: Remote, out: TextIO, err: TextIO, *, as_json: bool) -> None:
    """Writes a line a call to `out` until interrupted. Raises LookFailed when the gateway ends it, or cannot be asked.

    What came too fast to be written is counted: as text to `err`, as JSON in a line of its own.
    """
    for event, data in remote.follow("/admin/tail"):
        if as_json:
            out.write(data + "\n")
        elif event == "missed":
            err.write(f"runestone: calls are missing here, more than this terminal takes: {_count(data)}\n")
        else:
            out.write(_line(data) + "\n")
        out.flush()
    raise LookFailed(f"{remote.name} has ended the connection")


def _line(data: str) -> str:
    try:
        entry = json.loads(data)
        moment, level, _, message = (str(entry.pop(name)) for name in _ABOUT)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LookFailed("what came is no record of a call") from None
    moment = moment.partition("+")[0][: len("2026-01-01T00:00:00.000")] + "Z"
    return as_text(shown(moment), shown(level), shown(message), entry)


def _count(data: str) -> str:
    try:
        return str(int(json.loads(data)["missed"]))
    except (ValueError, KeyError, TypeError):
        return "some"
