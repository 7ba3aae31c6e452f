"""Streams through the gateway, same dialect on both sides: every byte passes, and an end that is none is said to be
none.
"""

from __future__ import annotations

import random

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, settled, until
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire


def chunk(delta: object, finish: str | None = None, index: int = 0, **extra: object) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    return b"data: " + orjson.dumps({"id": "c1", "model": "m-2", "choices": choices, **extra}) + b"\n\n"


ROLE = chunk({"role": "assistant"})
STOP = chunk({}, "stop")
USAGE = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAMS = {
    "plain": ROLE + chunk({"content": "he"}) + chunk({"content": "llo"}) + STOP + USAGE + DONE,
    "crlf": (ROLE + chunk({"content": "hé"}) + STOP + DONE).replace(b"\n", b"\r\n"),
    "comments": b": ping\n\n" + ROLE + b":\n" + chunk({"content": "x"}) + b": OPENROUTER PROCESSING\n\n" + STOP + DONE,
    "event lines": b"event: message\nid: 7\n" + ROLE + STOP + DONE,
    "multi-line data": b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"x"}}]}\n\n' + STOP + DONE,
    "unicode": ROLE
    + 'data: {"choices":[{"index":0,"delta":{"content":"日本語 \U0001f9ff"}}]}\n\n'.encode()
    + STOP
    + DONE,
    "interleaved": ROLE
    + chunk({"content": "a"}, index=1)
    + chunk({"content": "b"})
    + chunk({}, "stop", 1)
    + STOP
    + DONE,
    "no last newline": ROLE + STOP + b"data: [DONE]",
    "one newline": ROLE + STOP + b"data: [DONE]\n",
    "no space": ROLE + STOP + b"data:[DONE]\n\n",
    "a megabyte in one line": ROLE + chunk({"content": "x" * 1_000_000}) + STOP + DONE,
    "[DONE] as text": ROLE + chunk({"content": "\ndata: [DONE]\n\n"}) + STOP + DONE,
}
ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def sliced(data: bytes, how: str) -> list[bytes]:
    """The stream cut into pieces: whole, byte by byte, or at random but always the same places."""
    if how == "whole":
        return [data]
    if how == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    dice = random.Random(7)
    pieces = []
    while data:
        size = dice.choice((1, 2, 3, 17, 100, 4096))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


async def serve_stream(provider: StartProvider, pieces: list[bytes], *, end: str = "clean") -> FakeProvider:
    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for piece in pieces:
            await wire.chunk(piece)
        if end == "clean":
            await wire.end_stream()
        elif end == "fin":
            wire.close()
        else:
            wire.reset()

    return await provider(script)


async def ask(http: aiohttp.ClientSession, gate: Gateway, **more: object) -> tuple[aiohttp.ClientResponse, bytes]:
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, **more}) as response:
        return response, await response.read()


@pytest.mark.parametrize("how", ["whole", "bytes", "random"])
@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_passes_byte_for_byte(
    name: str, how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Whatever a provider's stream looks like and wherever reads cut it, the client gets the same bytes."""
    stream = STREAMS[name]
    if how == "bytes" and len(stream) > 10_000:
        stream = stream.replace(b"x" * 1_000_000, b"x" * 1000)
    up = await serve_stream(provider, sliced(stream, how))
    gate = await gateway(relay(up.url), ENVIRON)
    response, body = await ask(http, gate)
    assert response.status == 200
    assert body == stream
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"


async def test_a_block_leaves_as_it_arrives(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The client has an event before the provider has sent the next one."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for event in (ROLE, chunk({"content": "a"}), STOP + DONE):
            await wire.chunk(event)
            await until(lambda event=event: event in received)  # type: ignore[misc]
        await wire.end_stream()

    received = bytearray()
    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        async for data in response.content.iter_any():
            received += data
    assert received.endswith(DONE)


@pytest.mark.parametrize("end", ["clean", "fin", "reset"])
@pytest.mark.parametrize(
    "kept", [ROLE, ROLE + chunk({"content": "he"}), ROLE + STOP, ROLE + chunk({"content": "x"})[:40]]
)
async def test_a_cut_stream_ends_in_an_error_event(
    kept: bytes, end: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A stream without its end marker ends in an error: no finish_reason, no [DONE], no half event, and the
    connection closes.
    """
    up = await serve_stream(provider, [kept], end=end)
    gate = await gateway(relay(up.url), ENVIRON)
    response, body = await ask(http, gate)
    whole = kept[: kept.rfind(b"\n\n") + 2]
    assert body.startswith(whole)
    last = body[len(whole) :]
    assert last.startswith(b"data: ")
    assert last.endswith(b"\n\n")
    error = orjson.loads(last[6:])["error"]
    assert (error["type"], error["code"]) == ("api_error", "provider_error")
    assert b"[DONE]" not in body
    assert response.connection is None or response.connection.closed


async def test_a_stream_cut_before_its_first_event_is_a_502(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """As long as nothing has been said, a broken stream is an error with a status."""
    up = await serve_stream(provider, [], end="fin")
    gate = await gateway(relay(up.url), ENVIRON)
    response, body = await ask(http, gate)
    assert response.status == 502
    assert orjson.loads(body)["error"]["code"] == "provider_error"


async def test_the_providers_own_error_event_is_not_said_twice(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An error event of the provider passes as it is, and nothing is added to it."""
    stream = ROLE + b'event: error\ndata: {"error":{"message":"tool failed","code":"tool_use_failed"}}\n\n'
    up = await serve_stream(provider, [stream])
    gate = await gateway(relay(up.url), ENVIRON)
    _, body = await ask(http, gate)
    assert body == stream


async def test_a_provider_without_done_ends_with_its_last_finish_reason(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With the quirk `ends_with_done = false` a finish reason for every choice is the end; for one of two it is not."""
    whole = ROLE + chunk({"content": "a"}, "stop", 1) + STOP
    up = await serve_stream(provider, [whole])
    gate = await gateway(relay(up.url, extra="ends_with_done = false"), ENVIRON)
    _, body = await ask(http, gate, n=2)
    assert body == whole
    _, body = await ask(http, gate, n=3)
    assert b"provider_error" in body


async def test_a_whole_answer_to_a_streamed_call_is_a_502(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An answer that is not a stream is not passed off as one."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer({"choices": []})

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    response, _ = await ask(http, gate)
    assert response.status == 502


async def test_an_endless_event_is_broken_off(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event larger than the bound ends the stream instead of filling memory."""
    monkeypatch.setattr("runestone.dialects.sse.MAX_EVENT", 100_000)
    up = await serve_stream(provider, [ROLE, b"data: " + b"x" * 200_000])
    gate = await gateway(relay(up.url), ENVIRON)
    _, body = await ask(http, gate)
    assert b"100000 bytes" in body
    assert len(body) < 1000


async def test_a_slow_reader_slows_the_provider(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A client that does not read stops the provider's socket: what waits in between is bounded."""
    sent = 0
    event = chunk({"content": "x" * 60_000})

    async def script(seen: Seen, wire: Wire) -> None:
        nonlocal sent
        await wire.begin_stream()
        for _ in range(2000):
            await wire.chunk(event)
            sent += len(event)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        await response.content.read(1)
        stalled_at = await settled(lambda: sent)
        assert stalled_at < 60_000_000
        body = 1
        async for data in response.content.iter_any():
            body += len(data)
    assert body == 2000 * len(event) + len(STOP + DONE)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_provider_that_holds_on_behind_the_end_is_not_waited_for(
    silent: bool, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Behind the end marker nothing is owed: the client's stream is over whether or not the provider hangs up."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(STREAMS["plain"])
        if not silent:
            await wire.chunk(b": bye\n\n")
        await wire.left()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    _, body = await ask(http, gate)
    assert body == STREAMS["plain"] + (b"" if silent else b": bye\n\n")
    await until(lambda: up.open == 0)
