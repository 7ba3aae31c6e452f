"""For any bytes as a file, and any table of any values under known and unknown names: there is a Configuration, or a
ConfigurationError with at least one fault; nothing else is raised. Each fault is one line of printable signs that names
the file, and the key in it where it was readable. No fault, and nothing that is shown, holds a secret: what a reference
stands for, what was written where only a reference may stand, a header's value, a password in an address.

For any configuration that is loaded: what `render` prints is TOML, and loads to the same configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import trustme
from hypothesis import event, given
from hypothesis import strategies as st

from runestone.config.load import load
from runestone.config.reader import Faults, Reader
from runestone.config.render import render
from runestone.config.schema import Configuration
from runestone.config.units import format_duration, format_size, parse_duration, parse_size
from runestone.errors import ConfigurationError
from tests.fuzz.config_tables import CONFIGURATIONS, ENVIRON, SECRETS, TABLES
from tests.fuzz.effort import effort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the files are that a configuration may name; it is the current folder."""
    made = tmp_path_factory.mktemp("fuzz")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(made / "a.pem")
    issued.cert_chain_pems[0].write_to_path(made / "b.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(made / "both.pem")
    (made / "key").write_text(SECRETS["of a file"])
    (made / "kept").mkdir()
    (made / "kept" / "warm.jsonl").touch()
    with contextlib.chdir(made):
        yield made


def outcome(file: Path) -> Configuration | list[str]:
    """What it is, or its faults."""
    try:
        return load(file, ENVIRON)
    except ConfigurationError as error:
        return error.faults


def judge(faults: list[str], name: str) -> None:
    """Lines to act on."""
    assert faults
    for line in faults:
        assert line.startswith(f"{name}:"), line
        assert line.isprintable(), line
        _, _, message = line.removeprefix(f"{name}:").rpartition(": ")
        assert message, line
        assert not any(secret in line for secret in [*SECRETS.values(), "s3cret-"]), line


@given(table=TABLES)
@effort(60)
def test_the_reader_reads_or_lists_faults(table: dict[str, object]) -> None:
    """Any table gives a Configuration, or None and at least one fault."""
    faults = Faults("f")
    read = Reader(faults, ENVIRON, Path()).table(Configuration, table, "")
    assert isinstance(read, Configuration) or faults.lines
    if faults.lines:
        judge(faults.lines, "f")


@given(table=TABLES, is_absolute=st.booleans())
@effort(60)
def test_a_table_is_loaded_or_refused(folder: Path, table: dict[str, object], is_absolute: bool) -> None:
    """As a file, by any path: a configuration that can be shown, or lines to act on."""
    file = Path("f.toml") if not is_absolute else folder / "f.toml"
    file.write_text(tomli_w.dumps(table), encoding="utf-8")
    found = outcome(file)
    if isinstance(found, list):
        event("refused")
        judge(found, "f.toml")
    else:
        event("loaded")
        shown = render(found)
        assert not any(secret in shown for secret in SECRETS.values())


LINES = (
    st.sampled_from(
        [
            "[server]",
            "port = 1",
            "host = 'x'",
            "[[auth.keys]]",
            "name = 'a'",
            "a.b = 1",
            "x = [",
            "]",
            "= 1",
            "'",
            '"""',
        ]
    )
    | st.sampled_from(
        ["[providers.openai]", "api_keys = ['env:SET']", "key = 's3cret-89ab'", "k = 1979-05-27T99:00:00Z", "x = 9" * 3]
    )
    | st.sampled_from(
        [
            "é = 1",
            "\x00",
            "\r",
            "x = " + "9" * 5000,
            "x = " + "[" * 3000,
            "x = { a = 1,",
            "[a]\n[a]",
            "\ufeff",
            "x = 0x_1",
        ]
    )
)
FILES = st.binary(max_size=40) | st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode())


@given(data=FILES)
@effort(80)
def test_any_bytes_are_a_file_or_refused(folder: Path, data: bytes) -> None:
    """Also those that are no text, or no TOML, or TOML without end."""
    file = folder / "bytes.toml"
    file.write_bytes(data)
    found = outcome(file)
    if isinstance(found, list):
        event("refused")
        judge(found, "bytes.toml")


# -- sound ones


def without_headers(configuration: Configuration) -> Configuration:
    """Headers' values are not shown."""
    shown = {
        name: dataclasses.replace(provider, headers=dict.fromkeys(provider.headers, ""))
        for name, provider in configuration.providers.items()
    }
    return dataclasses.replace(configuration, providers=shown)


@given(table=CONFIGURATIONS, path=st.sampled_from(["g.toml", "kept/g.toml", "./kept/../g.toml", "absolute"]))
@effort(24)
def test_what_is_shown_loads_to_the_same(folder: Path, table: dict[str, Any], path: str) -> None:
    """By whatever path it was loaded, and from the same place."""
    file = folder / "kept" / "g.toml" if path == "absolute" else Path(path)
    if path != "g.toml" and "kept" in file.parent.name:
        _move(table)
    file.write_text(tomli_w.dumps(table), encoding="utf-8")
    found = outcome(file)
    if isinstance(found, list):
        event("refused")
        judge(found, "g.toml")
        return
    event("loaded")
    shown = render(found)
    assert tomllib.loads(shown)
    file.write_text(shown, encoding="utf-8")
    again = outcome(file)
    assert not isinstance(again, list), again
    assert without_headers(again) == without_headers(found)


def _move(table: dict[str, Any]) -> None:
    """Paths are from the folder the file is in."""
    for section, name in (("server", "tls_cert"), ("server", "tls_key"), ("cache", "persist"), ("cache", "warm")):
        if name in table.get(section, {}):
            table[section][name] = f"../{table[section][name]}"


@given(text=st.text(max_size=30) | st.from_regex(r"[0-9_.]{1,20} ?[a-zA-Z]{0,3}", fullmatch=True))
@effort(80)
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    """Durations and sizes are finite numbers, or ValueErrors for the list of faults."""
    for parse in (parse_duration, parse_size):
        try:
            number = parse(text)
        except ValueError:
            continue
        assert 0 <= number < float("inf")


@given(st.floats(0, 1e15), st.integers(0, 10**15))
@effort(80)
def test_a_quantity_that_is_written_is_read(seconds: float, size: int) -> None:
    """The same number, whatever unit it is written in."""
    assert parse_duration(format_duration(seconds)) == seconds
    assert parse_size(format_size(size)) == size


def test_the_folder_is_not_touched(folder: Path) -> None:
    """Whatever was read in all these, nothing else was made or changed."""
    names = {name for name in os.listdir(folder) if not name.endswith(".toml")}
    assert names == {"a.pem", "b.pem", "both.pem", "key", "kept"}
