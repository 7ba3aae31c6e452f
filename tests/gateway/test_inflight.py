"""The list of what runs: bounded for who looks, right whatever comes and goes."""

from __future__ import annotations

import random

import pytest

from runestone.core.call import ANONYMOUS, Call, Operation, Target
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.errors import Unavailable
from runestone.gateway.inflight import InFlight
from runestone.gateway.meter import Meter

NOW = 1000.0


def call(identity: str, started: float = NOW) -> Call:
    return Call(identity, Operation.CHAT, b"{}", {}, "m", False, ANONYMOUS, {}, None, started)


async def test_the_oldest_come_first_and_only_as_many_as_wanted() -> None:
    """Of thousands a few are listed, and all are counted by where they are."""
    inflight = InFlight()
    for number in range(5000):
        await _begin(inflight, call(str(number), NOW - 10 + number / 1000))
    assert [seen.id for seen in inflight.oldest(3, NOW)] == ["0", "1", "2"]
    assert [round(seen.age, 3) for seen in inflight.oldest(2, NOW)] == [10.0, 9.999]
    assert len(inflight) == 5000
    assert inflight.stages() == {"gateway": 5000}


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_ends_is_gone(seed: int) -> None:
    """In any order, answered or failed: what is left is what has not ended, in the order it came."""
    chance = random.Random(seed)
    inflight, left, ended = InFlight(), [], 0
    replies: dict[str, Reply] = {}
    for number in range(500):
        if left and chance.random() < 0.5:
            ended += 1
            identity = left.pop(chance.randrange(len(left)))
            replies.pop(identity).close(None if chance.random() < 0.5 else Unavailable("over"))
        else:
            replies[str(number)] = await _begin(inflight, call(str(number)))
            left.append(str(number))
        assert [seen.id for seen in inflight.oldest(1000, NOW)] == left
    assert inflight.finished == ended > 0


async def test_a_call_that_fails_is_over() -> None:
    """Also when nobody ever had a reply of it."""
    inflight = InFlight()

    async def fails(call: Call) -> Reply:
        assert len(inflight) == 1
        raise Unavailable("no")

    with pytest.raises(Unavailable):
        await Meter([], inflight)(call("x"), fails)
    assert (len(inflight), inflight.finished) == (0, 1)


async def test_a_call_that_was_answered_from_memory_names_who_said_it() -> None:
    """Nobody was asked for it, so its target is that of the answer."""
    inflight = InFlight()
    own = call("x")
    await _begin(inflight, own)
    own.target = Target("up", "m")
    (seen,) = inflight.oldest(1, NOW)
    assert (seen.target, seen.attempts) == (Target("up", "m"), 0)
    own.watched().target = Target("other", "m")
    assert inflight.oldest(1, NOW)[0].target == Target("other", "m")


async def test_calls_nobody_meters_leave_no_trace() -> None:
    """What is noted of a call outside of the list is forgotten, and shared with no other call."""
    one, two = call("1"), call("2")
    one.progress.stage = "pool"
    one.progress.attempts += 1
    assert (two.progress.stage, two.progress.attempts) == ("gateway", 0)
    assert (one.progress.stage, one.progress.attempts) == ("gateway", 0)


async def _begin(inflight: InFlight, own: Call) -> Reply:
    async def answers(call: Call) -> Reply:
        return Reply(200, [], Summary(), body=b"{}")

    return await Meter([], inflight)(own, answers)
