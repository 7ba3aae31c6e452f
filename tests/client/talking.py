"""Providers that tests of the client talk to through a gateway, and the gateway's configuration for them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import Gateway
from tests.provider import Seen, Wire

UP = 'pool.warmup = 0\nrouting.retries = 0\n[providers.up]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'
FAST = '[providers.simulated.simulated]\nttft = "0ms"\ntokens_per_second = 0\n'
MODEL = "up/m"
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def ask(text: str = "hi") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def word(text: str) -> bytes:
    return chunk({"content": text})


def works(gate: Gateway) -> int:
    """How many streams and answers run for sessions."""
    sessions = gate.app.live.sessions
    everybody = [*sessions, *(session for session, _ in sessions._away.values())]
    return sum(len(session.works) for session in everybody)


class Words:
    """Answers "N" by N numbered words, each in a segment of its own."""

    def __init__(self, size: int = 0) -> None:
        self._size = size

    def text(self, count: int) -> str:
        return "".join(f"{number} {'x' * self._size}" for number in range(count))

    async def script(self, seen: Seen, wire: Wire) -> None:
        if not seen.json.get("stream"):
            await wire.answer(ANSWER)
            return
        await wire.begin_stream()
        await wire.chunk(ROLE)
        for number in range(int(seen.json["messages"][0]["content"])):
            await wire.chunk(word(f"{number} {'x' * self._size}"))
            await asyncio.sleep(0)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()


class Told:
    """Says of each stream what it is told, as it is told; answers questions that are no streams when it is let."""

    def __init__(self) -> None:
        self.streams: list[asyncio.Queue[bytes | None]] = []
        self.release = asyncio.Event()
        self.release.set()

    async def script(self, seen: Seen, wire: Wire) -> None:
        if not seen.json.get("stream"):
            await self._answer(wire)
            return
        told = asyncio.Queue[bytes | None]()
        self.streams.append(told)
        await wire.begin_stream()
        await wire.chunk(ROLE)
        leaving = asyncio.ensure_future(wire.left(30))
        leaving.add_done_callback(lambda _: told.put_nowait(None))
        while block := await told.get():
            await wire.chunk(block)
        if leaving.done():
            wire.close()
        else:
            leaving.cancel()
            await wire.end_stream()

    async def _answer(self, wire: Wire) -> None:
        released, left = asyncio.ensure_future(self.release.wait()), asyncio.ensure_future(wire.left(30))
        await asyncio.wait((released, left), return_when=asyncio.FIRST_COMPLETED)
        if released.done():
            left.cancel()
            await wire.answer(ANSWER)
        else:
            released.cancel()
            wire.close()

    def say(self, *texts: str, stream: int = 0) -> None:
        for text in texts:
            self.streams[stream].put_nowait(word(text))

    def end(self, stream: int = 0) -> None:
        self.streams[stream].put_nowait(STOP + DONE)
        self.streams[stream].put_nowait(None)


def everything(error: BaseException, seen: set[int] | None = None) -> str:
    """All that an error holds, with the errors it came from."""
    known = seen if seen is not None else set()
    if id(error) in known:
        return ""
    known.add(id(error))
    fields: dict[str, Any] = dict(vars(error))
    said = [repr(error), str(error), repr(error.args), repr(fields)]
    said += [repr(vars(value)) for value in fields.values() if hasattr(value, "__dict__")]
    for inner in (error.__cause__, error.__context__):
        if inner is not None:
            said.append(everything(inner, known))
    return "\n".join(said)
