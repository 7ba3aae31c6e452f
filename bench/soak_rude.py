"""What visitors of the soak do that they should not: clients that leave at any point, and requests that are wrong.

Rule: as in soak_calls.py. Who leaves learns nothing, so nothing is checked there; what it leaves behind is what the
soak is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import orjson

from bench import wire
from bench.reader import BadReplyError
from bench.soak_calls import Visit
from bench.soak_client import Wrong

_LONGEST = 0.3  # seconds until somebody leaves
_CHAT = wire.CHAT_PATH


async def left(visit: Visit) -> None:
    """A client that leaves: with a reset or without, at a random point of a random call."""
    await visit.chance.choice(DEPARTURES)(visit)


async def _in_the_request(visit: Visit) -> None:
    """Before all of the request is sent, or before anything is."""
    text = visit.post(visit.ask("steady"))
    await _leave(visit, text[: visit.chance.randrange(len(text))])


async def _before_the_answer(visit: Visit) -> None:
    """While the gateway waits for a provider, or for a connection to one, or for other embeddings."""
    chance = visit.chance
    embedding = visit.post(
        orjson.dumps({"model": "bench-embedding", "input": f"left {next(visit.numbers)}"}), "/v1/embeddings"
    )
    model = chance.choice(("steady", "hung", "hung-first", "narrow", "flaky"))
    text = embedding if chance.random() < 0.2 else visit.post(visit.ask(model, stream=chance.random() < 0.5))
    await _leave(visit, text, chance.random() * _LONGEST)


async def _in_the_stream(visit: Visit) -> None:
    """In the midst of a stream, wherever the reads have cut it."""
    chance = visit.chance
    model = chance.choice(("fast", "paced", "held", "long", "broken-first"))
    headers = ("x-runestone-resumable: true",) if chance.random() < 0.2 else ()
    visit.called()
    async with visit.client.line() as line:
        line.say(visit.post(visit.ask(model, stream=True, events=200), headers=headers))
        with suppress(OSError, EOFError, BadReplyError):  # some of these fail, and before that it has left
            await line.begin()
            for _ in range(chance.randrange(10)):
                await line.more(chance.randrange(1, 4096))
        line.leave(rudely=chance.random() < 0.5)


async def _the_first_of_two(visit: Visit) -> None:
    """Two ask the same at once; the one whose call it became leaves, and the other has its answer all the same."""
    text = visit.post(visit.ask("steady"))
    visit.called()
    async with visit.client.line() as line:
        await line.say(text).writer.drain()
        other = asyncio.ensure_future(visit.call(text))
        try:
            await asyncio.sleep(visit.chance.random() * 0.02)
            line.leave(rudely=visit.chance.random() < 0.5)
            await other
        finally:
            other.cancel()


async def _a_handshake(visit: Visit) -> None:
    """In the midst of the handshake of a WebSocket, or right after it."""
    text = visit.get("/ws", headers=_UPGRADE)
    await _leave(visit, text[: visit.chance.randrange(len(text) // 2, len(text) + 1)], visit.chance.random() * 0.05)


async def _leave(visit: Visit, text: bytes, after: float = 0.0) -> None:
    visit.called()
    async with visit.client.line() as line:
        line.say(text)
        await asyncio.sleep(after)
        line.leave(rudely=visit.chance.random() < 0.5)


_UPGRADE = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: YmVuY2gtYmVuY2gtYmVuYw==")
DEPARTURES: tuple[Callable[[Visit], Awaitable[None]], ...] = (
    _in_the_request,
    _before_the_answer,
    _before_the_answer,
    _in_the_stream,
    _in_the_stream,
    _the_first_of_two,
    _a_handshake,
)


async def wrong(visit: Visit) -> None:
    """A request that is refused: with the right status, and nothing is left of it."""
    name = visit.chance.choice(tuple(WRONG))
    make, status = WRONG[name]
    visit.called()
    async with visit.client.line() as line:
        answer = await (await line.say(make(visit)).begin()).answer()
    if answer.status != status:
        raise Wrong(f"{name}: status {answer.status} instead of {status}: {answer.body[:200]!r}")
    visit.met(f"{status} {name}")


def _sized(size: int) -> Callable[[Visit], bytes]:
    """A head that promises such a body; the body never comes."""

    def make(visit: Visit) -> bytes:
        text = visit.post(b"")
        return text.replace(b"Content-Length: 0", b"Content-Length: %d" % size)

    return make


def _said(body: bytes, path: str = _CHAT) -> Callable[[Visit], bytes]:
    return lambda visit: visit.post(body, path)


WRONG: dict[str, tuple[Callable[[Visit], bytes], int]] = {
    "not JSON": (_said(b'{"model": '), 400),
    "no messages": (_said(b'{"model":"fast"}'), 400),
    "a field of the wrong kind": (_said(b'{"model":"fast","messages":"hello","stream":7}'), 400),
    "nested too deeply": (_said(b'{"model":"fast","messages":' + b"[" * 5000 + b"]" * 5000 + b"}"), 400),
    "an empty batch": (_said(b'{"requests":[]}', "/v1/batch"), 400),
    "an unknown model": (lambda visit: visit.post(visit.ask(f"no-model-{next(visit.numbers)}")), 404),
    "an unknown path": (lambda visit: visit.get(f"/v1/nothing/{next(visit.numbers)}"), 404),
    "an unknown stream": (lambda visit: visit.get(f"/v1/streams/stream_{next(visit.numbers)}"), 404),
    "a wrong method": (lambda visit: visit.get(_CHAT, "PUT"), 405),
    "a wrong key": (lambda visit: visit.post(visit.ask("fast"), key=f"sk-wrong-{next(visit.numbers)}"), 401),
    "a body too large": (_sized(10_000_000), 413),
    "a header line too long": (lambda visit: visit.get("/health", headers=("x-long: " + "x" * 20_000,)), 400),
    "not HTTP": (lambda visit: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello?\r\n\r\n", 400),
    "not a handshake": (lambda visit: visit.get("/ws"), 400),
}
