"""A bounded memory of results."""

from __future__ import annotations

from runestone.core.recent import Recent


def test_the_least_recently_used_goes_first() -> None:
    """What was looked up stays; the bound holds."""
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)
    assert len(recent) == 2
