"""core/merged.py: what several workers say of themselves, as one answer."""

from __future__ import annotations

from typing import Any

import pytest

from runestone.core.merged import merged


@pytest.mark.parametrize(
    ("values", "whole"),
    [
        ([1, 2, 3], 6),
        ([0.5, 0.25], 0.75),
        ([False, True], True),
        ([None, None], None),
        ([None, 4], 4),
        (["0.1.0", "0.1.0"], "0.1.0"),
        (["closed", "open", "half_open"], "open"),
        ([{"a": 1}, {"a": 2, "b": 5}], {"a": 3, "b": 5}),
        ([{"score": 0.9}, {"score": 0.4}], {"score": 0.4}),
        ([{"uptime_seconds": 3.0}, {"uptime_seconds": 9.0}], {"uptime_seconds": 9.0}),
        ([{"reloaded": True}, {"reloaded": False}], {"reloaded": False}),
        ([["a", "b"], ["b", "c"]], ["a", "b", "c"]),
        ([{"hits": 1, "misses": 1, "hit_rate": 0.5}, {"hits": 2, "misses": 0, "hit_rate": 1.0}], 0.75),
        ([{"hits": 0, "misses": 0, "hit_rate": 0.0}] * 2, 0.0),
    ],
)
def test_each_kind_has_its_rule(values: list[Any], whole: object) -> None:
    """Amounts are added, times and scores are the worst, a share is of the sums."""
    told = merged(values)
    assert (told["hit_rate"] if isinstance(told, dict) and "hit_rate" in told else told) == whole


def test_things_with_a_name_are_told_once() -> None:
    """A target that every worker asks is one target."""
    one = [{"target": "a/m", "in_flight": 1, "breaker": "closed", "concurrency_limit": None}]
    other = [{"target": "a/m", "in_flight": 2, "breaker": "open", "concurrency_limit": None}, {"target": "b/m"}]
    assert merged([one, other]) == [
        {"target": "a/m", "in_flight": 3, "breaker": "open", "concurrency_limit": None},
        {"target": "b/m"},
    ]


def test_calls_are_never_one() -> None:
    """Two calls that look the same are two."""
    call = {"id": "r-1", "target": "a/m", "age_seconds": 1.0}
    assert merged([[dict(call)], [dict(call)]]) == [call, call]
