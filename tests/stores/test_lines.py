"""A file in batches of lines: every line, in order, and never more than a little of it at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.stores import lines
from runestone.stores.lines import batches

PARTS = st.lists(st.sampled_from([b"", b"a", b"12345", b"123456", b"1234567", b"x" * 40]), max_size=9)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines") / "file"


@given(parts=PARTS, end=st.sampled_from([b"\n", b"\r\n"]), is_ended=st.booleans())
def test_lines_come_back_and_long_ones_are_cut(parts: list[bytes], end: bytes, is_ended: bool, file: Path) -> None:
    """Of one that is too long so much that this can be seen; what follows it is a line of its own."""
    file.write_bytes(end.join(parts) + (end if is_ended and parts else b""))
    told = [line for batch in batches(file, 5) for line in batch]
    expected = [part[:6] for part in parts]
    while told and not told[-1]:
        told.pop()
    while expected and not expected[-1]:
        expected.pop()
    assert told == expected


def test_a_batch_is_not_larger_than_it_must_be(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the file is."""
    monkeypatch.setattr(lines, "BATCH", 100)
    file.write_bytes(b"0123456789\n" * 95)
    assert [len(batch) for batch in batches(file, 50)] == [10] * 9 + [5]


def test_a_file_that_is_not_there_is_an_error(file: Path) -> None:
    """Whoever asked for it says so."""
    with pytest.raises(OSError, match="No such file"):
        next(batches(file.with_name("none"), 50))
