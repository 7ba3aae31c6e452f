"""What a call made is freed when it is over, and not when Python's collector comes, which it seldom does here.

A stream or a failure that waits for the collector keeps its request, its answer's last blocks and its tracebacks: at a
few hundred calls a second that is tens of megabytes which no load needs.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from runestone.core.call import Call
from runestone.core.reply import Reply
from runestone.edge.websocket.stream import Stream
from runestone.gateway.coalesce import Flight
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.talk import talking
from tests.flows.test_relay_stream import DONE, ROLE, STOP
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import Seen, Wire

KINDS = (Call, Reply, Flight, Stream, web.Request, web.WebSocketResponse)
TIMES = 5


def alive() -> int:
    return sum(isinstance(thing, KINDS) for thing in gc.get_objects())


async def script(seen: Seen, wire: Wire) -> None:
    """Does what the user says."""
    said = seen.json["messages"][0]["content"].partition(" ")[0]
    if said == "fail":
        await wire.answer(b"{}", status=503)
        return
    await wire.begin_stream()
    await wire.chunk(ROLE)
    if said == "break":
        wire.close()
    elif said == "stay":
        await wire.left()
    else:
        await wire.chunk(STOP + DONE)
        await wire.end_stream()


async def ask(http: aiohttp.ClientSession, gate: Gateway, said: str, *, model: str = "m", stream: bool = True) -> None:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": said}]}
    headers = {"Connection": "close"}  # as the gateway does after a broken stream
    async with http.post(f"{gate.url}/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.read()


async def leave(http: aiohttp.ClientSession, gate: Gateway, said: str) -> None:
    """In the midst of the stream."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": said}]}
    async with http.post(f"{gate.url}/v1/chat/completions", json=body) as answer:
        await answer.content.readany()
        answer.close()


async def miss(http: aiohttp.ClientSession, gate: Gateway, _: str) -> None:
    """A path that is nowhere."""
    async with http.get(f"{gate.url}/v1/nowhere") as answer:
        await answer.read()


async def leave_batch(http: aiohttp.ClientSession, gate: Gateway, number: str) -> None:
    """A batch whose streams are under way."""
    lines = [
        {"body": {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"stay {number} {line}"}]}}
        for line in range(3)
    ]
    async with http.post(f"{gate.url}/v1/batch", json={"stream": True, "requests": lines}) as answer:
        await answer.content.readany()
        answer.close()


async def cancel(_: aiohttp.ClientSession, gate: Gateway, said: str) -> None:
    """A stream over a WebSocket, which is then lost."""
    async with talking(gate) as talk:
        await talk.control("cancel", await talk.start(said))
        talk.lose()


Way = Callable[[aiohttp.ClientSession, Gateway, str], Awaitable[None]]
WAYS: dict[str, Way] = {
    "a stream that is kept": lambda http, gate, number: ask(http, gate, f"speak {number}"),
    "a stream that breaks off": lambda http, gate, number: ask(http, gate, f"break {number}"),
    "a provider that fails": lambda http, gate, number: ask(http, gate, f"fail {number}", stream=False),
    "a call that is refused": lambda http, gate, number: ask(http, gate, number, model="no-such-model"),
    "a path that is nowhere": miss,
    "a client that leaves": lambda http, gate, number: leave(http, gate, f"stay {number}"),
    "a batch that is left": leave_batch,
    "a stream that is cancelled": lambda http, gate, number: cancel(http, gate, f"stay {number}"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_of_a_call_waits_for_the_collector(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, way: str
) -> None:
    """Each a few times, with the cache at work."""
    up = await provider(script)
    saving = '[cache]\n[breaker]\nenabled = false\n[websocket]\nresumable_for = "50ms"\n'
    gate = await gateway(relay(up.url, extra=saving), ENVIRON)
    await WAYS[way](http, gate, "first")
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for number in range(TIMES):
            await WAYS[way](http, gate, str(number))
        await until(lambda: alive() <= before)
    finally:
        gc.enable()
