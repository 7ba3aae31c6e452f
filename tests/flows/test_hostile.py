"""Providers and clients that mean harm, or are badly broken: each of these once did some."""

from __future__ import annotations

import asyncio
import gzip
import json

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import ENVIRON, relay
from tests.provider import Seen, Wire

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SECRET = ENVIRON["UP_KEY"]
JSON = {"Content-Type": "application/json"}


async def test_bytes_nobody_asked_for_are_nobodys_answer(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A provider that speaks out of turn on a kept connection loses it; no caller gets another's answer."""

    async def script(seen: Seen, wire: Wire) -> None:
        asked = seen.json["messages"][0]["content"]
        await wire.answer({"choices": [], "id": f"answer to {asked}"})
        await asyncio.sleep(0.02)
        if asked == "0":
            await wire.answer({"error": {"message": "idle timeout"}}, status=408)

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    for number in range(5):
        body = {**ASK, "messages": [{"role": "user", "content": str(number)}]}
        async with http.post(gate.url + "/v1/chat/completions", json=body) as response:
            assert (await response.json())["id"] == f"answer to {number}"
        if number == 0:
            await asyncio.sleep(0.05)  # for what is sent behind the answer


@pytest.mark.parametrize("model", ["up/a\nb", "up/a\r\nX: 1", "up/\x00", "up/ü", "up/a\x7f"])
async def test_a_models_name_cannot_break_the_head(
    model: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A name with control characters is answered like any other; in the head it is escaped."""

    async def answer(seen: Seen, wire: Wire) -> None:
        await wire.answer({"choices": []})

    up = await provider(answer)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "model": model}) as response:
        assert response.status == 200
        assert response.headers["x-runestone-model"].isprintable()
    assert up.requests[0].json["model"] == model.removeprefix("up/")


@pytest.mark.parametrize("status", [200, 429])
async def test_a_providers_header_cannot_break_the_head(
    status: int, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Header values that no header may have, or that repeat our credential, are left out."""

    async def answer(seen: Seen, wire: Wire) -> None:
        odd = {"x-ratelimit-a": "a\x01b", "retry-after": "\x7f", "x-ratelimit-b": f"for {SECRET}", "x-ratelimit-c": "7"}
        await wire.answer({"choices": []} if status == 200 else {"error": {"message": "x"}}, status=status, headers=odd)

    up = await provider(answer)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == status
        assert response.headers["x-provider-ratelimit-c"] == "7"
        assert SECRET not in str(response.headers)


@pytest.mark.parametrize("where", ["error in a 200", "first event", "later event"])
async def test_a_credential_in_an_error_is_hidden_wherever_it_stands(
    where: str,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a provider says of an error is cleaned also when it does not come as an error."""
    said = {"error": {"message": f"bad key {SECRET}", "code": SECRET, "type": SECRET}}

    async def answer(seen: Seen, wire: Wire) -> None:
        if where == "error in a 200":
            await wire.answer(said)
            return
        await wire.begin_stream()
        if where == "later event":
            await wire.chunk(ROLE + chunk({"content": "x"}))
        await wire.chunk(b"data: " + orjson.dumps(said) + b"\n\n")
        await wire.end_stream()

    up = await provider(answer)
    gate = await gateway(relay(up.url), ENVIRON)
    stream = where != "error in a 200"
    ask = {"model": "m", "max_tokens": 9, "stream": stream, "messages": ASK["messages"]}
    async with http.post(gate.url + "/v1/messages", json=ask) as response:
        told = await response.text()
    assert "bad key" in told
    assert SECRET not in told + caplog.text


async def test_an_error_event_that_was_held_back_is_said(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An error event without its closing blank line does not turn a broken stream into a silent one."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + b'data: {"error":{"message":"boom"}}\n')
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        body = await response.read()
    assert body.startswith(ROLE)
    assert orjson.loads(body[len(ROLE) :].removeprefix(b"data: "))["error"]["message"] == "boom"


@pytest.mark.parametrize("end", ["reset", "fin"])
async def test_a_whole_stream_is_whole_however_the_connection_ends(
    end: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Behind the end marker the provider may do what it likes: the client has had everything."""
    stream = ROLE + STOP + DONE

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(stream)
        if end == "reset":
            await until(lambda: received)
            wire.reset()
        else:
            wire.close()

    received = bytearray()
    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        async for data in response.content.iter_any():
            received += data
    assert received == stream


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"index":0,"message":{"content":"he\\ud83d"}}]}',
        b'{"choices":[{"logprob":NaN}]}',
        b'{"choices":[{"logprob":1e400}]}',
        b'{"choices":[],"x":"\xff"}',
        b'\xef\xbb\xbf{"choices":[]}',
    ],
)
async def test_an_answer_that_is_not_quite_json_is_the_providers_to_give(
    body: bytes, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Half a surrogate pair, NaN, broken UTF-8: the client's parser may read what ours would not."""

    async def answer(seen: Seen, wire: Wire) -> None:
        await wire.answer(body)

    up = await provider(answer)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == 200
        assert await response.read() == body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nothing"])
async def test_a_body_that_would_inflate_is_not_inflated(
    path: str, gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """A few kilobytes that stand for a gigabyte are refused as they are."""
    gate = await gateway(relay("http://127.0.0.1:9"), ENVIRON)
    bomb = gzip.compress(b" " * 50_000_000)
    async with http.post(gate.url + path, data=bomb, headers={**JSON, "Content-Encoding": "gzip"}) as response:
        assert response.status == (400 if path.endswith("completions") else 404)
        assert "error" in json.loads(await response.read())


async def test_a_client_that_does_not_read_is_held_no_longer_than_the_call_may_last(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """The total time of a call bounds a stuck client too; the provider's connection is given back."""

    async def flood(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        event = chunk({"content": "x" * 60_000})
        while True:
            await wire.chunk(event)

    up = await provider(flood)
    gate = await gateway(relay(up.url, extra='[routing.timeouts]\ntotal = "300ms"'), ENVIRON)
    _, writer = await asyncio.open_connection("127.0.0.1", gate.port, limit=1024)
    body = orjson.dumps({**ASK, "stream": True})
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    writer.write(head % len(body) + body)
    await until(lambda: up.open == 1)
    await until(lambda: up.open == 0)
    writer.close()


@pytest.mark.parametrize("cut", [True, False])
async def test_a_cut_json_answer_moves_on(
    cut: bool, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Nothing of it has gone to the client, so the next target may answer."""

    async def broken(seen: Seen, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        if cut:
            wire.close()
        else:
            wire.reset()

    async def answer(seen: Seen, wire: Wire) -> None:
        await wire.answer({"choices": []})

    bad, good = await provider(broken), await provider(answer)
    one = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'
    toml = one.format("bad", bad.url) + one.format("good", good.url) + '[models.both]\ntargets = ["bad/x", "good/y"]'
    gate = await gateway(toml)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "model": "both"}) as response:
        assert response.status == 200
        assert response.headers["x-runestone-attempts"] == "2"
