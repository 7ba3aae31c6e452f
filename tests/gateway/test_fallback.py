"""Walking a call's targets: who is asked next, and what the client hears in the end."""

from __future__ import annotations

from time import perf_counter

import pytest

from runestone.core.call import ANONYMOUS, Call, Operation, Target
from runestone.core.reply import Reply
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
    assert await Fallback()(call, attempts) is REPLY
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
    assert await Fallback()(call, attempts) is REPLY
    assert (attempts.asked, call.attempts, call.target) == ([A, B, C], 3, C)


@pytest.mark.parametrize(
    "failure",
    [BadRequest("x"), refused(400), refused(401), refused(404), StreamBroken("x"), InternalError("x")],
    ids=lambda failure: f"{type(failure).__name__} {failure.status}",
)
async def test_what_another_target_cannot_mend_is_final(failure: RunestoneError) -> None:
    """The client's mistake is one everywhere; bytes that have gone out cannot be taken back."""
    call, attempts = call_to(A, B), Attempts(failure)
    with pytest.raises(RunestoneError) as caught:
        await Fallback()(call, attempts)
    assert caught.value is failure
    assert attempts.asked == [A]


async def test_the_last_failure_is_what_the_client_hears() -> None:
    """When nobody can answer, the last reason stands, as it was."""
    last = refused(429)
    call, attempts = call_to(A, B), Attempts(ProviderFailed("first"), last)
    with pytest.raises(ProviderRefused) as caught:
        await Fallback()(call, attempts)
    assert caught.value is last
    assert (call.attempts, call.target) == (2, B)


async def test_past_the_deadline_nobody_else_is_asked() -> None:
    """An answer that could not arrive in time is not begun."""
    failure = ProviderTimeout("total")
    attempts = Attempts(failure)
    with pytest.raises(ProviderTimeout) as caught:
        await Fallback()(call_to(A, B, deadline=perf_counter()), attempts)
    assert caught.value is failure
    assert attempts.asked == [A]


@pytest.mark.parametrize("failure", [KeyError("bug"), KeyboardInterrupt()], ids=["a bug", "the end"])
async def test_what_is_not_an_error_of_ours_is_not_swallowed(failure: BaseException) -> None:
    """A bug, or the end of the process, is not a reason to ask somebody else."""
    attempts = Attempts(failure)
    with pytest.raises(type(failure)):
        await Fallback()(call_to(A, B), attempts)
    assert attempts.asked == [A]


async def test_without_targets_nobody_can_answer() -> None:
    """A 503, and nobody is asked."""
    attempts = Attempts()
    with pytest.raises(Unavailable):
        await Fallback()(call_to(), attempts)
    assert attempts.asked == []
