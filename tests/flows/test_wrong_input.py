"""Whatever a client sends, the answer is the contract's error object, and the next request works."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, until
from tests.gateway import Gateway

CONFIG = """
[server]
max_body = "100KB"
[providers.simulated.simulated]
ttft = "0ms"
tokens_per_second = 0
"""
GOOD = b'{"model":"simulated","messages":[{"role":"user","content":"hi"}]}'
JSON = {"Content-Type": "application/json"}
DEEP = b'{"model":"simulated","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 900 + b"]" * 900 + b"}"
BODIES = {
    "empty": (b"", None),
    "not json": (b"hello", None),
    "cut": (GOOD[:-1], None),
    "an array": (b"[]", None),
    "a string": (b'"x"', None),
    "null": (b"null", None),
    "nan": (GOOD[:-1] + b',"temperature":NaN}', None),
    "infinity": (GOOD[:-1] + b',"temperature":Infinity}', None),
    "lone surrogate": (GOOD.replace(b"hi", b"\\ud800"), None),
    "not utf-8": (GOOD.replace(b"hi", b"\xff\xfe"), None),
    "bom": (b"\xef\xbb\xbf" + GOOD, None),
    "nul": (GOOD.replace(b"hi", b"\x00"), None),
    "duplicate model": (b'{"model":"simulated",' + GOOD[1:], "model"),
    "duplicate by escape": (b'{"mod\\u0065l":"x",' + GOOD[1:], "model"),
    "duplicate deep": (GOOD[:-1] + b',"metadata":{"a":1, "a":2}}', "a"),
    "deep": (DEEP, None),
    "deeper": (b"[" * 50_000, None),
    "huge number": (GOOD[:-1] + b',"seed": ' + b"9" * 5000 + b"}", None),
    "no model": (b'{"messages":[{"role":"user","content":"hi"}]}', "model"),
    "model null": (GOOD.replace(b'"simulated"', b"null"), "model"),
    "model number": (GOOD.replace(b'"simulated"', b"7"), "model"),
    "model empty": (GOOD.replace(b'"simulated"', b'""'), "model"),
    "no messages": (b'{"model":"simulated"}', "messages"),
    "messages empty": (b'{"model":"simulated","messages":[]}', "messages"),
    "messages string": (b'{"model":"simulated","messages":"hi"}', "messages"),
    "message string": (b'{"model":"simulated","messages":["hi"]}', "messages[0]"),
    "no role": (b'{"model":"simulated","messages":[{"content":"hi"}]}', "messages[0].role"),
    "stream string": (GOOD[:-1] + b',"stream":"yes"}', "stream"),
    "temperature string": (GOOD[:-1] + b',"temperature":"hot"}', "temperature"),
    "n zero": (GOOD[:-1] + b',"n":0}', "n"),
    "n boolean": (GOOD[:-1] + b',"n":true}', "n"),
    "max_tokens negative": (GOOD[:-1] + b',"max_tokens":-1}', "max_tokens"),
    "tools object": (GOOD[:-1] + b',"tools":{}}', "tools"),
}


async def assert_well(http: aiohttp.ClientSession, gate: Gateway) -> None:
    async with http.post(gate.url + "/v1/chat/completions", data=GOOD, headers=JSON) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", BODIES)
async def test_a_wrong_body_is_a_400(name: str, gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """The error says what is wrong and names the field; it is never a 500."""
    body, param = BODIES[name]
    gate = await gateway(CONFIG)
    async with http.post(gate.url + "/v1/chat/completions", data=body, headers=JSON) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "bad_request", param)
    assert "Traceback" not in error["message"]
    await assert_well(http, gate)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/%00%0d%0aX-Evil:%201", 404, "not_found"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
    ],
)
async def test_a_wrong_path_or_method(
    method: str, path: str, status: int, code: str, gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """What is not there is a 404, what may not be done a 405 that lists what may."""
    gate = await gateway(CONFIG)
    async with http.request(method, gate.url + path) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert error["code"] == code
        assert "x-evil" not in response.headers
        assert (response.headers.get("Allow") is not None) == (status == 405)


async def test_an_unknown_model_lists_the_nearest(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A misspelt model is a 404 that says what was meant; the simulated provider answers for nothing else."""
    gate = await gateway(CONFIG)
    for model in ("simulatd", "simulated/gpt-4o", "gpt-4o"):
        async with http.post(
            gate.url + "/v1/chat/completions", data=GOOD.replace(b"simulated", model.encode()), headers=JSON
        ) as response:
            assert response.status == 404
            error = (await response.json())["error"]
        assert error["code"] == "model_not_found"
        assert "simulated" in error["message"]


async def test_a_wrong_content_type(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A form is not JSON, and is told so."""
    gate = await gateway(CONFIG)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with http.post(gate.url + "/v1/chat/completions", data=GOOD, headers=form) as response:
        assert response.status == 400
        assert "application/json" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit(chunked: bool, gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """More than server.max_body is a 413, with its length known or not, and the gateway goes on."""
    gate = await gateway(CONFIG)
    body = GOOD.replace(b"hi", b"x" * 200_000)

    async def pieces():  # type: ignore[no-untyped-def]
        yield body

    async with http.post(
        gate.url + "/v1/chat/completions", data=pieces() if chunked else body, headers=JSON
    ) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "request_too_large"
    await assert_well(http, gate)


async def raw(gate: Gateway, data: bytes, *, close: bool = False) -> bytes:
    """What the gateway says to these bytes, up to when it closes or half a second has passed without more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(data)
    if close:
        writer.write_eof()
    received = b""
    try:
        while True:
            async with asyncio.timeout(0.5):
                data = await reader.read(65536)
            if not data:
                break
            received += data
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return received


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BROKEN = {
    "not http": b"hello\r\n\r\n",
    "bad version": b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nhost: x\r\nnonsense\r\n\r\n",
    "header injection": b"GET / HTTP/1.1\r\nhost: x\r\nx-request-id: a\rb: c\r\n\r\n",
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "bad length": HEAD + b"content-length: -5\r\n\r\n",
    "bad chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "smuggling": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nx",
    "long header": b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_http_is_a_400(
    name: str, gateway: StartGateway, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not HTTP gets the same error object and loses its connection; nothing of it is repeated or logged."""
    gate = await gateway(CONFIG)
    answer = await raw(gate, BROKEN[name])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert orjson.loads(body)["error"]["code"] == "bad_request"
    assert not [record for record in caplog.records if record.exc_info]
    await assert_well(http, gate)


async def test_a_truncated_body_loses_nothing(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A body that ends before its length is answered to nobody, and the gateway goes on."""
    gate = await gateway(CONFIG)
    await raw(gate, HEAD + b"content-length: 500\r\n\r\n" + GOOD, close=True)
    await assert_well(http, gate)


async def test_a_request_id_is_kept_if_it_is_harmless(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """An id of the client comes back; one with spaces or of absurd length is replaced."""
    gate = await gateway(CONFIG)
    for given, kept in (("abc-1", True), ("a b", False), ("x" * 500, False), ("ü", False)):
        async with http.get(gate.url + "/v1/models", headers={"x-request-id": given}) as response:
            assert (response.headers["x-request-id"] == given) is kept


async def test_anthropic_paths_get_anthropic_errors(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """On /v1/messages an error is Anthropic's object, with the request id and the field in the message."""
    gate = await gateway(CONFIG)
    async with http.post(gate.url + "/v1/messages", json={"model": "simulated", "messages": []}) as response:
        assert response.status == 400
        error = await response.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert "messages" in error["error"]["message"]
    assert error["request_id"] == response.headers["x-request-id"] == response.headers["request-id"]


async def test_a_fault_of_ours_tells_nothing(
    gateway: StartGateway,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception nobody foresaw is a 500 with the request id; the log has the rest."""

    def broken(*_: object) -> None:
        raise RuntimeError("/etc/secret sk-123")

    monkeypatch.setattr("runestone.edge.request.Reader.read", broken)
    gate = await gateway(CONFIG)
    async with http.post(gate.url + "/v1/chat/completions", data=GOOD, headers=JSON) as response:
        assert response.status == 500
        text = await response.text()
    assert "secret" not in text
    assert response.headers["x-request-id"] in text
    assert "RuntimeError" in caplog.text


async def test_pipelined_requests_are_answered_in_order(gateway: StartGateway) -> None:
    """Three requests in one write get three answers in their order; a bad one in the middle does not disturb."""
    gate = await gateway(CONFIG)
    one = HEAD + b"content-length: %d\r\n\r\n" % len(GOOD) + GOOD
    bad = HEAD + b"content-length: 2\r\n\r\n{}"
    answer = await raw(gate, one + bad + one)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"400", b"200"]


async def test_a_slow_but_steady_body_is_waited_for(gateway: StartGateway) -> None:
    """A body that arrives in pieces is one body."""
    gate = await gateway(CONFIG)
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(GOOD))
    for at in range(0, len(GOOD), 16):
        writer.write(GOOD[at : at + 16])
        await writer.drain()
        await until(lambda: True)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
