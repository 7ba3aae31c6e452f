"""All limits of one key together."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.quota import NEVER, Limits, Quota, Refusal, duration
from runestone.errors import InternalError

ALL = Limits(requests_per_minute=60, requests_per_hour=100, tokens_per_minute=1000, concurrent_requests=5)


def refused(quota: Quota, now: float, tokens: int = 0) -> Refusal:
    refusal = quota.admit(now, tokens)
    assert refusal is not None
    return refusal


def test_without_limits_everything_passes() -> None:
    """None is unlimited, and shows no headers; the calls are counted all the same."""
    quota = Quota(Limits())
    assert [quota.admit(0.0, 10**12) for _ in range(1000)] == [None] * 1000
    assert (quota.headers(0.0), quota.in_flight) == ([], 1000)


@pytest.mark.parametrize(
    ("limits", "tokens", "passes", "limit", "wait", "message"),
    [
        (Limits(requests_per_minute=2), 0, 2, "requests", 30.0, "2 requests per minute; try again in 30s"),
        (Limits(requests_per_hour=2), 0, 2, "requests-hour", 1800.0, "2 requests per hour; try again in 30m0s"),
        (Limits(tokens_per_minute=100), 40, 2, "tokens", 12.0, "100 tokens per minute; try again in 12s"),
        (Limits(concurrent_requests=2), 9, 2, "concurrent", 1.0, "2 requests at the same time"),
        (Limits(tokens_per_minute=100), 101, 0, "tokens", NEVER, "about 101 tokens, and the limit is 100 tokens"),
    ],
)
def test_each_limit_refuses_with_its_name_and_the_real_wait(
    limits: Limits, tokens: int, passes: int, limit: str, wait: float, message: str
) -> None:
    """The refusal says which limit it was, and how long until the same call may pass."""
    quota = Quota(limits)
    assert [quota.admit(0.0, tokens) for _ in range(passes)] == [None] * passes
    refusal = refused(quota, 0.0, tokens)
    assert (refusal.limit, refusal.wait) == (limit, pytest.approx(wait))
    assert message in refusal.message
    if limit != "concurrent" and wait != NEVER:
        assert quota.admit(refusal.wait, tokens) is None


def test_a_refusal_takes_nothing() -> None:
    """However often one limit refuses, the others, and itself, are as they were."""
    quota = Quota(ALL)
    assert quota.admit(0.0, 900) is None
    before = quota.headers(0.0)
    for _ in range(1000):
        assert refused(quota, 0.0, 200).limit == "tokens"
    assert (quota.headers(0.0), quota.in_flight) == (before, 1)


def test_the_longest_of_several_waits_is_told() -> None:
    """Whoever waits as long as it was told is not refused again by another limit."""
    quota = Quota(Limits(requests_per_minute=1, tokens_per_minute=1000))
    assert quota.admit(0.0, 1000) is None
    quota.settle(0.0, 1000, 2000)
    refusal = refused(quota, 0.0, 500)
    assert (refusal.limit, refusal.wait) == ("tokens", pytest.approx(90))
    assert quota.admit(refusal.wait, 500) is None


def test_the_wait_for_a_slot_is_the_callers_guess() -> None:
    """Nobody knows when a call ends; the caller may know better than one second."""
    quota = Quota(Limits(concurrent_requests=1))
    assert quota.admit(0.0, 0) is None
    refusal = quota.admit(0.0, 0, slot_wait=7.5)
    assert refusal is not None
    assert refusal.wait == 7.5
    quota.settle(0.0, 0, None)
    assert quota.admit(0.0, 0) is None


@pytest.mark.parametrize(
    ("actual", "remaining"), [(None, "600"), (400, "600"), (100, "900"), (1500, "0"), (-5, "1000")]
)
def test_the_estimate_is_corrected_at_the_end(actual: int | None, remaining: str) -> None:
    """What was not used comes back, what was used above is taken; without a figure the estimate stands."""
    quota = Quota(ALL)
    assert quota.admit(0.0, 400) is None
    quota.settle(0.0, 400, actual)
    assert dict(quota.headers(0.0))["x-ratelimit-remaining-tokens"] == remaining
    assert quota.in_flight == 0


def test_a_call_is_settled_once() -> None:
    """A second end of the same call would free another's slot: it is an error of ours."""
    quota = Quota(ALL)
    assert quota.admit(0.0, 1) is None
    quota.settle(0.0, 1, 1)
    with pytest.raises(InternalError):
        quota.settle(0.0, 1, 1)


def test_the_headers_are_openais() -> None:
    """limit, remaining and reset of each limit that is set, under OpenAI's names."""
    quota = Quota(ALL)
    assert quota.admit(0.0, 250) is None
    assert quota.headers(0.0) == [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-requests-hour", "100"),
        ("x-ratelimit-remaining-requests-hour", "99"),
        ("x-ratelimit-reset-requests-hour", "36s"),
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "750"),
        ("x-ratelimit-reset-tokens", "15s"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (-1, "0s"), (0.0004, "1ms"), (0.02, "20ms"), (0.9991, "1s"), (1, "1s"), (8.64, "8.64s"),
        (59.9999, "1m0s"), (60, "1m0s"), (86.4, "1m26.4s"), (360, "6m0s"), (3600, "1h0m0s"), (43113.6, "11h58m33.6s"),
    ],
)  # fmt: skip
def test_times_are_written_as_openai_does(seconds: float, text: str) -> None:
    """20ms, 1s, 6m0s; rounded up, so that waiting that long is enough."""
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_written_time_is_the_time(seconds: float) -> None:
    """Read back, it is at most a millisecond more, and never noticeably less."""
    found = re.fullmatch(r"(?:(\d+)ms)|(?:(?:(\d+)h)?(?:(\d+)m)?([\d.]+)s)", duration(seconds))
    assert found
    ms, hours, minutes, rest = (float(part or 0) for part in found.groups())
    assert seconds - 1e-5 <= ms / 1000 + hours * 3600 + minutes * 60 + rest <= seconds + 1.001e-3


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 1200), st.booleans()), max_size=60))
def test_every_call_is_counted_once(steps: list[tuple[float, int, bool]]) -> None:
    """The slots in use are the calls admitted and not over, and what a refusal says comes true."""
    quota, now = Quota(ALL), 0.0
    running: list[int] = []
    for pause, tokens, ends in steps:
        now += pause
        if ends and running:
            quota.settle(now, running.pop(), tokens // 2)
        refusal = quota.admit(now, tokens)
        if refusal is None:
            running.append(tokens)
        elif refusal.limit == "concurrent":
            assert len(running) == 5
        elif tokens > 1000:
            assert refusal.wait == NEVER
        else:
            now += refusal.wait
            again = quota.admit(now, tokens)
            assert again is None or again.limit == "concurrent"
            running += [tokens] if again is None else []
        assert quota.in_flight == len(running) <= 5


@pytest.mark.parametrize(
    "name", ["requests_per_minute", "requests_per_hour", "tokens_per_minute", "concurrent_requests"]
)
def test_a_limit_below_one_is_refused(name: str) -> None:
    """Zero would be a key that may do nothing; that is what disabling a key is for."""
    with pytest.raises(ValueError):
        Quota(Limits(**{name: 0}))
