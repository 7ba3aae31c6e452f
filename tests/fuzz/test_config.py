"""Whatever stands in a configuration, reading it gives a configuration or a ConfigurationError with lines to act on,
and never another exception.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.config.kinds import Secret
from runestone.config.load import load
from runestone.config.reader import Faults, Reader
from runestone.config.render import render
from runestone.config.schema import Configuration
from runestone.config.units import parse_duration, parse_size
from runestone.errors import ConfigurationError

WORDS = sorted(
    {"5s", "10MB", "100ms", "env:SET", "env:UNSET", "env:", "file:x", "file:~x/y", "file:", "http://h/v1", "openai"}
    | {"simulated", "simulated/simulated", "info", "*", "a/b", "ab" * 32, "9" * 400 + "s", "9" * 400 + "B", "٣s", "²B"}
)
SCALARS = (
    st.sampled_from(WORDS)
    | st.booleans()
    | st.integers(-2, 70_000)
    | st.integers(10**308, 10**310)
    | st.floats()
    | st.text(max_size=5)
    | st.datetimes()
    | st.dates()
    | st.times()
)
KEYS = st.sampled_from(["openai", "ollama", "azure", "simulated", "gpt-4o", "x"]) | st.text(min_size=1, max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def likely(kind: Any) -> st.SearchStrategy[Any]:
    """Values of the shape that `kind` is read from, with anything in it."""
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is tuple:
        return st.lists(likely(inner[0]), max_size=2)
    if get_origin(kind) is dict:
        return st.dictionaries(KEYS, likely(inner[1]), max_size=2)
    if get_origin(kind) in (Union, UnionType):
        return likely(inner[0])
    if get_origin(kind) is Literal:
        return st.sampled_from(inner) | SCALARS
    if dataclasses.is_dataclass(kind) and kind is not Secret:
        return st.fixed_dictionaries({}, optional={name: likely(hint) for name, hint in get_type_hints(kind).items()})
    return SCALARS


SECTIONS = likely(Configuration)


@given(table=SECTIONS | st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=300, deadline=None)
def test_the_reader_reads_or_lists_faults(table: dict[str, object]) -> None:
    """Any table gives a Configuration, or None and at least one fault."""
    faults = Faults("f")
    read = Reader(faults, {"SET": "x"}, Path()).table(Configuration, table, "")
    assert isinstance(read, Configuration) or faults.lines


@given(table=SECTIONS)
@settings(max_examples=150, deadline=None)
def test_a_file_loads_or_is_refused(table: dict[str, object]) -> None:
    """Any file gives a configuration that can be shown, or is refused by lines."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "f.toml"
        file.write_text(tomli_w.dumps(table), encoding="utf-8")
        faults = None
        try:
            assert render(load(file, {"SET": "x"}))
        except ConfigurationError as error:
            faults = error.faults
        assert faults is None or (faults and all(line.startswith("f.toml:") for line in faults))


@given(text=st.text(max_size=30) | st.from_regex(r"[0-9_.]{1,20} ?[a-zA-Z]{0,3}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    """Durations and sizes are finite numbers, or ValueErrors for the list of faults."""
    for parse in (parse_duration, parse_size):
        try:
            number = parse(text)
        except ValueError:
            continue
        assert 0 <= number < float("inf")
