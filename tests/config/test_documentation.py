"""docs/configuration.md and the schema say the same."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from runestone.config.schema import Configuration
from tests.documented import SECTIONS, tables

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize(("heading", "lines"), list(tables()), ids=list(SECTIONS))
def test_every_key_is_documented_as_it_is(heading: str, lines: list[str]) -> None:
    """Each section's table has every key with type, default and meaning (`python -m tests.documented` prints them)."""
    section = PAGE.partition(f"### `{heading}`\n")[2].partition("\n### ")[0]
    assert [line for line in section.splitlines() if line.startswith("|")] == lines


def test_every_section_is_documented() -> None:
    """No section of the configuration is missing on the page."""
    for field in fields(Configuration):
        assert f"[{field.name}" in PAGE
