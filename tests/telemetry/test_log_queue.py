"""The way of a log line to stderr: who logs never waits, and what is missing is said where it is missing."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from runestone.telemetry.log_queue import LAST_WORDS, LONGEST, TRACEBACK, Queued, dropped_lines

SMALL = 4096
MISSING = re.compile(r"log lines are missing here: they were not taken in time (\d+)")


def form(record: logging.LogRecord) -> str:
    text = record.getMessage()
    fields = getattr(record, "fields", None)
    return text + "".join(f" {value}" for value in fields.values()) if fields else text


class Pipe:
    """A pipe of one page. `read` takes all there is, `until` reads to a pattern."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, SMALL)
        self.text = ""

    def fill(self) -> None:
        os.write(self.into, b"#" * (SMALL - 1) + b"\n")

    def until(self, pattern: str, seconds: float = 5.0) -> str:
        deadline = time.monotonic() + seconds
        os.set_blocking(self.out, False)
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern} did not come: {self.text[-500:]}"
            try:
                self.text += os.read(self.out, 65536).decode()
            except BlockingIOError:
                time.sleep(0.001)
        return self.text

    def rest(self) -> str:
        """All that comes to the end; nobody holds the other end any more."""
        os.close(self.into)
        os.set_blocking(self.out, True)
        while data := os.read(self.out, 65536):
            self.text += data.decode()
        return self.text

    def close(self) -> None:
        for file in (self.out, self.into):
            with suppress(OSError):  # a test may have closed it
                os.close(file)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    opened = Pipe()
    yield opened
    opened.close()


def logger_of(queued: Queued) -> logging.Logger:
    """A logger that nobody else has."""
    logger = logging.Logger("test")  # noqa: LOG001
    logger.addHandler(queued)
    return logger


@contextmanager
def logging_to(queued: Queued) -> Iterator[logging.Logger]:
    with queued:
        yield logger_of(queued)


def filled(pipe: Pipe, log: logging.Logger, queued: Queued) -> int:
    """Logs until a line is dropped; how many were not."""
    count = 0
    while not queued.dropped:
        log.warning("line %d", count)
        count += 1
    return count - 1


def test_lines_come_in_order_and_the_last_ones_at_the_end(pipe: Pipe) -> None:
    """Closing writes what is left."""
    with logging_to(Queued(form, pipe.into, 1_000_000)) as log:
        for number in range(100):
            log.warning("line %d", number)
    assert pipe.rest().splitlines() == [f"line {number}" for number in range(100)]


def test_who_logs_does_not_wait_for_a_full_pipe(pipe: Pipe) -> None:
    """Nobody reads: a hundred thousand lines are logged all the same, what waits is bounded, the rest is counted."""
    pipe.fill()
    queued = Queued(form, pipe.into, 10_000)
    done = threading.Event()
    with logging_to(queued) as log:

        def many() -> None:
            for _ in range(100_000):
                log.warning("x" * 99)
            done.set()

        threading.Thread(target=many, daemon=True).start()
        assert done.wait(30)
        assert queued.lines.waiting <= 10_000
        assert queued.dropped == 100_000 - 100
        pipe.until("x{99}\n.*missing")


def test_what_is_missing_is_said_where_it_is_missing(pipe: Pipe) -> None:
    """Lines before the gap, how many are missing, lines after it."""
    pipe.fill()
    queued = Queued(form, pipe.into, 2_000)
    with logging_to(queued) as log:
        kept = filled(pipe, log, queued)
        log.warning("this too")
        pipe.until("missing")
        log.warning("later")
        text = pipe.until("later")
    lines = text.splitlines()[1:]
    assert lines[:kept] == [f"line {number}" for number in range(kept)]
    assert MISSING.fullmatch(lines[kept])[1] == "2"  # type: ignore[index]
    assert lines[kept + 1 :] == ["later"]


def test_a_gap_that_nothing_follows_is_said_too(pipe: Pipe) -> None:
    """As soon as somebody reads again, without another line."""
    pipe.fill()
    queued = Queued(form, pipe.into, 2_000)
    with logging_to(queued) as log:
        filled(pipe, log, queued)
        assert pipe.until("missing").splitlines()[-1].endswith(" 1")


def test_a_full_pipe_does_not_hold_the_end_up(pipe: Pipe) -> None:
    """Closing gives the reader its time, and goes."""
    pipe.fill()
    queued = Queued(form, pipe.into, 10_000)
    logger_of(queued).warning("nobody reads this")
    before = time.monotonic()
    queued.close()
    assert LAST_WORDS - 0.1 < time.monotonic() - before < LAST_WORDS + 2
    pipe.until("nobody reads this")  # so that its thread ends with the test
    queued._thread.join(5)


def test_an_end_with_nothing_in_its_way_is_quick(pipe: Pipe) -> None:
    """Whatever the thread is doing just then: waiting, gathering, writing."""
    for pause in (0.0, 0.001, 0.005, 0.01, 0.019, 0.02, 0.021, 0.03):
        queued = Queued(form, pipe.into, 10_000)
        logger_of(queued).warning("a line")
        time.sleep(pause)
        before = time.monotonic()
        queued.close()
        assert time.monotonic() - before < LAST_WORDS / 2
    assert pipe.rest() == "a line\n" * 8


def test_what_is_logged_after_the_end_is_dropped(pipe: Pipe) -> None:
    """Nobody would write it."""
    queued = Queued(form, pipe.into, 10_000)
    with logging_to(queued) as log:
        log.warning("in time")
    log.warning("late")
    assert (pipe.rest(), queued.dropped) == ("in time\n", 1)


def test_a_reader_that_has_gone_costs_lines_only(pipe: Pipe) -> None:
    """EPIPE is counted, and nothing is raised or printed."""
    os.close(pipe.out)
    queued = Queued(form, pipe.into, 10_000)
    with logging_to(queued) as log:
        log.warning("for nobody")
    assert queued.dropped == 1
    assert queued.lines.waiting == 0


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    """Whoever shares a terminal may have set it so: lines are not lost by that."""
    os.set_blocking(pipe.into, False)
    pipe.fill()
    queued = Queued(form, pipe.into, 1_000_000)
    with logging_to(queued) as log:
        for number in range(1000):
            log.warning("line %d", number)
        pipe.until("line 999\n", 10)
    assert queued.dropped == 0


def test_a_line_that_cannot_be_made_is_lost_and_counted(pipe: Pipe, capfd: pytest.CaptureFixture[str]) -> None:
    """Logging's own way is to print a traceback to stderr, and wait for it."""
    queued = Queued(form, pipe.into, 10_000)
    with logging_to(queued) as log:
        log.warning("%d", "no number")
        log.warning("good")
        missing, good = pipe.until("good\n").splitlines()
    assert (MISSING.fullmatch(missing)[1], good) == ("1", "good")  # type: ignore[index]
    assert queued.dropped == 1
    assert capfd.readouterr().err == ""


def test_a_traceback_is_made_by_the_thread(pipe: Pipe) -> None:
    """Making one reads source files, which the loop must not wait for."""
    makers: list[str] = []

    def noted(record: logging.LogRecord) -> str:
        makers.append(threading.current_thread().name)
        return form(record) + (logging.Formatter().formatException(record.exc_info) if record.exc_info else "")

    with logging_to(Queued(noted, pipe.into, TRACEBACK)) as log:
        try:
            int("deep down")
        except ValueError:
            log.exception("it %s:", "failed")
        assert "it failed:Traceback" in pipe.until("'deep down'\n")
    assert makers == ["log"]


def test_a_line_has_an_end(pipe: Pipe) -> None:
    """What is written of a line is bounded, whatever is in it."""
    with logging_to(Queued(form, pipe.into, 1_000_000)) as log:
        log.warning("x" * (2 * LONGEST))
        assert len(pipe.until("x\n")) == LONGEST + 1


@pytest.mark.parametrize("text", ["\ud800", "日本", "\x00"])
def test_any_text_can_be_written(text: str, pipe: Pipe) -> None:
    """Half a surrogate pair is no reason to lose a line."""
    with logging_to(Queued(form, pipe.into, 10_000)) as log:
        log.warning("so: %s", text)
        assert pipe.until("so: .+\n")


def test_the_process_knows_its_own_log(pipe: Pipe) -> None:
    """What metrics and /admin/state say is what the root logger's handler counts."""
    queued = Queued(form, pipe.into, 0)
    root = logging.getLogger()
    with queued:
        root.addHandler(queued)
        try:
            logging.getLogger("runestone.test").error("no room")
            assert dropped_lines() == 1
        finally:
            root.removeHandler(queued)
    assert dropped_lines() == 0
