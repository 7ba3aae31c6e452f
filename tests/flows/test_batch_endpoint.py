"""Many calls in one request: each for itself, so many at a time, answered in order or as they finish."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import orjson
import pytest

import runestone.edge.batch
from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.test_failing_providers import metric
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire

SIMULATED = "[providers.simulated.simulated]\nttft = '0ms'\ntokens_per_second = 0\n"
KEY = '[[auth.keys]]\nname = "team"\nkey = "env:TEAM"\n'
SECRETS = {**ENVIRON, "TEAM": "key-of-the-team"}


def chat(text: str = "hi", model: str = "m", **more: object) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def lines(*bodies: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"requests": [{"body": body} for body in bodies], **more}


def asked(seen: Seen) -> str:
    text: str = seen.json["messages"][0]["content"]
    return text


async def echo(seen: Seen, wire: Wire) -> None:
    await wire.answer({"choices": [], "said": asked(seen)})


async def post(
    http: aiohttp.ClientSession, gate: Gateway, batch: object, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    async with http.post(gate.url + "/v1/batch", json=batch, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        answer: dict[str, Any] = orjson.loads(await response.read())
        return answer


async def told(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any] | None]:
    """The events of an answer; None for the end marker."""
    async for row in response.content:
        if row != b"\n":
            assert row.startswith(b"data: ")
            yield None if row == b"data: [DONE]\n" else orjson.loads(row[6:])


async def stream(http: aiohttp.ClientSession, gate: Gateway, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """All events of a batch that ends as it should."""
    async with http.post(gate.url + "/v1/batch", json={**batch, "stream": True}) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        *events, end = [event async for event in told(response)]
        assert end is None
        return [event for event in events if event is not None]


def statuses(answer: dict[str, Any]) -> list[int]:
    return [item["response"]["status_code"] for item in answer["data"]]


@pytest.mark.parametrize("path", ["/v1/batch", "/batch"])
async def test_answers_stand_in_the_order_of_the_request(
    path: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Whoever is answered first; each with its name, its place, an id made from the batch's, and what it was told."""

    async def script(seen: Seen, wire: Wire) -> None:
        await asyncio.sleep(0.02 * (4 - int(asked(seen))))
        await echo(seen, wire)

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    requests = [
        {"body": chat("0")},
        {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": chat("1")},
        {"custom_id": "ünïcödé", "url": "/chat/completions", "body": chat("2")},
    ]
    headers = {"x-request-id": "mine"}
    async with http.post(gate.url + path, json={"requests": requests}, headers=headers) as response:
        assert response.headers["x-request-id"] == "mine"
        answer = orjson.loads(await response.read())
    assert answer == {
        "object": "batch",
        "id": "mine",
        "data": [
            {
                "custom_id": name,
                "index": at,
                "response": {
                    "status_code": 200,
                    "request_id": f"mine-{at}",
                    "body": {"choices": [], "said": str(at)},
                },
                "error": None,
            }
            for at, name in enumerate(("0", "b", "ünïcödé"))
        ],
        "counts": {"total": 3, "succeeded": 3, "failed": 0},
    }


async def test_bytes_pass_as_they_are(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The provider reads the body as the client wrote it, the client the answer as the provider did, on every path."""
    pretty = '{\n  "choices": [],\r\n  "data": [], "x": 1.50, "é": "\\u00e9"\n}'.encode()

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer(pretty)

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    body = b'{"model":"m","input":["a"],"prompt":"p","messages":[{"role":"user","content":"\xc3\xa9"}],"x":{"y":1.5}}'
    urls = ("chat/completions", "embeddings", "completions")
    requests = b",".join(b'{"url":"/v1/%b","body":%b}' % (url.encode(), body) for url in urls)
    async with http.post(
        gate.url + "/v1/batch",
        data=b'{"max_concurrency":1,"requests":[%b]}' % requests,
        headers={"content-type": "application/json"},
    ) as response:
        assert (await response.read()).count(pretty) == 3
    assert [(seen.path, seen.body) for seen in up.requests] == [(f"/v1/{url}", body) for url in urls]
    events = await stream(http, gate, lines(chat()))
    assert events[0]["response"]["body"] == orjson.loads(pretty)


REFUSAL = b'{"error":  {"message": "no", "type": "t", "param": "p", "code": "c"}}'
LINES: dict[str, tuple[int, dict[str, Any]]] = {
    "good": (200, {"body": chat("good")}),
    "the provider refuses": (422, {"body": chat("refuse")}),
    "the provider refuses in no JSON": (418, {"body": chat("refuse badly")}),
    "the provider fails": (502, {"body": chat("fail")}),
    "the provider answers with a page": (502, {"body": chat("page")}),
    "the provider hangs up": (502, {"body": chat("hang up")}),
    "the provider hangs": (504, {"body": chat("hang")}),
    "unknown model": (404, {"body": chat(model="unknown")}),
    "no model": (400, {"body": {"messages": []}}),
    "no messages": (400, {"body": {"model": "m"}}),
    "a wrong field": (400, {"body": chat(temperature="hot")}),
    "messages without max_tokens": (400, {"url": "/v1/messages", "body": chat()}),
    "messages of an unknown model": (404, {"url": "/v1/messages", "body": chat(model="unknown", max_tokens=1)}),
    "messages that are refused": (422, {"url": "/v1/messages", "body": chat("refuse", max_tokens=1)}),
    "embeddings without input": (400, {"url": "/v1/embeddings", "body": {"model": "m"}}),
    "body is an array": (400, {"body": [1]}),
    "body is null": (400, {"body": None}),
    "good again": (200, {"body": chat("good")}),
}


async def moody(seen: Seen, wire: Wire) -> None:
    """Does what the message says."""
    match asked(seen):
        case "refuse":
            await wire.answer(REFUSAL, status=422)
        case "refuse badly":
            await wire.answer(b"{teapot", status=418)
        case "fail":
            await wire.answer({"error": {"message": "boom"}}, status=500)
        case "page":
            await wire.answer(b"<html>")
        case "hang up":
            wire.close()
        case "hang":
            await wire.left(30)
        case _:
            await echo(seen, wire)


@pytest.mark.parametrize("most", [1, 20])
async def test_every_line_fails_alone_and_as_its_endpoint_would(
    most: int, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Good lines between bad ones are answered; a bad one reads what its endpoint alone says, in its own dialect."""
    up = await provider(moody)
    gate = await gateway(relay(up.url, extra="[breaker]\nfailure_threshold = 1000"), ENVIRON)
    headers = {"x-runestone-timeout": "300ms"}
    requests = [{"custom_id": name, **line} for name, (_, line) in LINES.items()]
    answer = await post(http, gate, {"requests": requests, "max_concurrency": most}, headers)
    assert [item["custom_id"] for item in answer["data"]] == list(LINES)
    assert statuses(answer) == [status for status, _ in LINES.values()]
    good = sum(status == 200 for status, _ in LINES.values())
    assert answer["counts"] == {"total": len(LINES), "succeeded": good, "failed": len(LINES) - good}
    for item, (status, line) in zip(answer["data"], LINES.values(), strict=True):
        url = gate.url + line.get("url", "/v1/chat/completions")
        one = {**headers, "x-request-id": item["response"]["request_id"], "content-type": "application/json"}
        async with http.post(url, data=orjson.dumps(line["body"]), headers=one) as alone:
            assert alone.status == status
            body = await alone.read()
        if body != b"{teapot":  # which could not stand in a line
            assert item["response"]["body"] == orjson.loads(body), item["custom_id"]
    assert await metric(http, gate, 'runestone_errors_total{code="bad_request",source="client"}') == 2 * 7


async def test_what_cannot_be_asked_is_not_found(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A URL no batch can ask, or a method no endpoint has, fails its line."""
    gate = await gateway(SIMULATED)
    requests = [
        {"url": "/v1/batch", "body": lines(chat())},
        {"url": "/v1/messages/unknown", "body": chat()},
        {"method": "GET", "body": chat()},
        {"body": chat(model="simulated")},
    ]
    answer = await post(http, gate, {"requests": requests})
    assert statuses(answer) == [404, 404, 405, 200]
    openai, anthropic, method = (item["response"]["body"] for item in answer["data"][:3])
    assert openai["error"]["code"] == "not_found"
    assert anthropic["error"]["type"] == "not_found_error"
    assert method["error"]["code"] == "method_not_allowed"


WRONG: dict[str, tuple[bytes, str | None]] = {
    "no JSON": (b"{", None),
    "an array": (b"[]", None),
    "a name twice": (b'{"requests": [], "requests": []}', "requests"),
    "nothing": (b"{}", "requests"),
    "none": (b'{"requests":[]}', "requests"),
    "too many": (orjson.dumps({"requests": [{}] * 1001}), "requests"),
    "no object": (b'{"requests":[{},7]}', "requests[1]"),
    "an id twice": (b'{"requests":[{"custom_id":"a"},{"custom_id":"a"}]}', "requests[1].custom_id"),
    "an id that is none": (b'{"requests":[{},{},{},{"custom_id":3}]}', "requests[3].custom_id"),
    "all at a time": (b'{"requests":[{}],"max_concurrency":101}', "max_concurrency"),
    "stream": (b'{"requests":[{}],"stream":1}', "stream"),
    "a stream within": (b'{"requests":[{"body":{"stream":true}}]}', "requests[0].body.stream"),
    "deep": (b'{"requests":[{"body":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}", None),
}


@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG)
async def test_a_batch_that_is_none_is_a_400(
    body: bytes, param: str | None, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The field is named, and nothing has begun."""
    up = await provider(echo)
    gate = await gateway(relay(up.url), ENVIRON)
    headers = {"content-type": "application/json"}
    async with http.post(gate.url + "/v1/batch", data=body, headers=headers) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["code"], error["param"]) == ("bad_request", param)
    async with http.post(
        gate.url + "/v1/batch", json=lines(chat()), headers={"x-runestone-timeout": "soon"}
    ) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "x-runestone-timeout"
    assert not up.requests
    assert len(statuses(await post(http, gate, lines(chat())))) == 1


@pytest.mark.parametrize(("given", "most"), [({"max_concurrency": 3}, 3), ({"max_concurrency": 100}, 40), ({}, 7)])
@pytest.mark.parametrize("streams", [False, True], ids=["JSON", "events"])
async def test_so_many_at_a_time_and_in_order(
    streams: bool,
    given: dict[str, Any],
    most: int,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """`max_concurrency` of the batch, else of the configuration, is what the provider sees, and it is used."""
    now = peak = 0

    async def script(seen: Seen, wire: Wire) -> None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.02)
        now -= 1
        await echo(seen, wire)

    up = await provider(script)
    gate = await gateway(relay(up.url, extra="[batch]\nmax_concurrency = 7\n[cache]\nenabled = false"), ENVIRON)
    batch = lines(*(chat(str(at)) for at in range(40)), **given)
    if streams:
        assert len(await stream(http, gate, batch)) == 40
    else:
        assert len((await post(http, gate, batch))["data"]) == 40
    assert peak == most
    waves = [{int(asked(seen)) for seen in up.requests[at : at + most]} for at in range(0, 40, most)]
    assert all(max(wave) < at * most + 2 * most for at, wave in enumerate(waves)), "no line overtakes a whole wave"


async def test_events_come_as_lines_finish(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Each answer when it is there, a failed one like a good one, while others still run; then the end marker."""
    go = {name: asyncio.Event() for name in ("a", "b", "c")}

    async def script(seen: Seen, wire: Wire) -> None:
        await go[asked(seen)].wait()
        await echo(seen, wire)

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    requests = [{"custom_id": name, "body": chat(name)} for name in go]
    requests.insert(1, {"custom_id": "bad", "body": chat(model="unknown")})
    async with http.post(
        gate.url + "/v1/batch", json={"requests": requests, "stream": True}, headers={"x-request-id": "r"}
    ) as response:
        assert response.headers["x-request-id"] == "r"
        assert response.headers["X-Accel-Buffering"] == "no"
        events = told(response)
        first = await anext(events)
        assert first is not None
        assert (first["custom_id"], first["index"], first["response"]["status_code"]) == ("bad", 1, 404)
        for at, name in ((3, "c"), (0, "a"), (2, "b")):
            go[name].set()
            assert await anext(events) == {
                "custom_id": name,
                "index": at,
                "response": {"status_code": 200, "request_id": f"r-{at}", "body": {"choices": [], "said": name}},
                "error": None,
            }
        assert [event async for event in events] == [None]


def tokens(name: str, count: int) -> list[bytes]:
    return [ROLE, *(chunk({"content": f"{name}{at} "}) for at in range(count)), STOP, DONE]


def as_chunks(data: bytes) -> list[Any]:
    return [orjson.loads(row[6:]) for row in data.split(b"\n\n") if row and row != b"data: [DONE]"]


async def test_streams_are_multiplexed(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Streams of 20 lines, cut anywhere, over one connection: interleaved, each complete and in its order, beside a
    line that is none.
    """

    async def script(seen: Seen, wire: Wire) -> None:
        if not seen.json.get("stream"):
            await echo(seen, wire)
            return
        data = b"".join(tokens(asked(seen), 30))
        await wire.begin_stream()
        for at in range(0, len(data), 777):
            await wire.chunk(data[at : at + 777])
            await asyncio.sleep(0.001)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    bodies = [chat(f"s{at}-", stream=True) for at in range(20)]
    events = await stream(http, gate, lines(*bodies, chat("whole"), max_concurrency=21))
    by_line: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        by_line[event["index"]].append(event)
    whole = by_line.pop(20)
    assert [event["response"]["body"]["said"] for event in whole] == ["whole"]
    for at, said in sorted(by_line.items()):
        *chunks, last = said
        assert [event["chunk"] for event in chunks] == as_chunks(b"".join(tokens(f"s{at}-", 30)))
        assert (last["response"]["status_code"], last["response"]["body"], last["error"]) == (200, None, None)
    assert len(by_line) == 20
    switches = sum(one["index"] != other["index"] for one, other in pairwise(events))
    assert switches > 40, "they came side by side, not one after the other"


async def test_a_token_is_told_when_it_comes(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Not when its stream has ended."""
    go = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE)
        await go.wait()
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    batch = lines(chat("a", stream=True), chat("b", stream=True), stream=True)
    async with http.post(gate.url + "/v1/batch", json=batch) as response:
        events = told(response)
        first = [await anext(events), await anext(events)]
        assert sorted(event["index"] for event in first if event) == [0, 1]
        go.set()
        assert len([event async for event in events]) == 5


async def test_streams_of_both_dialects_against_the_simulated_model(
    gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """Messages keep the names of their events; both read as if asked alone; embeddings stand between them."""
    gate = await gateway(SIMULATED)
    ask = chat("tell me", "simulated", stream=True, max_tokens=40)
    requests = [
        {"custom_id": "chat", "body": ask},
        {"custom_id": "messages", "url": "/v1/messages", "body": ask},
        {"custom_id": "e", "url": "/v1/embeddings", "body": {"model": "simulated", "input": "x", "dimensions": 4}},
    ]
    events = await stream(http, gate, {"requests": requests})
    named = [event for event in events if event["custom_id"] == "messages"]
    assert [named[0]["event"], named[-2]["event"]] == ["message_start", "message_stop"]
    assert all(event["event"] == event["chunk"]["type"] for event in named[:-1])
    text = "".join(event["chunk"]["delta"].get("text", "") for event in named[:-1] if "delta" in event["chunk"])
    plain = [event for event in events if event["custom_id"] == "chat"]
    assert not any("event" in event for event in plain)
    assert text == "".join(
        choice["delta"].get("content") or "" for event in plain[:-1] for choice in event["chunk"]["choices"]
    )
    assert len(text) > 20
    (embedding,) = (event for event in events if event["custom_id"] == "e")
    assert len(embedding["response"]["body"]["data"][0]["embedding"]) == 4


OPENAI_ERROR = b'data: {"error":{"message":"boom","type":"server_error","code":null,"param":null}}\n\n'
ENDS = {
    "cut": ([ROLE, chunk({"content": "x"})], 2, "provider_error"),
    "the provider says why": ([ROLE, OPENAI_ERROR], 1, None),
    "no JSON at the end": ([ROLE, b"data: hello\n\n"], 2, "provider_error"),
}


@pytest.mark.parametrize(("pieces", "before", "code"), ENDS.values(), ids=ENDS)
async def test_a_stream_that_breaks_ends_its_line_only(
    pieces: list[bytes],
    before: int,
    code: str | None,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """It reads the error as an event, once, and a last line with it; the others and the end marker come."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for piece in pieces if asked(seen) == "bad" else tokens("good", 3):
            await wire.chunk(piece)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    events = await stream(http, gate, lines(*(chat(said, stream=True) for said in ("good", "bad", "good"))))
    bad = [event for event in events if event["index"] == 1]
    assert len(bad) == before + 2
    *_, error, last = bad
    assert error["chunk"]["error"]["code"] == code
    assert last["response"] is None
    assert last["error"]["code"] == (code or "provider_error")
    for index in (0, 2):
        good = [event for event in events if event["index"] == index]
        assert [event["chunk"] for event in good[:-1]] == as_chunks(b"".join(tokens("good", 3)))
        assert good[-1]["error"] is None


async def begun(http: aiohttp.ClientSession, gate: Gateway, batch: dict[str, Any]) -> asyncio.Task[bytes]:
    async def ask() -> bytes:
        async with http.post(gate.url + "/v1/batch", json=batch) as response:
            return await response.read()

    return asyncio.ensure_future(ask())


def running_lines() -> int:
    return sum(task.get_name().startswith("line ") for task in asyncio.all_tasks())


@pytest.mark.parametrize("kind", ["JSON", "events", "streams"])
async def test_a_client_that_leaves_ends_everything(
    kind: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What runs is ended at the provider, nothing more begins, no task is left, and a key's slots are free again."""

    async def script(seen: Seen, wire: Wire) -> None:
        if int(asked(seen)) < 2:
            await wire.answer({"choices": []})
            return
        if seen.json.get("stream"):
            await wire.begin_stream()
            await wire.chunk(ROLE)
        await wire.left(30)
        wire.close()

    up = await provider(script)
    gate = await gateway(relay(up.url, extra=KEY + "concurrent_requests = 10"), SECRETS)
    bodies = [chat(str(at), **({"stream": True} if kind == "streams" and at > 1 else {})) for at in range(100)]
    task = await begun(http, gate, lines(*bodies, max_concurrency=10, stream=kind != "JSON"))
    await until(lambda: len(up.requests) == 12)
    assert running_lines() == 10
    task.cancel()
    await until(lambda: not running_lines() and len(up.requests) == 12, seconds=1.0)
    assert await settled(lambda: len(up.requests), polls=20) == 12
    await until(lambda: up.open <= 2)  # the two that were answered are kept
    up.script = echo
    assert statuses(await post(http, gate, lines(chat()), {"x-api-key": "key-of-the-team"})) == [200]
    left = 'runestone_errors_total{code="client_closed",source="client"}'
    assert await metric(http, gate, left) == 10


async def test_a_client_that_reads_slowly_is_waited_for(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Nothing piles up: providers wait for the client, and lines that have not begun do too. Then all is there."""
    sent = 0
    piece = chunk({"content": "x" * 100_000})

    async def script(seen: Seen, wire: Wire) -> None:
        nonlocal sent
        await wire.begin_stream()
        for _ in range(100):
            await wire.chunk(piece)
            sent += len(piece)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    batch = lines(*(chat(stream=True) for _ in range(8)), max_concurrency=4, stream=True)
    async with http.post(gate.url + "/v1/batch", json=batch) as response:
        held = await settled(lambda: sent)
        assert held < 40_000_000, "socket buffers, and a block for each line"
        assert len(up.requests) == 4
        assert (await response.read()).count(b'"content"') == 800
    assert sent == 8 * 100 * len(piece)


async def test_a_client_that_does_not_read_is_ended(
    gateway: StartGateway, provider: StartProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute (here: a moment) past a call's deadline with nothing read, the connection and all that runs for it end;
    not before.
    """
    monkeypatch.setattr(runestone.edge.batch, "PATIENCE", 0.1)
    monkeypatch.setattr(runestone.edge.batch, "SLOWEST", 1 << 30)

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        while True:
            await wire.chunk(chunk({"content": "x" * 100_000}))

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    _, writer = await asyncio.open_connection("127.0.0.1", gate.port, limit=1 << 10)
    body = orjson.dumps(lines(*(chat(stream=True) for _ in range(8)), max_concurrency=4, stream=True))
    head = (
        b"POST /v1/batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"x-runestone-timeout: 600ms\r\ncontent-length: %d\r\n\r\n"
    )
    writer.write(head % len(body) + body)
    await until(lambda: up.open == 4)
    assert await settled(lambda: up.open) == 4
    await until(lambda: up.open == 0 and not running_lines())
    assert len(up.requests) == 4
    writer.close()


@pytest.mark.parametrize("streams", [False, True], ids=["JSON", "events"])
async def test_a_thousand_lines(streams: bool, gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Chats and embeddings, a hundred at a time, each answered once."""
    gate = await gateway(SIMULATED)
    requests = [
        {
            "custom_id": f"n{at}",
            "url": "/v1/embeddings",
            "body": {"model": "simulated", "input": str(at), "dimensions": 2},
        }
        if at % 2
        else {"custom_id": f"n{at}", "body": chat(str(at), "simulated", max_tokens=1)}
        for at in range(1000)
    ]
    batch = {"requests": requests, "max_concurrency": 100}
    if streams:
        data = await stream(http, gate, batch)
        assert sorted(item["index"] for item in data) == list(range(1000))
        data.sort(key=lambda item: int(item["index"]))
    else:
        answer = await post(http, gate, batch)
        assert answer["counts"] == {"total": 1000, "succeeded": 1000, "failed": 0}
        data = answer["data"]
    assert [item["custom_id"] for item in data] == [f"n{at}" for at in range(1000)]
    assert {item["response"]["status_code"] for item in data} == {200}
    assert {item["response"]["body"]["object"] for item in data[1::2]} == {"list"}


@pytest.mark.parametrize("streams", [False, True], ids=["JSON", "events"])
async def test_each_line_counts_against_its_key(
    streams: bool, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Two calls a minute are two lines: the others read the 429 with the real wait, and go nowhere."""
    up = await provider(echo)
    gate = await gateway(relay(up.url, extra=KEY + "requests_per_minute = 2"), SECRETS)
    headers = {"x-api-key": "key-of-the-team"}
    batch = lines(*(chat(str(at)) for at in range(4)), max_concurrency=1, stream=streams)
    async with http.post(gate.url + "/v1/batch", json=batch, headers=headers) as response:
        assert response.headers["x-ratelimit-limit-requests"] == "2"
        assert response.headers["x-ratelimit-remaining-requests"] == ("2" if streams else "0"), "as the head leaves"
        data = [event async for event in told(response) if event] if streams else (await response.json())["data"]
    assert [item["response"]["status_code"] for item in data] == [200, 200, 429, 429]
    assert data[2]["response"]["retry_after"] in (29, 30)
    assert data[2]["response"]["body"]["error"]["code"] == "rate_limit_exceeded"
    assert len(up.requests) == 2


async def test_a_key_may_ask_what_it_may_ask_alone(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A model that is not the key's fails its line; an unknown key fails the batch."""
    up = await provider(echo)
    gate = await gateway("auth.required = true\n" + relay(up.url, extra=KEY + 'models = ["m"]'), SECRETS)
    batch = lines(chat(), chat(model="up/other"))
    assert statuses(await post(http, gate, batch, {"x-api-key": "key-of-the-team"})) == [200, 403]
    async with http.post(gate.url + "/v1/batch", json=batch, headers={"x-api-key": "another"}) as response:
        assert response.status == 401


async def test_the_batchs_headers_are_every_lines(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What a provider may see it sees on each call; an idempotency key is made one for each, as they are no repeats."""
    up = await provider(echo)
    gate = await gateway(relay(up.url), ENVIRON)
    headers = {"x-title": "mine", "idempotency-key": "k"}
    await post(http, gate, lines(chat("0"), chat("1"), max_concurrency=1), headers)
    assert [seen.headers["x-title"] for seen in up.requests] == ["mine", "mine"]
    assert [seen.headers["idempotency-key"] for seen in up.requests] == ["k-0", "k-1"]


async def test_lines_are_kept_and_answered_from_memory(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A line is a call to the cache too: the same one twice goes up once, directives hold for all."""

    async def script(seen: Seen, wire: Wire) -> None:
        message = {"role": "assistant", "content": asked(seen)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await asyncio.sleep(0.01)
        await wire.answer({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    up = await provider(script)
    gate = await gateway(relay(up.url, extra="[cache]\n"), ENVIRON)
    batch = lines(chat("a"), chat("b"), chat("a"))
    first = await post(http, gate, batch)
    assert len(up.requests) == 2
    assert (await post(http, gate, batch))["data"][2]["response"]["body"] == first["data"][0]["response"]["body"]
    assert len(up.requests) == 2
    await post(http, gate, batch, {"Cache-Control": "no-store"})
    assert len(up.requests) == 5
    assert statuses(await post(http, gate, lines(chat("c")), {"Cache-Control": "only-if-cached"})) == [504]


async def patient(up: FakeProvider, gate: Gateway, http: aiohttp.ClientSession, streams: bool) -> asyncio.Task[bytes]:
    """A batch of which one line has been answered, two run, and the others have not begun."""
    bodies = [chat("done"), *(chat("wait", **({"stream": True} if streams else {})) for _ in range(5))]
    task = await begun(http, gate, lines(*bodies, max_concurrency=2, stream=streams))
    await until(lambda: len(up.requests) == 3)
    return task


@pytest.mark.parametrize("streams", [False, True], ids=["JSON", "events"])
async def test_a_batch_that_is_cut_is_told_so(
    streams: bool, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What outlasts the drain: as JSON the lines that were answered are kept and the others read a 503; as events an
    error ends the stream, and no end marker.
    """

    async def script(seen: Seen, wire: Wire) -> None:
        if asked(seen) == "done":
            await echo(seen, wire)
            return
        if streams:
            await wire.begin_stream()
            await wire.chunk(ROLE)
        await wire.left(30)
        wire.close()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    task = await patient(up, gate, http, streams)
    draining = asyncio.ensure_future(gate.app.running.drain(0.1))
    await asyncio.sleep(0)
    async with http.post(gate.url + "/v1/batch", json=lines(chat())) as late:
        assert late.status == 503
    body = await task
    await draining
    assert not running_lines()
    assert len(up.requests) == 3
    if streams:
        assert b"[DONE]" not in body
        last = orjson.loads(body.rstrip().rpartition(b"data: ")[2])
        assert last["error"]["message"] == "the gateway is shutting down"
    else:
        answer = orjson.loads(body)
        assert statuses(answer) == [200, 503, 503, 503, 503, 503]
        assert answer["counts"] == {"total": 6, "succeeded": 1, "failed": 5}
        assert answer["data"][1]["response"]["retry_after"] == 1


async def test_a_drain_waits_for_a_batch(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A batch that runs is finished, lines that have not begun included."""
    go = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await go.wait()
        await echo(seen, wire)

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    task = await begun(http, gate, lines(*(chat(str(at)) for at in range(10)), max_concurrency=2))
    await until(lambda: len(up.requests) == 2)
    draining = asyncio.ensure_future(gate.app.running.drain(10))
    await asyncio.sleep(0.02)
    assert not draining.done()
    go.set()
    assert statuses(orjson.loads(await task)) == [200] * 10
    await draining


async def test_each_line_has_its_own_record(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Metrics count lines, under the endpoint each of them names."""
    gate = await gateway(SIMULATED)
    embedding = {"url": "/v1/embeddings", "body": {"model": "simulated", "input": "x"}}
    await post(http, gate, {"requests": [{"body": chat(model="simulated")}] * 3 + [embedding]})
    for endpoint, count in (("chat/completions", 3), ("embeddings", 1)):
        labels = f'cache="none",endpoint="{endpoint}",model="simulated",provider="simulated",status="200"'
        assert await metric(http, gate, f"runestone_requests_total{{{labels}}}") == count
