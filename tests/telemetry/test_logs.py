"""Log lines: one a call, that nobody can forge and that hold no contents."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import orjson
import pytest

from runestone.core.call import Operation
from runestone.core.record import Record
from runestone.core.summary import Summary
from runestone.core.trace import begin_trace
from runestone.telemetry.logs import CallLog, JsonFormatter, TextFormatter, set_up

RECORD = Record(
    id="req-1",
    operation=Operation.CHAT,
    stream=True,
    model="fast",
    provider="openai",
    target_model="gpt-4o-mini",
    caller="team",
    status=200,
    error=None,
    source=None,
    attempts=1,
    failures=(),
    duration=1.5,
    waited=1.0,
    head=0.00123,
    first_token=0.3,
    summary=Summary(input_tokens=10, output_tokens=4, finish_reason="stop"),
)
FREE_TEXTS = [
    "x\nstatus=200",
    "x\r\n00:00:00.000 info    chat/completions id=forged",
    "x status=200",
    'x" status="200',
    "x\x1b[2Jy",
    "x\x00y",
    "x\u2028y",
    "x\x85y",
    "x\u202ey",
    "日本",
    "' or 1",
    "'x",
    "x' finish='y",
    "x\\",
    "x=y",
]


# A value is a quoted text or has no blanks.
FIELD = r""" (\w+)=(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^ '"]*)(?= |$)"""
LINE = re.compile(rf"[\d-]{{10}}T\d\d:\d\d:\d\d\.\d\d\dZ info    chat/completions((?:{FIELD.replace('(', '(?:', 1)})*)")
NAMES = ["stream", "model", "target", "key", "attempts", "ms", "gateway_ms", "upstream_ms", "first_token_ms"]
NAMES += ["input_tokens", "output_tokens", "finish"]


def with_text(field: str, free: str) -> Record:
    if field == "finish":
        return RECORD._replace(summary=replace(RECORD.summary, finish_reason=free))
    return RECORD._replace(**{field: free})


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "runestone"):
        yield caplog


def text(lines: pytest.LogCaptureFixture) -> str:
    (record,) = lines.records
    return TextFormatter().format(record)


def test_a_call_is_one_line(lines: pytest.LogCaptureFixture) -> None:
    """Time, level, what was asked, and the fields that are known, in a fixed order."""
    CallLog()(RECORD)
    line = text(lines)
    assert line.split(" ", 1)[1] == (
        "info    chat/completions id=req-1 status=200 stream=True model=fast target=openai/gpt-4o-mini key=team "
        "attempts=1 ms=1500.0 gateway_ms=1.23 upstream_ms=1000.0 first_token_ms=300.0 input_tokens=10 output_tokens=4 "
        "finish=stop"
    )


def test_what_is_not_known_is_left_out(lines: pytest.LogCaptureFixture) -> None:
    """A call that reached nobody has no target, tokens or first token."""
    CallLog()(
        RECORD._replace(
            stream=False,
            provider=None,
            target_model=None,
            status=404,
            error="model_not_found",
            source="client",
            waited=0.0,
            head=None,
            first_token=None,
            summary=Summary(),
        )
    )
    assert text(lines).endswith(
        "id=req-1 status=404 error=model_not_found source=client model=fast key=team attempts=1 ms=1500.0"
    )


@pytest.mark.parametrize(
    ("source", "level"),
    [
        (None, logging.INFO),
        ("client", logging.INFO),
        ("policy", logging.INFO),
        ("provider", logging.WARNING),
        ("gateway", logging.WARNING),
    ],
)
def test_who_is_to_blame_makes_the_level(source: str | None, level: int, lines: pytest.LogCaptureFixture) -> None:
    """What an operator can mend, or must know, is a warning."""
    CallLog()(RECORD._replace(source=source))
    assert lines.records[0].levelno == level


def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Above info, calls that went well are not written; the others are."""
    with caplog.at_level(logging.WARNING, "runestone"):
        CallLog()(RECORD)
        CallLog()(RECORD._replace(source="provider"))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("free", FREE_TEXTS, ids=ascii)
@pytest.mark.parametrize("field", ["id", "model", "target_model", "error", "finish"])
def test_free_text_cannot_forge_a_line(field: str, free: str, lines: pytest.LogCaptureFixture) -> None:
    """Whatever a client or a provider chose, it is one line with the same fields, and nothing that a terminal obeys."""
    CallLog()(with_text(field, free))
    line = text(lines)
    assert line.isprintable()
    fields = LINE.fullmatch(line)
    assert fields, line
    error = ["error"] if field == "error" else []
    assert re.findall(FIELD, fields[1]) == ["id", "status", *error, *NAMES]


@pytest.mark.parametrize("free", FREE_TEXTS, ids=ascii)
def test_free_text_stays_inside_its_json_field(free: str, lines: pytest.LogCaptureFixture) -> None:
    """One object, one line, and the text is the field's value."""
    CallLog()(RECORD._replace(model=free))
    line = JsonFormatter().format(lines.records[0])
    assert "\n" not in line
    assert json.loads(line)["model"] == free


def test_a_field_cannot_take_the_place_of_another(lines: pytest.LogCaptureFixture) -> None:
    """As JSON, the call's own fields stand beside time, level, logger and message."""
    CallLog()(RECORD)
    entry = orjson.loads(JsonFormatter().format(lines.records[0]))
    assert (entry["level"], entry["logger"], entry["message"]) == ("info", "runestone.calls", "chat/completions")
    assert (entry["status"], entry["ms"], entry["input_tokens"]) == (200, 1500.0, 10)


@pytest.mark.parametrize("field", ["model", "target_model", "error", "finish"])
def test_long_text_is_cut(field: str, lines: pytest.LogCaptureFixture) -> None:
    """A name of a megabyte does not make a line of a megabyte."""
    long = "x" * 1_000_000
    CallLog()(with_text(field, long))
    assert len(text(lines)) < 2_000
    assert len(JsonFormatter().format(lines.records[0])) < 2_000


def failure() -> logging.LogRecord:
    try:
        int("deep down")
    except ValueError:
        return logging.LogRecord("runestone.x", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())


def test_a_traceback_is_told() -> None:
    """Behind the line as text, inside the object as JSON."""
    assert TextFormatter().format(failure()).endswith("'deep down'")
    entry = orjson.loads(JsonFormatter().format(failure()))
    assert entry["message"] == "it failed"
    assert entry["exception"].endswith("'deep down'")


def test_half_a_surrogate_pair_is_no_reason_to_lose_a_line(lines: pytest.LogCaptureFixture) -> None:
    """Every text that Python can hold becomes JSON."""
    CallLog()(RECORD._replace(model="\ud800"))
    assert json.loads(JsonFormatter().format(lines.records[0]))["model"] == "\ud800"


def test_what_a_call_cost_is_told(lines: pytest.LogCaptureFixture) -> None:
    """By whoever knows prices; a call whose price is not known has none."""
    CallLog(lambda record: 0.00025 if record.provider == "openai" else None)(RECORD)
    assert " cost_usd=0.00025 " in text(lines)
    lines.clear()
    CallLog(lambda record: None)(RECORD)
    assert "cost" not in text(lines)


def test_a_line_finds_its_trace_and_the_providers_own_record(lines: pytest.LogCaptureFixture) -> None:
    """The ids by which a call is found elsewhere."""
    trace = begin_trace("llm.request", None, lambda bits: 0xABC, 0)
    CallLog()(RECORD._replace(trace=trace, summary=replace(RECORD.summary, response_id="chatcmpl-1", cached_tokens=3)))
    line = text(lines)
    assert f"trace_id={0xABC:032x} " in line
    assert "response_id=chatcmpl-1 " in line
    assert "cached_tokens=3 " in line


@contextmanager
def restored() -> Iterator[None]:
    """What set_up changes of logging is as it was afterwards."""
    root, package = logging.getLogger(), logging.getLogger("runestone")
    handlers, levels = root.handlers[:], (root.level, package.level)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        package.setLevel(levels[1])


@pytest.mark.parametrize(("form", "first"), [("text", "0123456789"), ("json", "{")])
def test_set_up_writes_to_stderr(form: Literal["text", "json"], first: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The package from the level asked for, libraries from warning on; nothing on stdout."""
    with restored(), set_up("debug", form):
        logging.getLogger("runestone").debug("ours")
        logging.getLogger("library").info("theirs")
        logging.getLogger("library").warning("theirs, important")
    out, err = capfd.readouterr()
    assert out == ""
    ours, theirs = err.splitlines()
    assert ours[0] in first
    assert "ours" in ours
    assert "important" in theirs
