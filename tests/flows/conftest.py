"""In flows a blocking call of the gateway's own code inside the loop is an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

WATCHED = [f"runestone.{ring}" for ring in ("core", "dialects", "gateway", "providers", "edge", "telemetry")]


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    with blockbuster_ctx(WATCHED):
        yield
