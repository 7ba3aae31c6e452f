"""The answers of the cache in a file, from one run to the next.

Rules: an answer comes back exactly as it was, or not at all; a file that cannot be used costs its answers and one line
of the log, never the start or the end of the server. In memory times are those of a clock that never steps, in the
file Unix seconds. A wall clock that stepped back between two runs lets no answer live longer than it had left.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, time

from runestone.core.answer import Answer, Form
from runestone.core.cache import OVERHEAD, Cache, Entry
from runestone.core.call import Operation, Target
from runestone.core.summary import Summary
from runestone.stores import sqlite
from runestone.stores.sqlite import Row, Unusable

Kept = tuple[bytes, Entry[Answer]]

AT_ONCE = 50
"""Answers that are written down before others have their turn."""

_log = logging.getLogger("runestone.cache")


class AnswersFile:
    """A file for what `answers` hold; at most `max_size` of them come back, of together at most `max_bytes`."""

    def __init__(self, path: Path, answers: Cache[Answer], *, max_size: int, max_bytes: int) -> None:
        self._path = path
        self._answers = answers
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._is_ours = True
        """Whether the file may be written: one that could be neither read nor moved aside is somebody's."""

    async def load(self) -> None:
        """Puts what the file holds, and is not over, into the cache."""
        entries = await asyncio.to_thread(self._read, perf_counter(), time())
        now = perf_counter()
        for key, entry in entries:
            self._answers.put(key, entry, now)
        if entries:
            _log.debug("answers back from %s: %d", self._path, len(entries))

    async def save(self) -> None:
        """Puts the answers in place of the file, each as it is when its turn comes: calls may run meanwhile."""
        if not self._is_ours:
            return
        entries = list(self._answers.items())
        rows: list[Row] = []
        for at in range(0, len(entries), AT_ONCE):
            rows += rows_of(entries[at : at + AT_ONCE], perf_counter(), time())
            await asyncio.sleep(0)
        try:
            count = await asyncio.to_thread(sqlite.save, self._path, rows)
        except OSError as error:
            _log.warning("the answers could not be kept in %s: %s", self._path, error.strerror or error)
        else:
            _log.info("answers kept in %s: %d", self._path, count)

    def _read(self, now: float, wall: float) -> list[Kept]:
        try:
            rows = sqlite.load(
                self._path, now=wall, max_size=self._max_size, max_cost=self._max_bytes, overhead=OVERHEAD
            )
            return [entry_of(row, now, wall) for row in rows][::-1]
        except OSError as error:
            self._is_ours = False
            reason = error.strerror or error
            _log.warning("%s cannot be read: %s; the cache begins empty, and is not kept there", self._path, reason)
        except Unusable as error:
            try:
                where = f"is now {sqlite.set_aside(self._path).name}"
            except OSError as failure:
                self._is_ours = False
                where = f"cannot be moved aside ({failure.strerror}), so nothing is kept there"
            _log.warning("%s cannot be used: %s; the cache begins empty, and the file %s", self._path, error, where)
        return []


def rows_of(entries: Iterable[Kept], now: float, wall: float) -> Iterator[Row]:
    """What is not over at `now`, as rows; `wall` is the same moment in Unix time."""
    shift = wall - now
    for key, entry in entries:
        if entry.gone > now:
            answer = entry.value
            about = {
                "operation": answer.operation,
                "forms": [[form, len(sent)] for form, sent in answer.forms.items()],
                "summary": asdict(answer.summary),
                "target": [answer.target.provider, answer.target.model] if answer.target is not None else None,
                "pace": answer.pace,
                "owner": entry.owner,
                "model": entry.model,
                "tags": entry.tags,
            }
            times = (wall, entry.stored + shift, entry.expires + shift, entry.gone + shift)
            # json and not orjson: headers and providers may have sent what is no Unicode, and it is to come back too.
            yield Row(key, *times, entry.size, json.dumps(about).encode("ascii"), b"".join(answer.forms.values()))


def entry_of(row: Row, now: float, wall: float) -> Kept:
    """The answer of a row. Raises Unusable for what this program has not written."""
    passed = max(wall - row.saved, 0.0)
    shift = now - passed - row.saved
    try:
        about = json.loads(row.about)
        forms, at = {}, 0
        for form, length in about["forms"]:
            forms[Form(form)] = row.body[at : at + length]
            at += length
        target = about["target"]
        answer = Answer(
            Operation(about["operation"]),
            forms,
            Summary(**about["summary"]),
            Target(*target) if target is not None else None,
            tuple((seconds, end) for seconds, end in about["pace"]),
        )
        entry = Entry(
            answer,
            size=row.size,
            stored=row.stored + shift,
            expires=row.expires + shift,
            gone=row.gone + shift,
            owner=about["owner"],
            model=about["model"],
            tags=tuple(about["tags"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unusable(f"a row says what is not understood ({error.__class__.__name__})") from None
    if at != len(row.body):
        raise Unusable("a row is shorter or longer than it says")
    return row.key, entry
