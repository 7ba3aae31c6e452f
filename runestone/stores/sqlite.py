"""Rows in an SQLite file: written whole, beside the old file and then in its place; read newest first, up to a bound.

Rules: a row is believed only with its digest, because SQLite does not notice a changed byte inside a value. What
cannot be believed is Unusable as a whole. Blocking; times are Unix seconds.
Deliberately absent: what a row means (stores/answers.py), changing a file in place, journals: a file is there or not.
"""

from __future__ import annotations

import math
import os
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import mkstemp

FORMAT = 1
"""Of the table and of what stands in it (`PRAGMA user_version`); a file of another one is not read."""
APPLICATION = 0x52554E45
"""`PRAGMA application_id`: the file is ours."""

ABANDONED = 3600.0
"""Seconds after which a temporary file belongs to nobody: whoever wrote it was killed."""

_TEMPORARY = ".tmp"
_TABLE = """CREATE TABLE rows (
    place INTEGER PRIMARY KEY,  -- greater: more recently used
    key BLOB, saved REAL, stored REAL, expires REAL, gone REAL, size INTEGER, about BLOB, body BLOB, digest BLOB
)"""
_INSERT = "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NEWEST_FIRST = """SELECT place, key, saved, stored, expires, gone, size, about, body, digest FROM rows
    WHERE gone > ? AND size <= ? ORDER BY place DESC LIMIT ?"""
_TYPES = (int, bytes, float, float, float, float, int, bytes, bytes, bytes)


class Unusable(Exception):
    """The file is damaged, not ours, or of another format; the message says which."""


@dataclass(frozen=True, slots=True)
class Row:
    """`saved` is when the row was written, `size` what it costs in memory, `about` and `body` the owner's own."""

    key: bytes
    saved: float
    stored: float
    expires: float
    gone: float
    size: int
    about: bytes
    body: bytes

    def digest(self) -> bytes:
        """Over everything."""
        numbers = (self.saved, self.stored, self.expires, self.gone, self.size, len(self.key), len(self.about))
        seen = blake2b(struct.pack("<4d3q", *numbers), digest_size=16)
        for part in (self.key, self.about, self.body):
            seen.update(part)
        return seen.digest()


def save(path: Path, rows: Iterable[Row]) -> int:
    """Puts `rows`, least recently used first, in place of what is at `path`; how many it were.

    Readable by the owner alone. Raises OSError, and then the old file is as it was.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    _remove_abandoned(path)
    descriptor, name = mkstemp(prefix=f"{path.name}.", suffix=_TEMPORARY, dir=path.parent)  # mode 0600
    try:
        try:
            count = _write(name, rows)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(path.parent)
    return count


def load(path: Path, *, now: float, max_size: int, max_cost: int, overhead: int = 0) -> Iterator[Row]:
    """The rows of the file, most recently used first: at most `max_size`, costing `size + overhead` each and
    `max_cost` together; not those that are gone at `now`. Without a file there are none.

    Raises Unusable, also in the middle; OSError when the file cannot be read.
    """
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return
    cost = 0
    try:
        # Nobody changes a file that is in place, so it needs no locks, and no journal beside it is looked at.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            _check(connection)
            last = math.inf
            for values in connection.execute(_NEWEST_FIRST, (now, max_cost - overhead, max_size)):
                row = _row(values)
                if values[0] >= last:
                    raise Unusable("its rows are not in their order")
                last = values[0]
                cost += row.size + overhead
                if cost > max_cost:
                    return
                yield row
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's own messages may hold what it has found
        raise Unusable(ascii(str(error))[1:-1][:200]) from None


def set_aside(path: Path) -> Path:
    """Moves a file out of the way, for whoever wants to look at it; the new name. Raises OSError."""
    path = Path(os.path.realpath(path))
    aside = path.with_name(f"{path.name}.corrupt")
    os.replace(path, aside)
    return aside


def _write(name: str, rows: Iterable[Row]) -> int:
    count = 0
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as connection:
            # Nobody reads this file before it is whole, so what makes SQLite safe against a crash is not needed.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("BEGIN")
            connection.execute(_TABLE)
            for row in rows:
                count += 1
                times = (row.saved, row.stored, row.expires, row.gone)
                connection.execute(_INSERT, (count, row.key, *times, row.size, row.about, row.body, row.digest()))
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise OSError(str(error)) from None
    return count


def _check(connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise Unusable("it is another program's")
    if version != FORMAT:
        raise Unusable(f"it is of format {version}, and this program writes {FORMAT}")


def _row(values: tuple[object, ...]) -> Row:
    _, *contents, digest = values
    if any(type(value) is not kind for value, kind in zip(values, _TYPES, strict=True)):
        raise Unusable("a row holds what was never written")
    row = Row(*contents)  # type: ignore[arg-type]
    if row.digest() != digest:
        raise Unusable("a row is not what was written")
    return row


def _remove_abandoned(path: Path) -> None:
    """Takes away what saves left behind that were killed."""
    for other in path.parent.iterdir():
        if other.name.startswith(f"{path.name}.") and other.name.endswith(_TEMPORARY):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > ABANDONED:
                    other.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes the new name last; some file systems cannot, and then it lasts a little later."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
