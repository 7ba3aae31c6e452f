"""The load generator: a closed loop of keep-alive connections, or many paced streams at once.

    python -m bench.load --url http://127.0.0.1:4003/v1/chat/completions --connections 32 [--stream | --paced]

Prints one JSON object (`Result`). `--watch PID` reads that server's CPU time over exactly the measured seconds.

Rule: every reply is checked (status 200; a stream ends with [DONE]; each 16th is read whole), a connection with a
fault is not used again; bounded in time and number of calls; loopback only. Absent: TLS, open-loop arrival,
correction for coordinated omission: a closed loop shows what a server can do, not what its users feel in a rush.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import time
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import orjson
import uvloop

from bench import process, wire
from bench.reader import BadReplyError, Reader
from bench.run import Result, Run, Spread

_SAMPLE = 16
_RAMP = 1.0  # seconds over which paced streams are opened
_SLACK = 1.5  # seconds a paced stream lasts longer than ramp and measurement


@dataclass(slots=True)
class Tally:
    """What the connections of one run write down while the window is open."""

    watch: int | None
    most: int
    open: bool = False
    over: bool = False
    calls: int = 0
    units: int = 0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    faults: int = 0
    first_fault: str | None = None
    started: float = 0.0
    seconds: float = 0.0
    cpu: float | None = None
    waited: float | None = None

    def begin(self) -> None:
        if self.watch:
            self.cpu, self.waited = process.cpu_seconds(self.watch), process.waited_seconds(self.watch)
        self.started, self.open = perf_counter(), True

    def end(self) -> None:
        self.open = False
        self.seconds = perf_counter() - self.started
        if self.watch and self.cpu is not None and self.waited is not None:
            self.cpu = process.cpu_seconds(self.watch) - self.cpu
            self.waited = process.waited_seconds(self.watch) - self.waited

    def result(self) -> Result:
        spreads = Spread.of(self.latencies), Spread.of(self.first_bytes)
        times = self.seconds, self.cpu, self.waited
        return Result(self.units, *times, *spreads, self.calls, self.faults, self.first_fault)

    def fault(self, text: str) -> None:
        self.faults += 1
        self.first_fault = self.first_fault or text


class Caller(asyncio.Protocol):
    """One connection of the closed loop: a reply's end sends the next request."""

    stream = False

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request, self._tally = request, tally
        self._reader = Reader()
        self._served = 0
        self._sent = self._first = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class: same methods, no common base
        self._call()

    def _call(self) -> None:
        self._reader.reset(keep=self._served % _SAMPLE == 0)
        self._first = 0.0
        self._sent = perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._first:
            self._first = perf_counter()
        try:
            if not self._reader.feed(data):
                return
            self._check()
        except BadReplyError as fault:
            self._stop(str(fault))
            return
        self._served += 1
        tally = self._tally
        tally.calls += 1
        if tally.open:
            now = perf_counter()
            tally.units += 1
            tally.latencies.append(now - self._sent)
            tally.first_bytes.append(self._first - self._sent)
        if tally.over or tally.calls >= tally.most:
            self._stop(None)
        else:
            self._call()

    def _check(self) -> None:
        reader = self._reader
        if reader.status != 200:
            text = b"".join(reader.kept) if reader.kept else b"..." + reader.tail
            raise BadReplyError(f"status {reader.status}: {text[:300]!r}")
        if self.stream and not reader.tail.endswith(wire.DONE):
            raise BadReplyError(f"a stream ended without [DONE]: ...{reader.tail!r}")
        if reader.kept is None:
            return
        payload = b"".join(reader.kept)
        if self.stream:
            if payload.count(b"data: ") != wire.EVENTS + 1:
                raise BadReplyError(f"a stream of {payload.count(b'data: ')} events")
        elif b'"usage"' not in payload or not payload.endswith(b"}"):
            raise BadReplyError(f"not a chat completion: {payload[:80]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(None if self._tally.over or self.ended.done() else f"connection lost: {exc}")

    def _stop(self, fault: str | None) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        if fault:
            self._tally.fault(fault)
        self._transport.close()


class StreamCaller(Caller):
    stream = True


class Listener(Caller):
    """One paced stream: its units are events, its latency the age of an event when it arrives."""

    stream = True
    _carry = b""

    def _call(self) -> None:
        super()._call()
        self._reader.reset(keep=True)

    def data_received(self, data: bytes) -> None:
        reader, tally = self._reader, self._tally
        try:
            ended = reader.feed(data)
            if reader.kept:
                self._events(reader.kept)
            if ended:
                reader.kept = None
                self._check()
        except BadReplyError as fault:
            self._stop(str(fault))
            return
        if ended:
            tally.calls += 1
            self._stop(None)

    def _events(self, pieces: list[bytes]) -> None:
        payload = self._carry + b"".join(pieces)
        pieces.clear()
        tally, end = self._tally, 0
        while (at := payload.find(wire.STAMP, end)) >= 0:
            start = at + len(wire.STAMP)
            if len(payload) < start + wire.STAMP_DIGITS:
                break
            end = start + wire.STAMP_DIGITS
            if tally.open:
                tally.units += 1
                tally.latencies.append((time.monotonic_ns() - int(payload[start:end])) / 1e9)
        # An event cut in two keeps its head until the rest is there; what is left after a whole one holds no stamp.
        rest = payload[end:]
        self._carry = b"" if rest.endswith(b"\n\n") else rest


async def perform(run: Run) -> Result:
    """Opens the connections, lets them warm up, measures, closes them. Raises OSError when nothing listens."""
    url = urlsplit(run.url)
    host, port = url.hostname or "", url.port or 80
    if not ipaddress.ip_address(host).is_loopback:
        raise SystemExit(f"{host} is not a loopback address: this load generator only measures its own machine")
    loop = asyncio.get_running_loop()
    tally = Tally(run.watch, run.most)
    loop.set_exception_handler(
        lambda _loop, context: tally.fault(f"{context['message']}: {context.get('exception')!r}")
    )
    kind = Listener if run.paced else StreamCaller if run.stream else Caller
    lasting = int((_RAMP + run.warm_up + run.seconds + _SLACK) * wire.EVENTS_A_SECOND) if run.paced else None
    request = wire.request(url.path, port, wire.chat_body(stream=run.stream or run.paced, events=lasting))
    callers: list[Caller] = []
    for _ in range(run.connections):
        _transport, caller = await loop.create_connection(lambda: kind(request, tally), host, port)
        callers.append(caller)
        if run.paced:
            await asyncio.sleep(_RAMP / run.connections)
    ends = [caller.ended for caller in callers]
    await asyncio.wait(ends, timeout=run.warm_up)
    tally.begin()
    await asyncio.wait(ends, timeout=run.seconds)
    tally.end()
    # Paced streams end by themselves, so that their ends are checked too; a closed loop stops with its next reply.
    tally.over = True
    _done, late = await asyncio.wait(ends, timeout=_RAMP + _SLACK + 5)
    if late:
        tally.fault(f"{len(late)} of {run.connections} replies never ended")
    return tally.result()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.load")
    flags.add_argument("--run", help="a Run as JSON, instead of all other flags")
    flags.add_argument("--url", help="of a chat endpoint on loopback")
    flags.add_argument("--connections", type=int, default=32)
    flags.add_argument("--seconds", type=float, default=3.0)
    flags.add_argument("--stream", action="store_true")
    flags.add_argument("--paced", action="store_true")
    flags.add_argument("--watch", type=int, help="pid of the server")
    given = vars(flags.parse_args())
    text = given.pop("run")
    if not text and not given["url"]:
        flags.error("--url is needed")
    run = Run(**(orjson.loads(text) if text else given))
    gc.disable()  # a pause here would be read as the server's; a run is bounded, so is what it leaves behind
    print(orjson.dumps(uvloop.run(perform(run)), option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
