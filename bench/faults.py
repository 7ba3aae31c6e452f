"""What the fake provider does wrong on demand, chosen by the path of the base URL: `/MODE/NAME/v1`.

    flaky     1 answer in 100 takes 20 times as long, 5 in 100 are 503; the others take about 20 ms
    narrow    about 100 ms while at most 20 calls are under way; with more, as much longer as there are more
    steady    about 20 ms, always
    down      503, after about 20 ms, always
    hung      takes the call and never answers

Rule: the fate of a call depends on nothing but its number, and each hundred holds exactly its share, so that whoever
calls meets the same. NAME separates: each has its own numbers, calls under way and count, and every call that arrives
is counted, also one that is cancelled a moment later. Absent: streams, and faults of the connection.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import NamedTuple

from bench import wire

USUAL, NARROW_USUAL = 0.020, 0.100  # seconds
CAPACITY = 20
SLOWER = 20
SLOW_IN_100, FAILING_IN_100 = 1, 5
_JITTER = 0.2  # of the logarithm: 19 of 20 answers stay below 1.4 times the usual
_HUNDREDS = 100

_PATH = re.compile(rb"/((flaky|narrow|steady|down|hung)/[^/]+)/v1/chat/completions")
_ANSWER = wire.answer()
_ERROR = b'{"error":{"message":"The server is overloaded.","type":"server_error","param":null,"code":null}}'
_HEAD = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
GOOD = _HEAD % (b"200 OK", len(_ANSWER), _ANSWER)
FAILURE = _HEAD % (b"503 Service Unavailable", len(_ERROR), _ERROR)


class Fate(NamedTuple):
    """What becomes of one call: `jitter` times the usual latency, 20 times that if it is slow."""

    jitter: float
    slow: bool
    fails: bool


def _fates() -> list[Fate]:
    chance = random.Random(4003)
    fates: list[Fate] = []
    for _ in range(_HUNDREDS):
        places = random.Random(chance.random()).sample(range(100), SLOW_IN_100 + FAILING_IN_100)
        slow, failing = places[:SLOW_IN_100], places[SLOW_IN_100:]
        fates += [Fate(chance.lognormvariate(0, _JITTER), place in slow, place in failing) for place in range(100)]
    return fates


FATES = _fates()


class Way:
    """One MODE/NAME: counts its calls, and answers each when its time has come."""

    __slots__ = ("_mode", "requests", "under_way")

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self.requests = self.under_way = 0

    def begin(self, write: Callable[[bytes], None]) -> Late:
        """Takes a call. The answer is written by itself unless `Late.cancel` comes first."""
        fate = FATES[self.requests % len(FATES)]
        self.requests += 1
        self.under_way += 1
        late = Late(self, write)
        match self._mode:
            case "flaky":
                late.answer(USUAL * fate.jitter * (SLOWER if fate.slow else 1), FAILURE if fate.fails else GOOD)
            case "narrow":
                late.answer(NARROW_USUAL * fate.jitter * max(1.0, self.under_way / CAPACITY), GOOD)
            case "steady":
                late.answer(USUAL * fate.jitter, GOOD)
            case "down":
                late.answer(USUAL * fate.jitter, FAILURE)
        return late


class Late:
    """An answer still to come."""

    __slots__ = ("_timer", "_under_way", "_way", "_write")

    def __init__(self, way: Way, write: Callable[[bytes], None]) -> None:
        self._way, self._write = way, write
        self._timer: asyncio.TimerHandle | None = None
        self._under_way = True

    def answer(self, after: float, reply: bytes) -> None:
        self._timer = asyncio.get_running_loop().call_later(after, self._now, reply)

    def cancel(self) -> None:
        """The caller has gone. Nothing happens when the answer was there already."""
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def _now(self, reply: bytes) -> None:
        self._end()
        self._write(reply)

    def _end(self) -> None:
        self._way.under_way -= self._under_way
        self._under_way = False


class Ways:
    """All of them, made as they are asked for."""

    def __init__(self) -> None:
        self._ways: dict[str, Way] = {}

    def of(self, path: bytes) -> Way | None:
        """None for a path without a fault."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        name = found[1].decode()
        way = self._ways.get(name)
        if way is None:
            way = self._ways[name] = Way(found[2].decode())
        return way

    def requests(self) -> dict[str, int]:
        """What arrived, by MODE/NAME."""
        return {name: way.requests for name, way in self._ways.items()}

    def reset(self) -> None:
        """Numbers and counts begin anew; what is under way stays so."""
        for way in self._ways.values():
            way.requests = 0
