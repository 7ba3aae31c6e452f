"""Who follows the calls: bounded, told what was missed, and no cost when there is nobody."""

from __future__ import annotations

import re

import orjson
import pytest

from runestone.core.record import Record
from runestone.errors import Unavailable
from runestone.telemetry.tail import MOST_FOLLOWERS, MOST_KEPT, Tail
from tests.telemetry.test_logs import RECORD

EVENT = re.compile(rb"(?:event: (\w+)\n)?data: (.+)\n\n")


def events(said: bytes) -> list[tuple[bytes, object]]:
    found = [(match[1] or b"message", orjson.loads(match[2])) for match in EVENT.finditer(said)]
    assert b"".join(match[0] for match in EVENT.finditer(said)) == said
    return found


def ids(said: bytes) -> list[object]:
    return [told["id"] for _, told in events(said) if isinstance(told, dict) and "id" in told]


async def test_what_comes_together_is_told_together() -> None:
    """In order, and each once."""
    tail = Tail()
    follower = tail.follow()
    for number in range(3):
        tail(RECORD._replace(id=str(number)))
    assert ids(await follower.next(1)) == ["0", "1", "2"]
    tail(RECORD._replace(id="3"))
    assert ids(await follower.next(1)) == ["3"]
    assert await follower.next(0.001) == b""


async def test_what_a_slow_follower_misses_is_told_to_it_alone() -> None:
    """The oldest are kept, the rest is counted, each time anew."""
    tail = Tail()
    slow, quick = tail.follow(), tail.follow()
    for number in range(MOST_KEPT + 5):
        tail(RECORD._replace(id=str(number)))
        assert ids(await quick.next(1)) == [str(number)]
    told = events(await slow.next(1))
    assert len(told) == MOST_KEPT + 1
    assert told[-1] == (b"missed", {"missed": 5})
    tail(RECORD)
    assert [kind for kind, _ in events(await slow.next(1))] == [b"message"]
    assert (slow.missed, quick.missed) == (5, 0)


def test_nobody_follows_nothing_is_made() -> None:
    """Not even the price is asked for."""

    def price(record: Record) -> float | None:
        raise AssertionError("nobody wants to know")

    Tail(price)(RECORD)


async def test_there_is_room_for_so_many() -> None:
    """And again when one has left."""
    tail = Tail()
    followers = [tail.follow() for _ in range(MOST_FOLLOWERS)]
    with pytest.raises(Unavailable):
        tail.follow()
    followers[0].close()
    followers[0].close()
    assert len(tail) == MOST_FOLLOWERS - 1
    tail.follow()


async def test_a_record_is_told_with_its_price() -> None:
    """As the log would say it."""
    tail = Tail(lambda record: 0.25)
    follower = tail.follow()
    tail(RECORD)
    ((_, told),) = events(await follower.next(1))
    assert isinstance(told, dict)
    assert (told["cost_usd"], told["level"], told["message"]) == (0.25, "info", "chat/completions")
