"""The fake provider of the soak: all that provider.py does, and what goes wrong with streams and connections.

    python -m bench.soak_provider --port P

    POST /broken/v1/chat/completions   a reset, an answer torn in its midst, garbled, silent ...: the next of FAULTS
    POST /long/v1/chat/completions     a stream of 2,000 events (400 KB) in one write, for those who read slowly

Rule: as in faults.py, what becomes of a call depends on nothing but its number.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import struct
from collections.abc import Iterator
from itertools import cycle

import uvloop

from bench import wire
from bench.provider import ANSWER, FAST_STREAM, Connection, Stats, Wheel

FAULTS = ("reset", "torn", "torn by a reset", "garbled", "no end marker", "silent", "closed")
_GARBLED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n<html>Oops!"
_LINGER = struct.pack("ii", 1, 0)  # a close is a reset
_READ_FIRST = 0.05  # seconds: a reset sweeps away what was not read before it


def _long() -> bytes:
    head, line, _ = FAST_STREAM.partition(b"\r\n\r\n")
    *words, stop, usage = map(wire.chunk, wire.events())
    return b"".join((head, line, *words * 20, stop, usage, wire.chunk(wire.DONE), b"0\r\n\r\n"))


LONG = _long()


class Faulty(Connection):
    """One connection of the gateway; `faults` are shared by all."""

    def __init__(self, stats: Stats, wheel: Wheel, slow: Wheel, faults: Iterator[str]) -> None:
        super().__init__(stats, wheel, slow)
        self._faults = faults

    def _chat(self, path: bytes, data: bytes, end: int, stop: int) -> None:
        if path.startswith(b"/long/"):
            self._transport.write(LONG)
        elif path.startswith(b"/broken/"):
            self._fail(next(self._faults), FAST_STREAM if b'"stream":true' in data[end:stop] else ANSWER)
        else:
            super()._chat(path, data, end, stop)

    def _fail(self, fault: str, answer: bytes) -> None:
        half = answer[: len(answer) // 2]
        match fault:
            case "reset":
                self._reset()
            case "torn":
                self._transport.write(half)
                self._transport.close()
            case "torn by a reset":
                self._transport.write(half)
                asyncio.get_running_loop().call_later(_READ_FIRST, self._reset)
            case "garbled":
                self._transport.write(_GARBLED)
            case "no end marker":
                self._transport.write(answer.replace(wire.chunk(wire.DONE), b""))
            case "silent":
                self._transport.write(half)
            case _:
                self._transport.close()

    def _reset(self) -> None:
        if not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            self._transport.abort()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    stats, wheel, slow = Stats(), Wheel(loop, 1000 // wire.EVENTS_A_SECOND), Wheel(loop, 1000 * wire.HELD_INTERVAL)
    faults = cycle(FAULTS)
    server = await loop.create_server(lambda: Faulty(stats, wheel, slow, faults), "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.soak_provider")
    flags.add_argument("--port", type=int, required=True)
    gc.freeze()
    uvloop.run(serve(flags.parse_args().port))


if __name__ == "__main__":
    main()
