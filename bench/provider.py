"""The fake provider: an OpenAI-compatible server that must never be what limits a measurement.

    python -m bench.provider --port P

    POST /fast/v1/chat/completions    the answer, or the whole stream of 100 events, in one write
    POST /paced/v1/chat/completions   a stream of `max_tokens` stamped events, 50 a second, one write (one packet) each
    POST /held/v1/chat/completions    the same, an event at once and then one every two seconds
    POST /MODE/NAME/v1/...            slow and failing answers: see faults.py
    GET  /stats                       connections and requests so far, and those of each MODE/NAME, as JSON
    GET  /reset                       the same; then the numbers of each MODE/NAME begin anew
    GET  .../models                   the one model, for servers that look

Rule: of a request it reads the content length, the path and whether a stream is wanted; answers are made at start.
Absent: JSON parsing, chunked requests (refused, so that it is seen), embeddings.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import time
from collections.abc import Callable
from typing import cast

import orjson
import uvloop

from bench import wire
from bench.faults import Late, Ways

_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_REFUSAL = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_0f9c2d7c4be14ab39a7e6f0b1c1f52aa\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_END = wire.chunk(wire.DONE) + b"0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream":\s*true')
_EVENTS = re.compile(rb'"max_tokens":\s*(\d+)')

ANSWER = _JSON % (len(wire.answer()), wire.answer())
# One chunk an event, as servers write them that flush each token; all of it ready to go in one write.
FAST_STREAM = _STREAM_HEAD + b"".join(map(wire.chunk, wire.events())) + _END
MODELS = orjson.dumps({"object": "list", "data": [{"id": wire.MODEL, "object": "model", "owned_by": "bench"}]})


class Stats:
    """What `/stats` tells: enough to see whether a gateway reuses its connections."""

    __slots__ = ("connections", "open", "requests", "streams", "ways")

    def __init__(self) -> None:
        self.connections = self.open = self.requests = self.streams = 0
        self.ways = Ways()

    def answer(self) -> bytes:
        numbers = {name: getattr(self, name) for name in self.__slots__ if name != "ways"}
        text = orjson.dumps({**numbers, "modes": self.ways.requests()})
        return _JSON % (len(text), text)


class PacedStream:
    """One stream in the wheel: writes an event each time its turn comes, until its events are used up."""

    __slots__ = ("_after", "_before", "_left", "_write", "closed")

    def __init__(self, write: Callable[[bytes], None], events: int) -> None:
        before, after = wire.stamped_event()
        size = len(before) + wire.STAMP_DIGITS + len(after)
        self._before, self._after = b"%x\r\n%b" % (size, before), after + b"\r\n"
        self._write, self._left, self.closed = write, events, False
        write(_STREAM_HEAD)

    def turn(self) -> bool:
        """False when the stream has ended."""
        if self.closed:
            return False
        self._left -= 1
        if self._left < 0:
            self._write(wire.chunk(wire.event({}, "stop")) + wire.chunk(wire.usage_event()) + _END)
            return False
        self._write(b"%b%020d%b" % (self._before, time.monotonic_ns(), self._after))
        return True


class Wheel:
    """One timer for all streams of a pace: slots of a millisecond, each stream in one of them, a turn each round."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slots: int) -> None:
        self._loop = loop
        self._slots: list[list[PacedStream]] = [[] for _ in range(slots)]
        self._next_slot = self._tick = self._streams = 0
        self._start = 0.0

    def add(self, stream: PacedStream) -> None:
        if not self._streams:
            self._start, self._tick = self._loop.time(), 0
            self._loop.call_later(0.001, self._turn)
        self._streams += 1
        self._slots[self._next_slot].append(stream)
        # Stepping by 7 spreads neighbours: streams that arrive together do not speak in one burst.
        self._next_slot = (self._next_slot + 7) % len(self._slots)

    def _turn(self) -> None:
        due = int((self._loop.time() - self._start) * 1000)
        while self._tick < due:
            self._tick += 1
            slot = self._tick % len(self._slots)
            streams = self._slots[slot]
            kept = [stream for stream in streams if stream.turn()]
            self._streams -= len(streams) - len(kept)
            self._slots[slot] = kept
        if self._streams:
            self._loop.call_later(0.001, self._turn)


class Connection(asyncio.Protocol):
    """One keep-alive connection. Requests are answered in order; a paced stream ends before the next one is read."""

    def __init__(self, stats: Stats, wheel: Wheel, slow: Wheel) -> None:
        self._stats, self._wheel, self._slow = stats, wheel, slow
        self._buffer = b""
        self._paced: PacedStream | None = None
        self._late: Late | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class: same methods, no common base
        self._stats.connections += 1
        self._stats.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._stats.open -= 1
        if self._paced is not None:
            self._paced.closed = True
        if self._late is not None:
            self._late.cancel()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            length = _LENGTH.search(data, 0, end)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(data) < stop:
                break
            if length is None and data.startswith(b"POST"):
                self._refuse(b"411 Length Required")
                return
            self._answer(data, end, stop)
            data = data[stop:]
        self._buffer = data

    def _answer(self, data: bytes, end: int, stop: int) -> None:
        path = data[data.find(b" ") + 1 : data.find(b" HTTP/", 0, end)]
        if path.endswith(b"/chat/completions"):
            self._chat(path, data, end, stop)
        elif path in {b"/stats", b"/reset"}:
            self._transport.write(self._stats.answer())
            if path == b"/reset":
                self._stats.ways.reset()
        elif path.endswith(b"/models"):
            self._transport.write(_JSON % (len(MODELS), MODELS))
        else:
            self._refuse(b"404 Not Found")

    def _chat(self, path: bytes, data: bytes, end: int, stop: int) -> None:
        self._stats.requests += 1
        if (way := self._stats.ways.of(path)) is not None:
            self._late = way.begin(self._transport.write)
            return
        if not _STREAM.search(data, end, stop):
            self._transport.write(ANSWER)
            return
        self._stats.streams += 1
        if path.startswith((b"/paced/", b"/held/")):
            asked = _EVENTS.search(data, end, stop)
            self._paced = PacedStream(self._transport.write, int(asked[1]) if asked else wire.EVENTS)
            if path.startswith(b"/held/"):
                self._paced.turn()
                self._slow.add(self._paced)
            else:
                self._wheel.add(self._paced)
        else:
            self._transport.write(FAST_STREAM)

    def _refuse(self, status: bytes) -> None:
        self._transport.write(_REFUSAL % status)
        self._transport.close()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    stats, wheel, slow = Stats(), Wheel(loop, 1000 // wire.EVENTS_A_SECOND), Wheel(loop, 1000 * wire.HELD_INTERVAL)
    server = await loop.create_server(lambda: Connection(stats, wheel, slow), "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.provider")
    flags.add_argument("--port", type=int, required=True)
    gc.freeze()  # what exists now lives for ever: the collector need not walk it while we are measured
    uvloop.run(serve(flags.parse_args().port))


if __name__ == "__main__":
    main()
