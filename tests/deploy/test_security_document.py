"""SECURITY.md: what it points at is there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from runestone.config.schema import Configuration

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_file_it_names_is_there() -> None:
    """Code, tests and deployment files, in backticks or as links."""
    named = set(re.findall(r"`((?:runestone|tests|deploy|bench)/[^`]*)`", TEXT))
    linked = set(re.findall(r"\]\(([^)]+)\)", TEXT))
    assert len(named) > 40
    assert [path for path in sorted(named | linked) if not (ROOT / path).exists()] == []


def test_every_setting_it_names_is_one() -> None:
    """`section.key` of the configuration, as docs/configuration.md has them."""
    configuration = Configuration()
    sections = {field.name: getattr(configuration, field.name) for field in fields(configuration)}
    named = re.findall(r"`([a-z]+)\.([a-z_]+)(?: = [^`]+)?`", TEXT)
    known = [
        (section, key) for section, key in named if section in sections and (section, key) != ("runestone", "toml")
    ]
    assert len(known) > 20
    assert [(section, key) for section, key in known if not hasattr(sections[section], key)] == []


def test_the_defaults_it_tells_are_those() -> None:
    """What it says is so unless somebody changes it."""
    configuration = Configuration()
    assert configuration.server.host == "127.0.0.1"
    assert configuration.auth.required is False
    assert configuration.cache.scope == "key"
    assert (configuration.cache.persist, configuration.telemetry.content) == (None, False)
    assert (configuration.debug.console, configuration.debug.core_dumps) == (False, False)
