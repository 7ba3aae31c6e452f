"""The strict reader: types, unknown keys and secrets, on small tables made for the purpose."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

import pytest

from runestone.config.kinds import Duration, Port, Ratio, Secret, Size
from runestone.config.reader import Faults, Reader, nearest

SECOND, BYTE, NOTHING, FIRST = Duration(1.0), Size(1), Ratio(0.0), Port(1)


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Table:
    text: str = "x"
    flag: bool = False
    count: int = 0
    limit: int | None = None
    number: float = 0.0
    wait: Duration = SECOND
    size: Size = BYTE
    share: Ratio = NOTHING
    port: Port = FIRST
    when: datetime | None = None
    mode: Literal["fast", "slow"] = "fast"
    words: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    inner: Inner = Inner(name="i")
    several: tuple[Inner, ...] = ()
    named: dict[str, Inner] | None = None


def read(value: object, environ: dict[str, str] | None = None, base: Path = Path()) -> tuple[Table | None, list[str]]:
    faults = Faults("f.toml")
    table = Reader(faults, environ or {}, base).table(Table, value, "")
    return table, faults.lines


@pytest.mark.parametrize(
    ("key", "value", "read_as"),
    [
        ("text", "hello", "hello"),
        ("flag", True, True),
        ("count", 7, 7),
        ("limit", 3, 3),
        ("number", 2, 2.0),
        ("number", 0.5, 0.5),
        ("wait", "100ms", 0.1),
        ("size", "10MB", 10_000_000),
        ("share", 1, 1.0),
        ("port", 65535, 65535),
        ("when", datetime(2027, 1, 31), datetime(2027, 1, 31, tzinfo=UTC)),  # noqa: DTZ001 - what TOML gives
        ("mode", "slow", "slow"),
        ("words", ["a", "b"], ("a", "b")),
        ("inner", {"name": "n"}, Inner(name="n")),
        ("several", [{"name": "a"}, {"name": "b", "weight": 2}], (Inner(name="a"), Inner(name="b", weight=2.0))),
        ("named", {"k": {"name": "a"}}, {"k": Inner(name="a")}),
    ],
)
def test_a_value_is_read_by_its_type(key: str, value: object, read_as: object) -> None:
    """Every type a setting can have, from what TOML gives for it."""
    table, faults = read({key: value})
    assert faults == []
    assert getattr(table, key) == read_as


def test_what_is_not_given_has_its_default() -> None:
    """An empty table is the defaults."""
    assert read({}) == (Table(), [])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("text", 1, "must be a string, not a number"),
        ("text", date(2027, 1, 1), "must be a string, not a date"),
        ("flag", 1, "must be true or false, not a number"),
        ("flag", "true", "must be true or false, not a string"),
        ("count", -1, "must be a whole number, 0 or more"),
        ("count", 1.0, "must be a whole number, 0 or more"),
        ("count", True, "must be a whole number, 0 or more"),
        ("number", float("inf"), "must be a number, 0 or more"),
        ("number", float("nan"), "must be a number, 0 or more"),
        ("number", -0.1, "must be a number, 0 or more"),
        ("number", 10**400, "must be a number, 0 or more"),
        ("wait", 30, "must be a duration with a unit"),
        ("size", 30, "must be a size with a unit"),
        ("size", "9" * 400 + "B", "must be a size"),
        ("share", 1.01, "must be a number from 0 to 1"),
        ("share", float("nan"), "must be a number from 0 to 1"),
        ("port", 65536, "must be a port, 0 to 65535"),
        ("when", "2027-01-31", "must be a date-time such as"),
        ("when", date(2027, 1, 31), "must be a date-time such as"),
        ("mode", "slwo", "must be one of 'fast', 'slow', did you mean 'slow'?"),
        ("mode", [], "must be one of 'fast', 'slow'"),
        ("words", "a", "must be a list, not a string"),
        ("inner", [], "must be a table, not a list"),
        ("named", 1, "must be a table, not a number"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_value_is_a_fault_with_its_path(key: str, value: object, message: str) -> None:
    """The line is `source:key: what is wrong`; the default stands in, so that what depends on it is checked too."""
    table, faults = read({key: value})
    whole, _ = read({})
    assert table is None or table == whole
    assert len(faults) == 1
    assert faults[0].startswith(f"f.toml:{key}: {message}")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"nmae": 1}, "nmae"),
        ({"inner": {"name": "a", "wieght": 1}}, "inner.wieght"),
        ({"several": [{"name": "a"}, {"name": "a", "wieght": 1}]}, "several[1].wieght"),
        ({"named": {"k": {"name": "a", "wieght": 1}}}, "named.k.wieght"),
    ],
)
def test_an_unknown_key_is_a_fault_at_every_level(value: object, path: str) -> None:
    """A misspelt key never passes as a default."""
    assert [line.split(",")[0] for line in read(value)[1]] == [f"f.toml:{path}: unknown key"]


def test_an_unknown_key_comes_with_the_nearest_one() -> None:
    """The line says what was probably meant; what is like nothing gets no guess."""
    assert read({"coutn": 1, "zzz": 1})[1] == [
        "f.toml:coutn: unknown key, did you mean 'count'?",
        "f.toml:zzz: unknown key",
    ]


def test_a_key_without_default_must_be_there() -> None:
    """What is missing is named by its path."""
    assert read({"several": [{}]})[1] == ["f.toml:several[0].name: is missing"]


def test_every_fault_is_listed_at_once() -> None:
    """A person mends a file once, not once for every fault."""
    _, faults = read(
        {"txt": 1, "count": "x", "inner": {"weight": -1}, "words": [1, "a", 2], "named": {"a": 1, "b": {"name": 2}}}
    )
    assert [line.split(":")[1] for line in faults] == [
        "txt",
        "count",
        "words[0]",
        "words[2]",
        "inner.name",
        "inner.weight",
        "named.a",
        "named.b.name",
    ]


def test_a_fault_is_one_line() -> None:
    """A key with a line break in its name does not break the list."""
    assert all("\n" not in line for line in read({"a\nb": 1, "inner": {"name": "n", "c\rd": 1}})[1])


@pytest.mark.parametrize(
    ("moment", "utc"),
    [
        (datetime(2027, 1, 31, 1), datetime(2027, 1, 31, 1, tzinfo=UTC)),  # noqa: DTZ001 - what TOML gives
        (datetime(2027, 1, 31, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2027, 1, 31, tzinfo=UTC)),
    ],
)
def test_a_moment_without_zone_is_utc(moment: datetime, utc: datetime) -> None:
    """It can be compared to the clock, whatever zone the server stands in."""
    table, _ = read({"when": moment})
    assert table is not None
    assert table.when == utc


def test_a_secret_of_the_environment_is_its_value_without_blanks() -> None:
    """`env:NAME` is looked up in the environment that was handed in."""
    table, faults = read({"secrets": ["env:KEY"]}, {"KEY": " s3cret\n"})
    assert faults == []
    assert table is not None
    assert table.secrets == (Secret("env:KEY", "s3cret"),)


def test_a_secret_of_a_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    """`file:PATH` is relative to the configuration's folder, or absolute; blanks around it do not count."""
    (tmp_path / "key").write_text("s3cret\n")
    table, faults = read({"secrets": ["file:key", f"file:{tmp_path}/key"]}, base=tmp_path)
    assert faults == []
    assert table is not None
    assert [secret.value for secret in table.secrets] == ["s3cret", "s3cret"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("sk-literal-0123456789", "must be a reference"),
        ("env:", "must be a reference"),
        ("file:", "must be a reference"),
        ("vault:sk-literal-0123456789", "must be a reference"),
        (10123456789, "must be a reference"),
        ("env:MISSING", "the environment variable MISSING is not set"),
        ("env:EMPTY", "the environment variable EMPTY is not set"),
        ("env:BROKEN", "has characters that no header can carry"),
        ("file:missing", "cannot be read: FileNotFoundError"),
        ("file:.", "cannot be read: IsADirectoryError"),
        ("file:empty", "the secret's file is empty"),
        ("file:binary", "cannot be read: UnicodeDecodeError"),
        ("file:two-lines", "has characters that no header can carry"),
        ("file:~nobody-of-that-name/key", "cannot be read"),
    ],
)
def test_a_secret_that_cannot_be_had_is_a_fault(written: object, message: str, tmp_path: Path) -> None:
    """The line says why, and never repeats a value: what was written there may be the secret itself."""
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "two-lines").write_text("sk-literal\n0123456789")
    _, faults = read({"secrets": [written]}, {"EMPTY": " ", "BROKEN": "sk-literal\r\n0123456789"}, tmp_path)
    assert len(faults) == 1
    assert faults[0].startswith("f.toml:secrets[0]: ")
    assert message in faults[0]
    assert "literal" not in faults[0]
    assert "0123456789" not in faults[0]


def test_a_secret_does_not_show_itself() -> None:
    """The repr of a secret has its reference only: logs and tracebacks may hold it."""
    assert "s3cret" not in repr(Secret("env:KEY", "s3cret"))


@pytest.mark.parametrize(
    ("name", "hint"), [("prot", ", did you mean 'port'?"), ("port", ", did you mean 'port'?"), ("elephant", "")]
)
def test_the_nearest_name(name: str, hint: str) -> None:
    """One guess, or none."""
    assert nearest(name, ["port", "host"]) == hint
