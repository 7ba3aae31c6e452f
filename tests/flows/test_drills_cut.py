"""Answers cut behind every single byte, by a FIN and by a RST: never an invented end, and the pool is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider
from tests.flows.drill import ANSWER, ENVIRON, Heard, alone, answer, ask, at_rest, beside, client, scrape
from tests.provider import Script, Seen, Wire

NO_BREAKER = "[breaker]\nenabled = false\n"
AT_ONCE = 16


@dataclass(frozen=True)
class Recording:
    """An answer as it goes over the wire, and what of it is the body."""

    head: bytes
    parts: tuple[bytes, ...]
    is_chunked: bool

    @property
    def pieces(self) -> list[tuple[bytes, bytes]]:
        """(on the wire, in the body)."""
        if not self.is_chunked:
            return [(self.head, b""), *((part, part) for part in self.parts)]
        chunks = [
            piece for part in self.parts for piece in ((b"%x\r\n" % len(part), b""), (part, part), (b"\r\n", b""))
        ]
        return [(self.head, b""), *chunks, (b"0\r\n\r\n", b"")]

    @property
    def wire(self) -> bytes:
        return b"".join(wire for wire, _ in self.pieces)

    def body_at(self, cut: int) -> bytes:
        """The body of the first `cut` bytes."""
        body = b""
        for wire, part in self.pieces:
            body += part[: max(cut, 0)]
            cut -= len(wire)
        return body


def streamed(*parts: bytes) -> Recording:
    return Recording(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", parts, True
    )


BODY = orjson.dumps(ANSWER)
JSON = Recording(
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY), (BODY,), False
)
CHAT = streamed(
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',
    'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"hé"}}]}\n\n'.encode(),
    b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n' + b"data: [DONE]\n\n",
)
MESSAGES = streamed(
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","model":"x","usage":{}}}\n\n',
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"he"}}\n\n',
    b'data: {"type":"content_block_stop","index":0}\n\n',
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n',
    b'data: {"type":"message_stop"}\n\n',
)


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(client())


def cut_as_asked(recording: Recording) -> Script:
    """Sends as many bytes as the call says, then ends the connection as the call says; "http" ends the body alone, as
    HTTP does it, behind so many bytes of the body.
    """

    async def script(seen: Seen, wire: Wire) -> None:
        how, _, cut = seen.json["messages"][-1]["content"].partition(" ")
        if how == "http":
            await wire.begin_stream()
            await wire.chunk(recording.body_at(len(recording.wire))[: int(cut)])
            await wire.end_stream()
        else:
            await wire.send(recording.wire[: int(cut)])
            (wire.close if how == "fin" else wire.reset)()

    return script


def whole_events(body: bytes) -> bytes:
    return body[: body.rfind(b"\n\n") + 2] if b"\n\n" in body else b""


async def ask_each(ask_one: Callable[..., Awaitable[Heard]], how: str, cuts: range) -> dict[int, Heard]:
    """What was heard of each cut, a few at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(cut: int) -> Heard:
        async with turns:
            return await ask_one(text=f"{how} {cut}")

    return dict(zip(cuts, await asyncio.gather(*map(one, cuts)), strict=True))


def assert_cut(heard: Heard, recording: Recording, cut: int) -> bool:
    """A 502 while nothing had been said; then the provider's own events, and an error event unless its end was among
    them. Whether it counts as failed.
    """
    said = whole_events(recording.body_at(cut)) if recording.is_chunked else b""
    if not said:
        assert (heard.status, heard.error["code"]) == (502, "provider_error"), cut
    elif b"[DONE]" in said:
        assert (heard.status, heard.body) == (200, said), cut
        return False
    else:
        assert (heard.status, heard.said, heard.error["code"]) == (200, said, "provider_error"), cut
    return True


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("recording", [JSON, CHAT], ids=["json", "stream"])
async def test_a_cut_behind_any_byte_is_an_error(
    recording: Recording, how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Alone, a cut answer is a 502, or an error event behind the events that had come whole; each is counted, none
    keeps a slot or a connection, and the answer that is not cut passes.
    """
    up = await provider(cut_as_asked(recording))
    gate = await gateway(alone(up.url, more=NO_BREAKER), ENVIRON)
    one = partial(ask, http, gate, stream=recording.is_chunked)
    heard = await ask_each(one, how, range(len(recording.wire)))
    failed = [cut for cut, answer in heard.items() if assert_cut(answer, recording, cut)]
    pool = await at_rest(http, gate, "bad", up)
    assert (pool["acquired"], pool["opened"], pool["idle"]) == (len(heard), up.opened, 0)
    assert len(up.requests) == len(heard)
    metrics = await scrape(http, gate)
    begun = sum(answer.status == 200 for answer in heard.values())
    assert metrics.total("requests_total", provider="bad", status="200") == begun
    assert metrics.total("requests_total", provider="bad", status="502") == len(heard) - begun
    assert metrics.errors == {("provider", "provider_error"): len(failed)}
    uncut = await one(text=f"{how} {len(recording.wire)}")
    assert (uncut.status, uncut.body) == (200, recording.body_at(len(recording.wire)))


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("recording", [JSON, CHAT], ids=["json", "stream"])
async def test_a_cut_behind_any_byte_is_hidden_while_nothing_was_said(
    recording: Recording, how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Beside a target that is well, the client of a cut answer gets another one whole; only behind a first event it
    hears of the cut.
    """
    bad, good = await provider(cut_as_asked(recording)), await provider(answer)
    gate = await gateway(beside(bad.url, good.url, more=NO_BREAKER), ENVIRON)
    heard = await ask_each(partial(ask, http, gate, stream=recording.is_chunked), how, range(len(recording.wire)))
    moved = {cut: answer for cut, answer in heard.items() if answer.who == "good"}
    silent = {cut for cut in heard if not (recording.is_chunked and whole_events(recording.body_at(cut)))}
    assert moved.keys() == silent
    assert all(answer.is_whole for answer in moved.values())
    failed = [cut for cut in heard.keys() - silent if assert_cut(heard[cut], recording, cut)]
    assert (await at_rest(http, gate, "bad", bad))["idle"] == 0
    assert (await at_rest(http, gate, "good", good))["acquired"] == len(moved)
    metrics = await scrape(http, gate)
    assert metrics.extra == (0, len(moved))
    assert metrics.total("errors_total") == len(failed)
    assert metrics.total("requests_total", status="200") == len(heard)


@dataclass(frozen=True)
class Crossing:
    """A client and a provider that speak differently. `finish` and `end`: (what the provider writes, what the client
    reads).
    """

    kind: str
    base: str
    path: str
    recording: Recording
    finish: tuple[bytes, bytes]
    end: tuple[bytes, bytes]


CROSSINGS = {
    "openai client": Crossing(
        "anthropic",
        "",
        "/v1/chat/completions",
        MESSAGES,
        (b'"stop_reason":"end_turn"', b'"finish_reason":"stop"'),
        (b'{"type":"message_stop"}', b"[DONE]"),
    ),
    "anthropic client": Crossing(
        "openai-compatible",
        "/v1",
        "/v1/messages",
        CHAT,
        (b'"finish_reason":"stop"', b'"stop_reason":"end_turn"'),
        (b"[DONE]", b'"message_stop"'),
    ),
}


@pytest.mark.parametrize("how", ["fin", "rst", "http"])
@pytest.mark.parametrize("crossing", CROSSINGS.values(), ids=CROSSINGS)
async def test_no_end_is_invented_between_dialects(
    crossing: Crossing, how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Where the gateway writes the client's stream itself, a finish reason and an end stand there only if the
    provider had written its own; otherwise the last event is an error. An end that HTTP knows of is no end either.
    """
    recording = crossing.recording
    up = await provider(cut_as_asked(recording))
    toml = alone(up.url, more=NO_BREAKER).replace("openai-compatible", crossing.kind)
    gate = await gateway(toml.replace("/v1", crossing.base), {**ENVIRON, "ANTHROPIC_API_KEY": "any"})

    async def one(text: str) -> Heard:
        body = {"model": "m", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
        async with http.post(gate.url + crossing.path, json=body) as response:
            return Heard(response.status, response.headers, await response.read())

    body = recording.body_at(len(recording.wire))
    heard = await ask_each(one, how, range(1, len(body)) if how == "http" else range(len(recording.wire)))
    for cut, got in heard.items():
        came = body[:cut] if how == "http" else whole_events(recording.body_at(cut))
        is_over = crossing.end[0] in came
        assert (crossing.finish[1] in got.body) <= (crossing.finish[0] in came), cut
        assert (crossing.end[1] in got.body) == is_over, cut
        assert (got.status == 502 or b'"error"' in got.events[-1]) != is_over, cut
    assert {got.status for got in heard.values()} == {200, 502}
    assert ((await at_rest(http, gate, "bad", up))["idle"] > 0) == (how == "http")
    failed = sum(crossing.end[1] not in got.body for got in heard.values())
    assert (await scrape(http, gate)).errors == {("provider", "provider_error"): failed}


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_call_that_was_being_answered_is_not_sent_again(
    how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A kept connection that ends inside the head of an answer did not die of age: the provider has taken the call,
    so it is a failure, and not sent once more unseen.
    """
    up = await provider(answer)
    gate = await gateway(alone(up.url), ENVIRON)
    assert (await ask(http, gate)).is_whole
    up.script = cut_as_asked(JSON)
    heard = await ask(http, gate, text=f"{how} {len(JSON.head) // 2}")
    assert (heard.status, len(up.requests)) == (502, 2)
    assert (await at_rest(http, gate, "bad", up))["acquired"] == 2
    assert (await scrape(http, gate)).errors == {("provider", "provider_error"): 1}
