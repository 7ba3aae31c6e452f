"""Log lines on their way to stderr: a bounded queue, and a thread that empties it.

    who logs      formats its line, appends it, goes on; where there is no room the line is dropped and counted
    the thread    takes what has gathered and writes it at once; says how many lines are missing, where they are missing

Whoever reads stderr may stop (a full pipe), and a disk may be slow: then the thread waits, and nobody else.
Rules: nothing here waits but the thread; `close` waits for it, but not for ever.
Deliberately absent: the logging library's QueueListener: it writes line by line, each time taking the interpreter from
the loop, and its `stop` would wait for ever for a pipe that nobody reads.
"""

from __future__ import annotations

import logging
import os
import select
from collections import deque
from collections.abc import Callable
from logging.handlers import QueueHandler
from threading import Event, Thread
from types import TracebackType

GATHER = 0.02
"""Seconds lines wait for others to be written with."""
LAST_WORDS = 2.0
"""Seconds the lines that are left have at the end."""
LONGEST = 64 * 1024
"""Bytes of a line."""
TRACEBACK = 8 * 1024
"""Bytes that a traceback is taken for until it is written: making it reads files, so the thread does that."""

Format = Callable[[logging.LogRecord], str]
Line = bytes | logging.LogRecord | None
"""As it is written, or what the thread makes one of; None where lines are missing."""


class Lines:
    """The queue: at most `most` bytes, those that are being written too. `refused` lines found no room."""

    def __init__(self, most: int) -> None:
        self.refused = 0
        self._most = most
        self._lines: deque[Line] = deque()
        # Each is written by one side alone: those who log, who hold the handler's lock, and the thread.
        self._came = self._went = 0
        self._marked = 0
        self._is_closed = False
        self._news = Event()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._came - self._went

    def put(self, line: Line) -> None:
        """Appends a line, or drops it."""
        size = _size(line)
        if self.waiting + size > self._most or self._is_closed:
            self.refused += 1
            return
        if self.refused != self._marked:
            self._marked = self.refused
            self._lines.append(None)
        self._came += size
        self._lines.append(line)
        if not self._news.is_set():
            self._news.set()

    def take(self, ending: Event) -> list[Line]:
        """What has gathered. Waits until there is something, and for more to come, unless it is `ending`."""
        if not ending.is_set():
            self._news.wait()
            ending.wait(GATHER)
        self._news.clear()
        return [self._lines.popleft() for _ in range(len(self._lines))]

    def went(self, lines: list[Line]) -> None:
        """These were taken, and are written or lost: there is room."""
        self._went += sum(map(_size, lines))

    def close(self) -> None:
        """Takes nothing more, and wakes who waits."""
        self._is_closed = True
        self._news.set()


class Queued(QueueHandler):
    """A handler, and the thread behind it, which writes to the descriptor `file` what `form` makes of records. At most
    `most` bytes wait. Open until `close`.
    """

    def __init__(self, form: Format, file: int, most: int) -> None:
        self.lines = Lines(most)
        super().__init__(self.lines)  # type: ignore[arg-type]  # all it does with a queue is in `enqueue`
        self._form = form
        self._file = file
        self._ending = Event()
        self._lost = 0
        self._told = 0
        self._thread = Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Queued:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Lines that found no room, or could not be made or written."""
        return self.lines.refused + self._lost

    def prepare(self, record: logging.LogRecord) -> Line:
        """See QueueHandler."""
        if record.exc_info:
            record.msg, record.args = record.getMessage(), None
            return record
        return _bytes(self._form(record))

    def enqueue(self, record: Line) -> None:
        """See QueueHandler."""
        self.lines.put(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """A line that cannot be made is lost; logging itself would write to stderr here, and wait."""
        self.lines.refused += 1

    def say(self, text: str) -> None:
        """A line as it is, in its turn among the others."""
        self.lines.put(_bytes(text))

    def close(self) -> None:
        """Writes what is left, if somebody takes it in time; what is logged later is dropped."""
        self._ending.set()
        self.lines.close()
        self._thread.join(LAST_WORDS)
        super().close()

    def _write_all(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ending.is_set()
            lines = self.lines.take(self._ending)
            gaps = [at for at, line in enumerate(lines) if line is None]
            for begin, end in zip([0, *gaps], [*gaps, len(lines)], strict=True):
                if begin < end and lines[begin] is None:
                    self._tell_missing()
                self._write(lines[begin:end])
            if not self.lines.waiting:
                self._tell_missing()

    def _write(self, lines: list[Line]) -> None:
        made = [line if isinstance(line, bytes) else _bytes(self._form(line)) for line in lines if line is not None]
        if made and not self._push(b"".join(made)):
            self._lost += len(made)
        self.lines.went(lines)

    def _tell_missing(self) -> None:
        dropped = self.dropped
        if dropped == self._told:
            return
        text = "log lines are missing here: they were not taken in time"
        record = logging.LogRecord("runestone.log", logging.WARNING, "", 0, text, None, None)
        record.__dict__["fields"] = {"lines": dropped - self._told}
        if self._push(_bytes(self._form(record))):
            self._told = dropped

    def _push(self, data: bytes) -> bool:
        """Whether it was written, whole."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:  # somebody who shares the terminal has made it so
                select.select([], [self._file], [], 1.0)
                if self._ending.is_set():
                    return False
            except OSError:  # nobody there any more, or no room on the disk
                return False
        return True


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")[:LONGEST] + b"\n"


def _size(line: Line) -> int:
    if isinstance(line, bytes):
        return len(line)
    return TRACEBACK if line is not None else 0


def dropped_lines() -> int:
    """Lines this process could not write: its log is where the logging library keeps it."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, Queued))
