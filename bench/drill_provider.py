"""The provider of the drill: what it says is made of what it was asked, so that no answer can be taken for another's.

    python -m bench.drill_provider --port P

    POST .../chat/completions   JSON at once; a stream of `max_tokens` events, one every INTERVAL

Rule: the text of the last message is in every answer, and in every event beside its number.
Absent: errors, and everything else a provider can do.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import Any, cast

import orjson
import uvloop

from bench import wire

INTERVAL = 0.25
"""Seconds between two events."""
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


def answer(text: str) -> bytes:
    """The body of the answer to `text`."""
    message = {"role": "assistant", "content": f"answer to {text}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return orjson.dumps({"id": f"chatcmpl-{text}", "object": "chat.completion", "model": "m", "choices": [choice]})


def events(text: str, count: int) -> list[bytes]:
    """The events of the stream that answers `text`."""
    words = [wire.event({"content": f"{number} of {text} "}) for number in range(count)]
    return [*words, wire.event({}, "stop") + wire.DONE]


class Connection(asyncio.Protocol):
    """One kept connection; a stream ends before the next request is read."""

    def __init__(self) -> None:
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, max(end, 0))
        stop = end + 4 + (int(length[1]) if length else 0)
        if end < 0 or len(self._buffer) < stop:
            return
        body, self._buffer = self._buffer[end + 4 : stop], self._buffer[stop:]
        if body:
            self._answer(orjson.loads(body))
        else:  # a look whether somebody is there
            self._transport.write(_JSON % (2, b"{}"))

    def _answer(self, asked: dict[str, Any]) -> None:
        text = asked["messages"][-1]["content"]
        if asked.get("stream"):
            self._transport.write(_STREAM)
            self._say(events(text, asked["max_tokens"]))
        else:
            said = answer(text)
            self._transport.write(_JSON % (len(said), said))

    def _say(self, left: list[bytes]) -> None:
        first, *rest = left
        self._transport.write(wire.chunk(first) if rest else wire.chunk(first) + b"0\r\n\r\n")
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._say, rest) if rest else None


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.drill_provider")
    flags.add_argument("--port", type=int, required=True)
    uvloop.run(serve(flags.parse_args().port))


if __name__ == "__main__":
    main()
