"""The other load generator: a fixed number of calls a second to each of several servers at once, whatever they answer.

    python -m bench.rate --run '{"urls": ["http://127.0.0.1:4003/v1/chat/completions"], "rate": 150, "seconds": 8}'

Prints one JSON list, an outcome for each URL (`Outcome`).

Rule: calls are made when they are due, on an idle connection or a new one; nobody waits for anybody. Latency counts
from the moment a call was due. Failures are outcomes here: counted by status, without a latency. The servers take
turns within a tick of the schedule, so that they do not get their calls in the same instant. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
from collections import Counter
from dataclasses import dataclass
from time import perf_counter
from typing import Self, cast
from urllib.parse import urlsplit

import orjson
import uvloop

from bench import wire
from bench.reader import BadReplyError, Reader
from bench.run import Spread


@dataclass(frozen=True, slots=True)
class Schedule:
    """`rate` calls a second to each URL for `seconds`, then up to `grace` seconds for the answers still to come."""

    urls: tuple[str, ...]
    rate: float
    seconds: float
    grace: float = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one server did with its calls. `latency` is that of the good ones; `failures` counts the others by kind."""

    calls: int
    good: int
    latency: Spread | None
    failures: dict[str, int]

    @classmethod
    def read(cls, text: bytes) -> list[Self]:
        outcomes = orjson.loads(text)
        for fields in outcomes:
            fields["latency"] = Spread(**fields["latency"]) if fields["latency"] else None
        return [cls(**fields) for fields in outcomes]


class Aim:
    """One server: its connections, and what it answered."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        if not ipaddress.ip_address(self.host).is_loopback:
            raise SystemExit(f"{self.host} is not a loopback address: this only measures its own machine")
        self.request = wire.request(parts.path, self.port, wire.chat_body(stream=False))
        self.idle: list[Connection] = []
        self.calls = self.under_way = 0
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self._opening: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()

    async def fire(self, schedule: Schedule, start: float) -> None:
        for number in range(round(schedule.rate * schedule.seconds)):
            due = start + number / schedule.rate
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            self.calls += 1
            self.under_way += 1
            if self.idle:
                self.idle.pop().call(due)
            else:
                opening = asyncio.create_task(self._open(due))
                self._opening.add(opening)
                opening.add_done_callback(self._opening.discard)

    async def _open(self, due: float) -> None:
        try:
            loop = asyncio.get_running_loop()
            _transport, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        except OSError as error:
            self.end(type(error).__name__)
        else:
            connection.call(due)

    def end(self, failure: str | None, seconds: float = 0.0) -> None:
        """One call less; None says it went well and took that long."""
        if failure is None:
            self.latencies.append(seconds)
        else:
            self.failures[failure] += 1
        self.under_way -= 1
        if not self.under_way:
            self._quiet.set()

    async def over(self) -> None:
        """Once nothing is under way; after `fire`."""
        if self.under_way:
            self._quiet.clear()
            await self._quiet.wait()

    def outcome(self) -> Outcome:
        failures = self.failures + Counter({"no answer": self.under_way})
        return Outcome(self.calls, len(self.latencies), Spread.of(self.latencies), dict(failures))


class Connection(asyncio.Protocol):
    """One keep-alive connection, one call at a time."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._reader = Reader()
        self._due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class: same methods, no common base

    def call(self, due: float) -> None:
        self._due = due
        self._reader.reset()
        self._transport.write(self._aim.request)

    def data_received(self, data: bytes) -> None:
        reader, aim, due = self._reader, self._aim, self._due
        try:
            if due is None:
                raise BadReplyError("an answer nobody asked for")  # noqa: TRY301 - one place ends a connection
            if not reader.feed(data):
                return
        except BadReplyError:
            self._transport.close()
            return
        self._due = None
        if reader.status == 200 and reader.tail.endswith(b"}"):
            aim.end(None, perf_counter() - due)
        else:
            aim.end(str(reader.status))
        aim.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._aim.idle:
            self._aim.idle.remove(self)
        if self._due is not None:
            self._due = None
            self._aim.end("broken")


async def perform(schedule: Schedule) -> list[Outcome]:
    aims = [Aim(url) for url in schedule.urls]
    start, turn = perf_counter() + 0.05, 1 / schedule.rate / len(aims)
    await asyncio.gather(*(aim.fire(schedule, start + number * turn) for number, aim in enumerate(aims)))
    until = perf_counter() + schedule.grace
    while any(aim.under_way for aim in aims) and perf_counter() < until:  # noqa: ASYNC110 - the last answers
        await asyncio.sleep(0.02)
    return [aim.outcome() for aim in aims]


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.rate")
    flags.add_argument("--run", required=True, help="a Schedule as JSON")
    schedule = Schedule(**orjson.loads(flags.parse_args().run))
    gc.disable()  # a pause here would be read as the server's; a run is bounded, so is what it leaves behind
    print(orjson.dumps(uvloop.run(perform(schedule))).decode())


if __name__ == "__main__":
    main()
