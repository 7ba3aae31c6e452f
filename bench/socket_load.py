"""The load generator that holds on: thousands of WebSockets or streams at once, and what a server spends on them.

    python -m bench.socket_load --run '{"kind": "held", "url": "http://127.0.0.1:4003/v1/chat/completions",
        "connections": 100, "seconds": 3, "watch": 1234}'

    messages   so many WebSockets; `rate` pings a second over all of them, each on the next one in a shuffled order
    streams    so many WebSockets, with `streams` times `chat:stream` each, of a provider that stamps its events
    held       so many SSE streams over HTTP, of a provider that says a word every two seconds

Prints one JSON object (`Outcome`).

Rule: an answer that is wrong, or that nobody asked for, or a connection that ends by itself is a fault; what belongs to
the window counts there even if it comes late, and nothing else does. A ping counts from the moment it was due, the
schedule's grain being a millisecond. Memory is what the server's process has resident, the kernel's part of a socket is
not in it. Bounded in time; loopback only. Absent: clients that read slowly, reconnects.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar, cast
from urllib.parse import urlsplit

import orjson
import uvloop

from bench import frames, process, wire
from bench.load import Listener, Tally
from bench.reader import BadReplyError
from bench.run import Spread
from bench.socket_run import GRACE, OPENS_WITHIN, Job, Outcome

_AT_ONCE = 100
_GRAIN = 0.001
_RAMP = 1.0  # seconds over which streams are begun
_SLACK = 1.5  # seconds that streams last longer than ramp, warm-up and window
_SETTLE = 0.3
_AT = b'"chunk":"@'


class Socket(asyncio.Protocol):
    """One WebSocket. `hear` is called with every text message; `ready` when the handshake is done, or the end came."""

    def __init__(self, load: Load, hear: Callable[[Socket, bytes], None]) -> None:
        self._handshake, self._tally, self._hear = frames.handshake(load.path, load.port), load.tally, hear
        self._frames, self._ended = frames.Frames(), False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.due: list[tuple[int, float]] = []  # pings under way: the number, and from when it counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class: same methods, no common base
        self._transport.write(self._handshake)

    def say(self, message: bytes) -> None:
        """Nothing once the connection is lost: that is a fault already, and what was to be answered is missed."""
        if not self._ended:
            self._transport.write(frames.text(message))

    def data_received(self, data: bytes) -> None:
        reader = self._frames
        try:
            texts = reader.feed(data)
        except frames.BadFrameError as fault:
            self._end(str(fault))
            return
        for message in texts:
            self._hear(self, message)
        if reader.pings:
            self._transport.write(b"".join(map(frames.pong, reader.pings)))
            reader.pings.clear()
        if reader.closed:
            self._end(reader.closed)
        elif reader.upgraded and not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection lost: {exc}")

    def _end(self, fault: str) -> None:
        if not self._ended:
            self._ended = True
            self._tally.fault(fault)
            self._transport.close()
        if not self.ready.done():
            self.ready.set_result(None)


class Held(Listener):
    """One SSE stream. `ready` when its head has come, or its end; `spoke` when it spoke in the window."""

    spoke = False

    def __init__(self, request: bytes, tally: Tally) -> None:
        super().__init__(request, tally)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._begun()

    def _events(self, pieces: list[bytes]) -> None:
        if self._reader.status != 200:
            raise BadReplyError(f"status {self._reader.status}: {b''.join(pieces)[:300]!r}")
        before = self._tally.units
        super()._events(pieces)
        self.spoke = self.spoke or self._tally.units > before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._begun()

    def _begun(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)


Opened = TypeVar("Opened", Socket, Held)


class Load(ABC):
    """What all kinds share: opening, the window, the memory."""

    def __init__(self, job: Job) -> None:
        url = urlsplit(job.url)
        self.host, self.port, self.path = url.hostname or "", url.port or 80, url.path
        if not ipaddress.ip_address(self.host).is_loopback:
            raise SystemExit(f"{self.host} is not a loopback address: this only measures its own machine")
        self.job = job
        self.tally = Tally(job.watch, most=0)
        self.late: list[float] = []
        self.whole = self.apart = 0
        self._memory: list[float] = []
        self._opened, self._opening, self._load_cpu = 0, 0.0, 0.0

    @abstractmethod
    async def run(self) -> None:
        """Opens, warms up, measures."""

    async def open(self, make: Callable[[], Opened], first: Callable[[Opened], None] | None = None) -> list[Opened]:
        """All connections, the first one alone: once it is served the server has loaded what it needs."""
        opened = await self._wave(make, 1)
        if first is not None:
            first(opened[0])
        await asyncio.sleep(_SETTLE)
        self.weigh()
        began = perf_counter()
        while (left := self.job.connections - len(opened)) > 0:
            if perf_counter() - began > OPENS_WITHIN:
                raise SystemExit(f"only {len(opened)} of {self.job.connections} opened within {OPENS_WITHIN:.0f} s")
            opened += await self._wave(make, min(_AT_ONCE, left))
        self._opened, self._opening = len(opened), perf_counter() - began
        await asyncio.sleep(_SETTLE)
        self.weigh()
        return opened

    async def _wave(self, make: Callable[[], Opened], count: int) -> list[Opened]:
        loop = asyncio.get_running_loop()
        pairs = await asyncio.gather(*(loop.create_connection(make, self.host, self.port) for _ in range(count)))
        wave = [protocol for _, protocol in pairs]
        _, pending = await asyncio.wait([one.ready for one in wave], timeout=GRACE)
        if pending:
            raise SystemExit(f"{len(pending)} of {count} connections got no answer within {GRACE:.0f} s")
        return wave

    def weigh(self) -> None:
        self._memory.append(process.resident_megabytes(self.job.watch))

    def begin(self) -> None:
        self._load_cpu = self._spent()
        self.tally.begin()

    def end(self) -> None:
        self.tally.end()
        self._load_cpu = self._spent() - self._load_cpu

    def _spent(self) -> float:
        return process.cpu_seconds(os.getpid()) + (process.cpu_seconds(self.job.provider) if self.job.provider else 0.0)

    def outcome(self) -> Outcome:
        first, full, last = self._memory
        busy = self._load_cpu / self.tally.seconds * 100
        opened = self._opened, self._opening
        memory, late = (first, full, last), Spread.of(self.late)
        return Outcome(self.tally.result(), *opened, self.whole, self.apart, memory, busy, late)


class Messages(Load):
    """Pings at a fixed rate, whatever comes back."""

    _counted = 0  # the first ping of the window

    async def run(self) -> None:
        job, tally = self.job, self.tally
        sockets = await self.open(lambda: Socket(self, self._hear), lambda one: self._ping(one, -1, perf_counter()))
        random.Random(1).shuffle(sockets)  # neighbours in time are no neighbours in the server's memory
        self._counted, total = round(job.rate * job.warm_up), round(job.rate * (job.warm_up + job.seconds))
        sent = tick = 0
        start = perf_counter()
        while sent < total:
            tick += 1
            due = start + tick * _GRAIN
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            now = perf_counter()
            if sent >= self._counted:
                if not tally.open:
                    self.begin()
                self.late.append(max(0.0, now - due))
            upto = min(total, round(tick * _GRAIN * job.rate))
            for number in range(sent, upto):
                self._ping(sockets[number % len(sockets)], number, now if now - due <= _GRAIN else due)
            sent = upto
        self.end()
        until = perf_counter() + GRACE
        while self.whole < total + 1 and perf_counter() < until:  # noqa: ASYNC110 - the last answers
            await asyncio.sleep(0.01)
        if self.whole != total + 1:
            tally.fault(f"{total + 1} pings, {self.whole} answers")
        self.weigh()

    def _ping(self, socket: Socket, number: int, since: float) -> None:
        socket.due.append((number, since))
        socket.say(b'{"event":"ping","payload":{},"ref":%d}' % number)

    def _hear(self, socket: Socket, message: bytes) -> None:
        said = orjson.loads(message)
        if said["event"] == "connected":
            return
        number, since = socket.due.pop(0) if socket.due else (None, 0.0)
        if said["event"] != "pong" or number is None or said.get("ref") != number:
            self.tally.fault(f"ping {number} was answered {message[:300]!r}")
            return
        self.whole += 1
        if number >= self._counted:
            self.tally.units += 1
            self.tally.latencies.append(perf_counter() - since)


class Streams(Load):
    """`chat:stream`s on all connections. The window opens once each has spoken, or after the grace, and closes before
    any is complete: where a machine is too busy for them to run side by side, `apart` says so. Units are the events
    that came in the window; ages are those of the events that the provider sent in it, whenever they came.
    """

    _silent = _heard = 0  # streams that have not spoken; events of all of them
    _opened_at = _closed_at = 1 << 63  # the window, on the clock of the stamps

    async def run(self) -> None:
        job, tally = self.job, self.tally
        sockets = await self.open(lambda: Socket(self, self._hear))
        self._silent = count = job.connections * job.streams
        lasting = int((_RAMP + job.warm_up + job.seconds + _SLACK) * wire.EVENTS_A_SECOND)
        body = wire.chat_body(stream=True, events=lasting)
        began = perf_counter()
        for number in range(count):
            sockets[number % len(sockets)].say(b'{"event":"chat:stream","ref":%d,"payload":%b}' % (number, body))
            if (early := began + _RAMP * number / count - perf_counter()) > 0:
                await asyncio.sleep(early)
        await self._until(lambda: not self._silent, GRACE)
        await asyncio.sleep(job.warm_up)
        self.begin()
        self._opened_at = time.monotonic_ns()
        await self._until(lambda: self.whole > 0, job.seconds)
        self._closed_at = time.monotonic_ns()
        self.end()
        self.apart = self._silent + self.whole
        await self._until(lambda: self.whole == count, GRACE)
        if self.whole == count and self._heard != count * lasting:
            tally.fault(f"{count} streams are complete with {self._heard} events instead of {count * lasting}")
        self.weigh()

    async def _until(self, there: Callable[[], bool], seconds: float) -> None:
        until = perf_counter() + seconds
        while not there() and not self.tally.faults and perf_counter() < until:  # noqa: ASYNC110 - see Messages
            await asyncio.sleep(0.01)

    def _hear(self, _socket: Socket, message: bytes) -> None:
        at = message.find(_AT)
        if at < 0:
            self._told(message)
            return
        now, tally, count = time.monotonic_ns(), self.tally, 0
        start = at + len(_AT)
        while True:
            sent = int(message[start : start + wire.STAMP_DIGITS])
            if self._opened_at <= sent < self._closed_at:
                tally.latencies.append((now - sent) / 1e9)
            count += 1
            start += wire.STAMP_DIGITS + 1
            if message[start - 1] != _AT[-1]:  # the text of two events and more, in one message
                break
        self._heard += count
        if tally.open:
            tally.units += count
        elif self._silent and orjson.loads(message)["payload"]["index"] == 0:
            self._silent -= 1

    def _told(self, message: bytes) -> None:
        event = orjson.loads(message)["event"]
        if event == "stream:complete":
            self.whole += 1
        elif event not in {"connected", "stream:started"}:
            self.tally.fault(f"told {message[:300]!r}")


class Holding(Load):
    """SSE streams that say little, for a while; the window is the end of it, a little longer than they are silent."""

    async def run(self) -> None:
        body = wire.chat_body(stream=True, events=10_000)
        request = wire.request(self.path, self.port, body)
        streams = await self.open(lambda: Held(request, self.tally))
        await asyncio.sleep(self.job.seconds)
        self.begin()
        await asyncio.sleep(wire.HELD_INTERVAL + 0.5)
        self.end()
        self.weigh()
        self.whole = sum(stream.spoke and not stream.ended.done() for stream in streams)


KINDS: dict[str, type[Load]] = {"messages": Messages, "streams": Streams, "held": Holding}


async def perform(job: Job) -> Outcome:
    """Raises SystemExit when it cannot be measured, OSError when nothing listens."""
    load = KINDS[job.kind](job)
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: load.tally.fault(f"{context['message']}: {context.get('exception')!r}")
    )
    await load.run()
    return load.outcome()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.socket_load")
    flags.add_argument("--run", required=True, help="a Job as JSON")
    job = Job(**orjson.loads(flags.parse_args().run))
    gc.disable()  # a pause here would be read as the server's; a run is bounded, so is what it leaves behind
    print(orjson.dumps(uvloop.run(perform(job))).decode())


if __name__ == "__main__":
    main()
