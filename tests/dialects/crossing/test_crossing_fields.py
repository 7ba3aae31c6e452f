"""The table of fields, and the page that shows it to people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS, Table, check, check_type
from runestone.errors import BadRequest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "crossing.md"


def rows(table: Table) -> list[str]:
    out = []
    for name, field in table.items():
        passes = ", ".join(f"`{json.dumps(value)}`" for value in field.harmless)
        note = f"{field.note} (passes: {passes})" if passes else field.note
        out.append(f"| `{name}` | {field.fate} | {note} | {field.page} |")
    return out


def test_the_page_shows_the_tables_row_by_row() -> None:
    """docs/crossing.md and fields.py say the same."""
    shown = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.endswith(" |") and "https://" in line
    ]
    assert shown == rows(CHAT_FIELDS) + rows(MESSAGES_FIELDS)


@pytest.mark.parametrize("table", [CHAT_FIELDS, MESSAGES_FIELDS])
def test_every_row_has_a_reason_and_a_vendors_page(table: Table) -> None:
    """A fate is never only an opinion."""
    for name, field in table.items():
        assert field.note, name
        assert field.page.startswith("https://"), name
        assert not field.harmless or field.fate == "refused", name


def test_an_unknown_field_is_refused_by_name() -> None:
    """Nothing unknown slips through."""
    with pytest.raises(BadRequest) as caught:
        check({"telepathy": 1}, CHAT_FIELDS)
    assert caught.value.param == "telepathy"


def test_null_is_as_if_absent() -> None:
    """SDKs write null for what was not set."""
    check({"telepathy": None, "logit_bias": None}, CHAT_FIELDS)


@pytest.mark.parametrize(
    ("table", "name"), [(t, n) for t in (CHAT_FIELDS, MESSAGES_FIELDS) for n, f in t.items() if f.fate == "refused"]
)
def test_what_is_refused_is_refused_by_its_path(table: Table, name: str) -> None:
    """Every refused row refuses, and lets its harmless values pass."""
    at, _, last = name.rpartition(".")
    if name.startswith("content[") and not at:
        with pytest.raises(BadRequest) as caught:
            check_type(name[len("content[") : -1], table, "messages[2].content[0]")
        assert caught.value.param == "messages[2].content[0].type"
        return
    with pytest.raises(BadRequest) as caught:
        check({last: "anything"}, table, at, "here")
    assert caught.value.param == f"here.{last}"
    harmless: tuple[Any, ...] = table[name].harmless
    for value in harmless:
        check({last: value}, table, at, "here")
