"""Walking a call's targets: who is asked next, and what the client hears in the end."""

from __future__ import annotations

import gc
from time import perf_counter

import pytest

from runestone.core.budget import Budget
from runestone.core.call import ANONYMOUS, Call, Operation, Target
from runestone.core.reply import Reply
from runestone.core.resilience import Resilience
from runestone.core.summary import Summary
from runestone.errors import (
    BadRequest,
    InternalError,
    ProviderFailed,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RunestoneError,
    StreamBroken,
    Unavailable,
)
from runestone.gateway.fallback import Fallback

REPLY = Reply(200, [], Summary(), body=b"{}")
A, B, C = Target("a", "m-1"), Target("b", "m-2"), Target("c", "m-3")


def refused(status: int) -> ProviderRefused:
    return ProviderRefused("no", status=status, type="t")


def call_to(*targets: Target, deadline: float = float("inf")) -> Call:
    call = Call("id", Operation.CHAT, b"{}", {}, "m", False, ANONYMOUS, {}, None, perf_counter())
    call.targets = targets
    call.deadline = deadline
    return call


def fallback(retries: int = 0, share: float = 0.2, counted: list[str] | None = None) -> Fallback:
    """No waits: chance gives 0, and a full jitter of 0 is no wait at all."""
    count = (counted if counted is not None else []).append
    return Fallback(retries=retries, budget=Budget(share=share, reserve=3), chance=lambda: 0.0, count=count)


class Attempts:
    """The stage further in: one outcome for each attempt, and who was asked."""

    def __init__(self, *outcomes: Reply | BaseException) -> None:
        self._outcomes = list(outcomes)
        self.asked: list[Target | None] = []

    async def __call__(self, call: Call) -> Reply:
        self.asked.append(call.target)
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def test_the_first_answer_is_the_answer() -> None:
    """Nobody else is asked."""
    call, attempts = call_to(A, B), Attempts(REPLY)
    assert await fallback()(call, attempts) is REPLY
    assert (attempts.asked, call.attempts, call.target) == ([A], 1, A)


@pytest.mark.parametrize(
    "failure",
    [
        ProviderFailed("x"),
        ProviderUnreachable("x"),
        ProviderTimeout("x"),
        Unavailable("x"),
        refused(429),
        refused(408),
    ],
    ids=lambda failure: f"{type(failure).__name__} {failure.status}",
)
async def test_what_another_target_may_mend_moves_on(failure: RunestoneError) -> None:
    """The next target is asked, and the call knows who answered and how many were tried."""
    call, attempts = call_to(A, B, C), Attempts(failure, failure, REPLY)
    assert await fallback()(call, attempts) is REPLY
    assert (attempts.asked, call.attempts, call.target) == ([A, B, C], 3, C)


@pytest.mark.parametrize(
    "failure",
    [BadRequest("x"), refused(400), StreamBroken("x"), InternalError("x")],
    ids=lambda failure: f"{type(failure).__name__} {failure.status}",
)
async def test_what_another_target_cannot_mend_is_final(failure: RunestoneError) -> None:
    """The client's mistake is one everywhere; bytes that have gone out cannot be taken back."""
    call, attempts = call_to(A, B), Attempts(failure)
    with pytest.raises(RunestoneError) as caught:
        await fallback()(call, attempts)
    assert caught.value is failure
    assert attempts.asked == [A]


async def test_the_last_failure_is_what_the_client_hears() -> None:
    """When nobody can answer, the last reason stands, as it was."""
    last = refused(429)
    call, attempts = call_to(A, B), Attempts(ProviderFailed("first"), last)
    with pytest.raises(ProviderRefused) as caught:
        await fallback()(call, attempts)
    assert caught.value is last
    assert (call.attempts, call.target) == (2, B)


async def test_past_the_deadline_nobody_else_is_asked() -> None:
    """An answer that could not arrive in time is not begun."""
    failure = ProviderTimeout("total")
    attempts = Attempts(failure)
    with pytest.raises(ProviderTimeout) as caught:
        await fallback()(call_to(A, B, deadline=perf_counter()), attempts)
    assert caught.value is failure
    assert attempts.asked == [A]


@pytest.mark.parametrize("failure", [KeyError("bug"), KeyboardInterrupt()], ids=["a bug", "the end"])
async def test_what_is_not_an_error_of_ours_is_not_swallowed(failure: BaseException) -> None:
    """A bug, or the end of the process, is not a reason to ask somebody else."""
    attempts = Attempts(failure)
    with pytest.raises(type(failure)):
        await fallback()(call_to(A, B), attempts)
    assert attempts.asked == [A]


async def test_without_targets_nobody_can_answer() -> None:
    """A 503, and nobody is asked."""
    attempts = Attempts()
    with pytest.raises(Unavailable):
        await fallback()(call_to(), attempts)
    assert attempts.asked == []


async def test_retries_come_after_every_target_was_asked() -> None:
    """First round A, B; then A again, as often as `retries` says; each is counted."""
    counted: list[str] = []
    call, attempts = call_to(A, B), Attempts(ProviderFailed("1"), ProviderFailed("2"), ProviderFailed("3"), REPLY)
    assert await fallback(retries=2, counted=counted)(call, attempts) is REPLY
    assert attempts.asked == [A, B, A, B]
    assert counted == ["failover", "retry", "retry"]
    assert call.failures == (
        (A, "provider_error"),
        (B, "provider_error"),
        (A, "provider_error"),
    )


async def test_retries_live_inside_a_budget() -> None:
    """When every call fails, retries stay below the budget instead of multiplying the outage."""
    counted: list[str] = []
    stage = fallback(retries=2, counted=counted)
    for _ in range(100):
        with pytest.raises(ProviderFailed):
            await stage(call_to(A), Attempts(*(ProviderFailed("x") for _ in range(3))))
    assert counted.count("retry") <= 100 * 0.2 + 3


@pytest.mark.parametrize(
    "failure",
    [ProviderTimeout("slow"), refused(401), Unavailable("later", retry_after=60.0)],
    ids=["a deadline", "a refusal", "a long wait"],
)
async def test_what_another_try_would_not_mend_is_not_tried_again(failure: RunestoneError) -> None:
    """The same wait again, the same answer again, or a wait nobody would sit out: the client hears it at once."""
    attempts = Attempts(failure, REPLY)
    with pytest.raises(type(failure)):
        await fallback(retries=2)(call_to(A), attempts)
    assert attempts.asked == [A]


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_a_refusal_of_the_target_is_taken_to_the_next(status: int) -> None:
    """Our key, our account, a model it does not have: the next target may still answer."""
    attempts = Attempts(refused(status), REPLY)
    assert await fallback()(call_to(A, B), attempts) is REPLY
    assert attempts.asked == [A, B]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("context_window", ProviderRefused("too long", status=400, type="t", code="context_length_exceeded")),
        ("context_window", ProviderRefused("prompt is too long: 9 tokens > 8", status=400, type="t")),
        ("content_policy", ProviderRefused("no", status=400, type="t", code="content_policy_violation")),
    ],
)
async def test_refusals_an_operator_names_are_taken_to_the_next(kind: str, error: ProviderRefused) -> None:
    """With `fallback_on` the next target is asked; without it the refusal is the client's to hear."""
    call = call_to(A, B)
    call.resilience = Resilience(fallback_on=frozenset({kind}))
    assert await fallback()(call, Attempts(error, REPLY)) is REPLY
    with pytest.raises(ProviderRefused):
        await fallback()(call_to(A, B), Attempts(error, REPLY))


async def test_a_call_that_moved_on_leaves_nothing_for_the_collector() -> None:
    """A failure is let go of when the call is answered: its traceback would hold the call in a cycle."""

    async def attempt(call: Call) -> Reply:
        if call.target == A:
            raise ProviderFailed("x")
        return REPLY

    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await fallback()(call_to(A, B), attempt)
        assert gc.collect() == 0
    finally:
        gc.enable()
