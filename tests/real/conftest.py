"""The real model is asked only when it is asked for: `make test-real`, which is `pytest -m real tests/real`."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without `-m real` nothing here is even imported. None leaves the decision to pytest."""
    return None if "real" in config.getoption("markexpr") else True
