"""What is known of a target: peaks believed at once and forgotten soon, failures that do not look fast."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.health import CHECK_LASTS, UNKNOWN_LATENCY, Health
from runestone.errors import InternalError

events = st.lists(
    st.tuples(
        st.floats(0, 100),
        st.none() | st.floats(0, 600),
        st.sampled_from([True, False, None]),
        st.sampled_from([True, False, None]),
    ),
    max_size=60,
)


def call(health: Health, now: float, latency: float | None = 0.2, ok: bool | None = True) -> None:
    health.begin(now)
    health.end(now, latency=latency, ok=ok)


def known(latency: float, *, calls: int = 100) -> Health:
    """A target that has long been answering like this; the last answer came at second 0."""
    health = Health()
    for index in range(calls):
        call(health, float(index - calls + 1), latency)
    return health


def test_a_new_target_is_given_the_benefit_of_the_doubt() -> None:
    """Nothing known: the default latency, full success, full score."""
    health = Health()
    assert (health.latency(5), health.success(5), health.score(5)) == (UNKNOWN_LATENCY, 1.0, 1.0)


def test_in_flight_is_what_has_begun_and_not_ended() -> None:
    """Calls are counted out and in; an end too many is a fault of ours and says so."""
    health = Health()
    health.begin(0)
    health.begin(0)
    health.end(1, latency=None, ok=None)
    assert health.in_flight == 1
    health.end(1, latency=1, ok=True)
    with pytest.raises(InternalError):
        health.end(1, latency=1, ok=True)
    assert health.in_flight == 0


def test_the_first_answer_is_what_is_known() -> None:
    """One answer is enough to replace the default, down as well as up."""
    for latency in (0.05, 7.0):
        health = Health()
        call(health, 100, latency)
        assert health.latency(100) == pytest.approx(latency)


def test_a_peak_is_believed_at_once() -> None:
    """One slow answer among fast ones is the expectation right away."""
    health = known(0.2)
    call(health, 0, 5.0)
    assert health.latency(0) == pytest.approx(5.0)


def test_a_peak_fades_in_ten_seconds() -> None:
    """After 10 s without calls about a third of the peak is left, after a minute nothing."""
    health = known(0.2)
    call(health, 0, 5.0)
    assert health.latency(10) == pytest.approx(0.2 + 4.8 * 0.37, abs=0.3)
    assert health.latency(60) < 0.5


def test_fast_answers_bring_a_peak_down_over_ten_seconds() -> None:
    """Ten calls a second, all fast: still careful after 2 s, nearly as before after 30 s."""
    health = known(0.2)
    call(health, 0, 5.0)
    for index in range(1, 301):
        call(health, index / 10, 0.2)
        if index == 20:
            assert health.latency(2) > 3.0
    assert health.latency(30) == pytest.approx(0.2, abs=0.3)


def test_what_is_typical_outlives_a_pause() -> None:
    """Ten seconds of silence do not make a fast target look like any other; ten minutes and more do."""
    health = known(0.2)
    assert health.latency(10) == pytest.approx(0.2, abs=0.05)
    assert health.latency(3_000) == pytest.approx(UNKNOWN_LATENCY, abs=0.01)


def test_a_slow_target_is_not_avoided_for_ever() -> None:
    """What was slow is thought unknown again after long silence, so that it is tried."""
    assert known(30.0).latency(3_000) == pytest.approx(UNKNOWN_LATENCY, abs=0.01)


def test_failing_fast_is_not_fast() -> None:
    """A failure in a millisecond leaves the latency as it was; a slow one raises it."""
    health = known(2.0)
    call(health, 0, 0.001, ok=False)
    assert health.latency(0) == pytest.approx(2.0)
    call(health, 0, 60.0, ok=False)
    assert health.latency(0) == pytest.approx(60.0)


def test_what_says_nothing_changes_nothing() -> None:
    """The caller's own fault and cancelled calls leave latency, success and score alone."""
    health = known(1.0)
    before = (health.latency(0), health.success(0), health.score(0))
    call(health, 0, 0.001, ok=None)
    call(health, 0, 50.0, ok=None)
    assert (health.latency(0), health.success(0), health.score(0)) == before


def test_failures_lower_the_success_and_answers_raise_it() -> None:
    """Seven failures in a row are below one half; as many answers bring it back above."""
    health = Health()
    for _ in range(7):
        call(health, 0, None, ok=False)
    assert health.success(0) < 0.5
    assert health.score(0) < 0.5
    for _ in range(7):
        call(health, 0)
    assert health.success(0) > 0.5


def test_failures_are_forgotten_when_nothing_is_heard() -> None:
    """The success share drifts back to 1, about two thirds of the way in a minute."""
    health = Health()
    for _ in range(50):
        call(health, 0, None, ok=False)
    assert health.success(60) == pytest.approx(0.63, abs=0.02)
    assert health.success(600) == pytest.approx(1.0, abs=0.001)


def test_a_failed_check_makes_it_unhealthy_until_news() -> None:
    """Below one half at once; whole again after a good check, a good call, or when the check is old."""
    for news in ("check", "call", "age"):
        health = Health()
        health.checked(0, False)
        assert health.score(0) < 0.5
        if news == "check":
            health.checked(1, True)
        elif news == "call":
            call(health, 1, UNKNOWN_LATENCY)
        assert health.score(1 + CHECK_LASTS) == 1.0
        if news != "age":
            assert health.score(1) == 1.0


def test_a_good_check_does_not_mend_failing_calls() -> None:
    """A cheap path that works says little of a model that fails."""
    health = Health()
    for _ in range(20):
        call(health, 0, None, ok=False)
    before = health.score(0)
    health.checked(0, True)
    assert health.score(0) == before


def test_being_slower_than_usual_costs_a_fifth_at_most() -> None:
    """The score knows a target's own standards: always slow is fine, suddenly slow is not, and latency alone never
    makes it unhealthy.
    """
    assert known(20.0).score(0) == pytest.approx(1.0)
    health = known(0.2)
    call(health, 0, 60.0)
    assert 0.8 <= health.score(0) < 0.9


@given(events)
def test_the_numbers_stay_in_their_bounds(events: list[tuple[float, float | None, bool | None, bool | None]]) -> None:
    """Whatever happens, with a clock that jumps as it likes: shares are in 0..1 and latency is positive or nought."""
    health = Health()
    for now, latency, ok, check in events:
        call(health, now, latency, ok)
        if check is not None:
            health.checked(now, check)
        assert 0.0 <= health.success(now) <= 1.0
        assert 0.0 <= health.score(now) <= 1.0
        assert 0.0 <= health.latency(now) <= 601.0
    assert health.in_flight == 0


@given(st.lists(st.floats(0.01, 60), min_size=1, max_size=40), st.floats(0, 0.9))
def test_no_expectation_is_below_the_last_answer(latencies: list[float], step: float) -> None:
    """Peak: right after an answer at least that answer's latency is expected."""
    health = Health()
    for index, latency in enumerate(latencies):
        call(health, index * step, latency)
        assert health.latency(index * step) >= latency * 0.999_999
