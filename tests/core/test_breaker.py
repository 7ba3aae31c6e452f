"""The circuit breaker of a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.breaker import PROBE_WAIT, TRANSITIONS, Breaker, Event, State
from runestone.errors import InternalError

OPEN_AT, PROBE_AT = 100.0, 130.0


def told(breaker: Breaker, now: float, outcomes: str) -> None:
    """One call after the other: S succeeds, F fails, - says nothing."""
    verbs = {"S": breaker.succeed, "F": breaker.fail, "-": breaker.forget}
    for outcome in outcomes:
        assert breaker.admit(now)
        verbs[outcome](now, breaker.generation)


def opened(**options: int) -> Breaker:
    breaker = Breaker(**options)  # type: ignore[arg-type]
    told(breaker, OPEN_AT, "FFFFF")
    assert breaker.state is State.OPEN
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("FFFF", State.CLOSED),
        ("FFFFF", State.OPEN),
        ("FFFFSFFFF", State.CLOSED),
        ("FF---FFF", State.OPEN),
        ("-----", State.CLOSED),
        ("SF" * 9 + "S", State.CLOSED),
        ("SF" * 10, State.OPEN),
        ("SFF" * 6 + "SS", State.OPEN),
        ("SSF" * 20, State.CLOSED),
    ],
)
def test_it_opens_after_five_in_a_row_or_half_of_twenty(outcomes: str, state: State) -> None:
    """Failures in a row, or their share of enough outcomes; what says nothing breaks no row and fills no share."""
    breaker = Breaker()
    told(breaker, 0.0, outcomes)
    assert breaker.state is state


def test_old_outcomes_are_forgotten() -> None:
    """The share is of the window: failures of half a minute ago do not open it."""
    breaker = Breaker()
    told(breaker, 0.0, "SF" * 9)
    told(breaker, 31.0, "SF" * 9)
    assert breaker.state is State.CLOSED
    told(breaker, 40.0, "SF")
    assert breaker.state is State.OPEN


def test_an_open_breaker_refuses_until_its_time_is_up() -> None:
    """`retry_after` is what is left; waiting for exactly that is enough, and the state is as of the last event."""
    breaker = opened()
    assert not breaker.admit(OPEN_AT + 0.1)
    assert breaker.retry_after(OPEN_AT + 0.1) == pytest.approx(29.9)
    assert not breaker.admit(PROBE_AT - 0.001)
    assert breaker.retry_after(PROBE_AT) == 0.0
    assert breaker.state is State.OPEN
    assert breaker.admit(PROBE_AT)
    assert breaker.state is State.HALF_OPEN


@given(st.floats(0, 1e7), st.floats(0.001, 1000), st.floats(0, 2))
def test_waiting_as_told_is_enough(start: float, reset_after: float, part: float) -> None:
    """Whatever the rounding: after `retry_after` seconds it admits."""
    breaker = Breaker(failures=1, reset_after=reset_after)
    told(breaker, start, "F")
    now = start + part * reset_after
    assert breaker.admit(now + breaker.retry_after(now))


def test_a_half_open_breaker_admits_two_at_a_time() -> None:
    """A third is refused until a probe is over, whatever that probe says."""
    breaker = opened(successes=9)
    assert [breaker.admit(PROBE_AT) for _ in range(4)] == [True, True, False, False]
    assert breaker.retry_after(PROBE_AT) == PROBE_WAIT
    breaker.forget(PROBE_AT, breaker.generation)
    assert breaker.retry_after(PROBE_AT) == 0.0
    assert [breaker.admit(PROBE_AT) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("", State.OPEN), ("-", State.HALF_OPEN), ("S", State.HALF_OPEN), ("S--", State.HALF_OPEN),
        ("SS", State.CLOSED), ("S-S", State.CLOSED), ("F", State.OPEN), ("SF", State.OPEN), ("SSFFFF", State.CLOSED),
        ("SSFFFFF", State.OPEN),
    ],
)  # fmt: skip
def test_two_successes_close_it_and_one_failure_opens_it(outcomes: str, state: State) -> None:
    """Closed again it has forgotten everything."""
    breaker = opened()
    told(breaker, PROBE_AT, outcomes)
    assert breaker.state is state


def test_it_rests_again_after_a_failed_probe() -> None:
    """The pause begins anew with the failure."""
    breaker = opened()
    assert breaker.admit(PROBE_AT)
    breaker.fail(PROBE_AT + 5, breaker.generation)
    assert breaker.retry_after(PROBE_AT + 5) == 30.0


@pytest.mark.parametrize("known", [True, False], ids=["by-generation", "by-order"])
@pytest.mark.parametrize("late", ["S", "F"])
@pytest.mark.parametrize("when", [State.OPEN, State.HALF_OPEN, State.CLOSED])
def test_late_outcomes_count_for_nothing(known: bool, late: str, when: State) -> None:
    """Calls admitted before the breaker opened change no state, count or pause, however late they end."""
    breaker = Breaker()
    before = breaker.generation if known else None
    for _ in range(15):
        assert breaker.admit(0.0)
    for _ in range(5):
        breaker.fail(OPEN_AT, before)
    now = PROBE_AT
    if when is not State.OPEN:
        assert breaker.admit(now)
    if when is State.CLOSED:
        breaker.succeed(now, breaker.generation)
        told(breaker, now, "S")
    assert breaker.state is when
    pause = breaker.retry_after(OPEN_AT + 1)
    for _ in range(10):
        (breaker.succeed if late == "S" else breaker.fail)(OPEN_AT + 1, before)
    assert breaker.state is when
    assert breaker.retry_after(OPEN_AT + 1) == pause
    if when is State.HALF_OPEN:
        assert [breaker.admit(now) for _ in range(2)] == [True, False]
        breaker.succeed(now)
        breaker.succeed(now)
        assert breaker.state.value == State.CLOSED


def test_a_hung_call_does_not_hold_up_a_probe_that_is_known() -> None:
    """With its generation a probe's outcome counts at once, though an older call is still under way."""
    breaker = Breaker(failures=1)
    assert breaker.admit(0.0)
    told(breaker, OPEN_AT, "F")
    told(breaker, PROBE_AT, "SS")
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("state", list(State))
def test_an_operator_closes_it(state: State) -> None:
    """From every state, with empty counts; what was under way says nothing any more."""
    breaker = Breaker() if state is State.CLOSED else opened()
    if state is State.CLOSED:
        told(breaker, 0.0, "FFFF")
    generation = breaker.generation
    under_way = state is not State.OPEN and breaker.admit(PROBE_AT)
    generation = breaker.generation
    assert breaker.state is state
    breaker.reset(PROBE_AT)
    if under_way:
        breaker.fail(PROBE_AT, generation)
    told(breaker, PROBE_AT, "FFFF")
    assert breaker.state.value == State.CLOSED
    assert breaker.retry_after(PROBE_AT) == 0.0


def test_a_clock_that_is_set_back_does_not_prolong_the_pause() -> None:
    """Whatever the clock says, `reset_after` is the longest wait."""
    breaker = opened()
    assert breaker.retry_after(-1e6) == 30.0
    assert breaker.admit(-1e6 + 30)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_only_the_table_moves_it(state: State, event: Event) -> None:
    """A transition that is not in the table is an error of ours, and changes nothing."""
    breaker = Breaker()
    breaker._state = state
    expected = TRANSITIONS.get((state, event))
    if expected is None:
        with pytest.raises(InternalError, match=event):
            breaker._move(event)
    else:
        breaker._move(event)
    assert breaker.state is (expected or state)


@pytest.mark.parametrize("verb", ["succeed", "fail", "forget"])
@pytest.mark.parametrize("generation", [None, 1, 99])
def test_an_outcome_without_a_call_is_an_error(verb: str, generation: int | None) -> None:
    """Telling twice would free another call's place: it is found at once."""
    breaker = Breaker()
    told(breaker, 0.0, "S")
    with pytest.raises(InternalError):
        getattr(breaker, verb)(0.0, generation)


@given(st.lists(st.tuples(st.sampled_from("aaaSF-r"), st.floats(0, 20), st.integers(0, 9)), max_size=200))
def test_a_breaker_keeps_its_promises(steps: list[tuple[str, float, int]]) -> None:
    """In any order of calls: it admits when it said 0.0, never more than two probes, and every place is given back."""
    breaker, now = Breaker(failures=2, least=4), 0.0
    running: list[int] = []
    for verb, pause, which in steps:
        now += pause
        if verb == "a":
            free = breaker.retry_after(now) == 0.0
            assert breaker.admit(now) is free
            running += [breaker.generation] if free else []
        elif verb == "r":
            breaker.reset(now)
        elif running:
            generation = running.pop(which % len(running))
            {"S": breaker.succeed, "F": breaker.fail, "-": breaker.forget}[verb](now, generation)
        if breaker.state is State.HALF_OPEN:
            assert running.count(breaker.generation) <= 2
        if breaker.state is State.OPEN:
            assert breaker.generation not in running
    for generation in running:
        breaker.forget(now, generation)
    with pytest.raises(InternalError):
        breaker.forget(now)


@pytest.mark.parametrize(
    "wrong",
    [{"failures": 0}, {"successes": 0}, {"least": 0}, {"probes": 0}, {"reset_after": 0}, {"share": 0}, {"share": 2}],
)
def test_a_breaker_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    """Counts below 1, no pause, or a share outside (0, 1] are a ValueError."""
    with pytest.raises(ValueError):
        Breaker(**wrong)  # type: ignore[arg-type]
