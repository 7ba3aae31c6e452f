"""The load of the drill: so many calls a second and so many open streams, each answer compared with what it must be.

    python -m bench.drill_load --port P    until its stdin ends; then it prints a Report

Rule: an ordinary client, aiohttp's, with kept connections and without retries: what it is told to close it closes. A
call that fails in any way is a failure, and so is one that is answered wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import orjson
import uvloop

from bench.drill_provider import answer, events

CALLS, STREAMS = 500, 200
"""A second; at a time."""
TICK = 0.01
AT_ONCE = 256
"""Calls under way at most: one more waits, and is late."""
LENGTH = (10, 24)
"""Events of the shortest and of the longest stream: some seconds."""
PATIENCE = 30.0
MOST = 20


@dataclass(slots=True)
class Report:
    """What was seen. Times in seconds."""

    seconds: float = 0.0
    calls: int = 0
    late: int = 0
    """Calls that had to wait for others."""
    streams: int = 0
    open_least: int = 0
    """Streams that were open at a time, once all had begun."""
    failures: list[str] = field(default_factory=list)
    failed_calls: int = 0
    failed_streams: int = 0
    latency: dict[str, float] = field(default_factory=dict)
    connections: int = 0
    told_to_close: int = 0
    """Answers that said they were the last on their connection."""


class Load:
    """Runs until `end`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self._end = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._times: list[float] = []
        self._open = 0
        self._failures: Counter[str] = Counter()
        self.report = Report()

    async def run(self) -> Report:
        """All of it."""
        report, loop = self.report, asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: _UntilEnd(self._end), sys.stdin)
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._connected)
        async with (
            _session(AT_ONCE, trace) as calling,
            _session(0, trace) as streaming,
            asyncio.TaskGroup() as tasks,
        ):
            began = time.monotonic()
            for number in range(STREAMS):
                tasks.create_task(self._streams(streaming, number))
            tasks.create_task(self._look())
            await self._calls(calling, tasks)
            report.seconds = time.monotonic() - began
        report.failures = [f"{count} x {what}" for what, count in self._failures.most_common(MOST)]
        times = sorted(self._times)
        if times:
            report.latency = {name: times[int(len(times) * at)] for name, at in (("p50", 0.5), ("p99", 0.99))}
            report.latency["longest"] = times[-1]
        return report

    async def _calls(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        began = time.monotonic()
        while not self._end.is_set():
            due = int((time.monotonic() - began) * CALLS)
            while self.report.calls < due:
                if self._slots.locked():
                    self.report.late += 1
                await self._slots.acquire()
                self.report.calls += 1
                tasks.create_task(self._call(http, f"call {self.report.calls}"))
            await asyncio.sleep(TICK)

    async def _call(self, http: aiohttp.ClientSession, text: str) -> None:
        before = time.monotonic()
        try:
            async with http.post(self._url, data=_asking(text), headers=_HEAD) as response:
                self.report.told_to_close += response.headers.get("Connection") == "close"
                said = await response.read()
                if response.status != 200 or said != answer(text):
                    self._fail("call", f"{response.status} {said[:120]!r}")
        except (aiohttp.ClientError, OSError) as error:
            self._fail("call", repr(error))
        finally:
            self._slots.release()
            self._times.append(time.monotonic() - before)

    async def _streams(self, http: aiohttp.ClientSession, place: int) -> None:
        turn = 0
        shortest, longest = LENGTH
        while not self._end.is_set():
            count = shortest + (place + turn * 7) % (longest - shortest)
            turn += 1
            await self._stream(http, f"stream {place} {turn}", count)

    async def _stream(self, http: aiohttp.ClientSession, text: str, count: int) -> None:
        said = b""
        try:
            async with http.post(self._url, data=_asking(text, count), headers=_HEAD) as response:
                self._open += 1
                try:
                    said = await response.read()
                finally:
                    self._open -= 1
                if response.status != 200 or said != b"".join(events(text, count)):
                    self._fail("stream", f"{response.status} ...{said[-120:]!r}")
        except (aiohttp.ClientError, OSError) as error:
            self._fail("stream", repr(error))
        self.report.streams += 1

    async def _look(self) -> None:
        while self._open < STREAMS and not self._end.is_set():  # noqa: ASYNC110 - they are counted where they run
            await asyncio.sleep(TICK)
        least = self._open
        while not self._end.is_set():
            least = min(least, self._open)
            await asyncio.sleep(TICK)
        self.report.open_least = least

    def _fail(self, kind: str, what: str) -> None:
        self._failures[f"{kind}: {what}"] += 1
        if kind == "call":
            self.report.failed_calls += 1
        else:
            self.report.failed_streams += 1

    async def _connected(self, *_: object) -> None:
        self.report.connections += 1


class _UntilEnd(asyncio.Protocol):
    def __init__(self, end: asyncio.Event) -> None:
        self._end = end

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.set()


_HEAD = {"Content-Type": "application/json"}


def _asking(text: str, events: int | None = None) -> bytes:
    asked: dict[str, object] = {"model": "chat", "messages": [{"role": "user", "content": text}]}
    return orjson.dumps(asked if events is None else {**asked, "stream": True, "max_tokens": events})


def _session(limit: int, trace: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit), timeout=timeout, trace_configs=[trace], auto_decompress=False
    )


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.drill_load")
    flags.add_argument("--port", type=int, required=True)
    load = Load(flags.parse_args().port)
    print(orjson.dumps(uvloop.run(load.run())).decode())


if __name__ == "__main__":
    main()
