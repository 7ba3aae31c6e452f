"""Pages of other origins: those of `server.cors_origins` may call and read, the others may not."""

from __future__ import annotations

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider
from tests.flows.test_cached_answers import answers
from tests.gateway import ENVIRON, Gateway, relay

APP = "https://app.example"
KEY = '[auth]\nrequired = true\n[[auth.keys]]\nname = "k"\nkey = "env:K"\nrequests_per_minute = 9\n'
HEADERS = {"x-api-key": "key-k", "Origin": APP}
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ALLOW = "Access-Control-Allow-Origin"


def origins(*listed: str) -> str:
    return f"[server]\ncors_origins = {list(listed)}\n"


async def standing(gateway: StartGateway, provider: StartProvider, extra: str = "") -> Gateway:
    up = await provider(answers)
    return await gateway(relay(up.url, extra=extra), {**ENVIRON, "K": "key-k"})


PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-runestone-resumable",
}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/chat/completions", "POST"),
        ("/v1/messages", "POST"),
        ("/v1/models", "GET"),
        ("/v1/models/a/b", "GET"),
        ("/v1/streams/stream_x", "DELETE"),
        ("/v1/batch", "POST"),
        ("/admin/providers", "GET"),
    ],
)
async def test_a_preflight_is_answered_without_a_key(
    path: str, method: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """It carries none: 204, what may be sent, for how long that is so; and nothing is asked of anybody."""
    gate = await standing(gateway, provider, KEY + origins(APP))
    headers = {**PREFLIGHT, "Access-Control-Request-Method": method}
    async with http.options(gate.url + path, headers=headers) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers.getall(ALLOW) == [APP]
        assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
        allowed = response.headers["Access-Control-Allow-Headers"].lower().split(",")
        assert {name.strip() for name in allowed} == {"authorization", "content-type", "x-runestone-resumable"}
        assert int(response.headers["Access-Control-Max-Age"]) > 0
        assert "Origin" in response.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    [
        "http://app.example",
        "https://app.example.evil.example",
        "https://evil.example",
        "https://app.example:8443",
        "https://app.example/",
        "null",
        "",
        "https://APP.example, https://app.example",
    ],
)
async def test_other_origins_are_told_nothing(
    origin: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A preflight that allows nothing, an answer that the browser does not show."""
    gate = await standing(gateway, provider, KEY + origins(APP, "http://localhost:3000"))
    async with http.options(gate.url + "/v1/chat/completions", headers={**PREFLIGHT, "Origin": origin}) as response:
        assert response.status == 204
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]
    headers = {**HEADERS, "Origin": origin}
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=headers) as response:
        assert response.status == 200
        assert ALLOW not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", ASK, 200),
        ("POST", "/v1/chat/completions", {**ASK, "stream": True}, 200),
        ("POST", "/v1/chat/completions", {"model": "m"}, 400),
        ("POST", "/v1/chat/completions", {**ASK, "model": "nobody"}, 404),
        ("POST", "/v1/messages", {**ASK, "max_tokens": 5}, 200),
        ("GET", "/v1/chat/completions", None, 405),
        ("GET", "/nowhere", None, 404),
        ("GET", "/v1/models", None, 200),
        ("GET", "/v1/streams/x", None, 404),
        ("GET", "/health/live", None, 200),
    ],
)
async def test_every_answer_can_be_read(
    method: str,
    path: str,
    body: object,
    status: int,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """JSON, streams and errors alike, with all of their headers; one Allow-Origin, not two."""
    gate = await standing(gateway, provider, KEY + origins(APP))
    async with http.request(method, gate.url + path, json=body, headers=HEADERS) as response:
        assert response.status == status
        assert response.headers.getall(ALLOW) == [APP]
        assert response.headers["Access-Control-Expose-Headers"] == "*"
        assert "Origin" in response.headers["Vary"]
        await response.read()


async def test_a_refused_key_and_an_exhausted_one_can_be_read(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """401 and 429, with Retry-After: a page shall know why."""
    limited = KEY.replace("= 9", "= 1")
    gate = await standing(gateway, provider, limited + origins(APP))
    url = gate.url + "/v1/chat/completions"
    for headers, status in (({"Origin": APP}, 401), (HEADERS, 200), (HEADERS, 429)):
        async with http.post(url, json=ASK, headers=headers) as response:
            assert response.status == status
            assert response.headers[ALLOW] == APP
            assert ("Retry-After" in response.headers) is (status == 429)


async def test_an_answer_from_memory_is_for_whoever_asks(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A hit carries the headers of this request, not of the one it was kept for."""
    gate = await standing(gateway, provider, origins(APP, "http://localhost:3000") + "[cache]\n")
    url = gate.url + "/v1/chat/completions"
    for origin in (APP, "http://localhost:3000", None, "https://evil.example"):
        headers = {"Origin": origin} if origin is not None else {}
        async with http.post(url, json=ASK, headers=headers) as response:
            expected = origin if origin in (APP, "http://localhost:3000") else None
            assert response.headers.get(ALLOW) == expected
    async with http.post(url, json=ASK) as response:
        assert "hit" in response.headers["Cache-Status"]


async def test_a_star_is_everybody(gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession) -> None:
    """Whoever it is, `null` too; credentials of the browser are not asked for."""
    gate = await standing(gateway, provider, origins("*"))
    for origin in (APP, "null", "http://127.0.0.1:1"):
        async with http.options(gate.url + "/v1/chat/completions", headers={**PREFLIGHT, "Origin": origin}) as response:
            assert response.headers[ALLOW] in (origin, "*")
        async with http.get(gate.url + "/v1/models", headers={"Origin": origin}) as response:
            assert response.headers[ALLOW] in (origin, "*")
            assert "Access-Control-Allow-Credentials" not in response.headers


async def test_without_origins_there_is_no_cors(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The default: OPTIONS is a method like others, no header says a word, and a page without a key spends nothing."""
    gate = await standing(gateway, provider)
    async with http.options(gate.url + "/v1/chat/completions", headers=PREFLIGHT) as response:
        assert response.status == 405
        assert ALLOW not in response.headers
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"Origin": APP}) as response:
        assert response.status == 403
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]


async def test_options_that_is_no_preflight_is_no_preflight(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Without Access-Control-Request-Method it is a method that is not allowed; without a key a 401."""
    gate = await standing(gateway, provider, KEY + origins(APP))
    async with http.options(gate.url + "/v1/chat/completions", headers=HEADERS) as response:
        assert response.status == 405
    async with http.options(gate.url + "/v1/chat/completions", headers={"Origin": APP}) as response:
        assert response.status == 401


async def test_what_depends_on_the_origin_says_so(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A cache on the way that kept an answer to a request without an origin would give it to the page, which could not
    read it (Fetch standard, 3.2.5): `Vary: Origin` is on every answer.
    """
    gate = await standing(gateway, provider, origins(APP))
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": APP}):
        async with http.get(gate.url + "/v1/models", headers=headers) as response:
            assert "Origin" in response.headers.get("Vary", "")


@pytest.mark.parametrize("extra", ["", origins(APP)])
async def test_any_page_may_load_the_module(
    extra: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """/runestone.js: JavaScript, without a key, asked for anew only when it has changed."""
    gate = await standing(gateway, provider, KEY + extra)
    async with http.get(gate.url + "/runestone.js", headers={"Origin": "https://other.example"}) as response:
        assert response.status == 200
        assert response.content_type == "text/javascript"
        assert response.headers.getall(ALLOW) == ["*"]
        tag, text = response.headers["ETag"], await response.read()
        assert b"WebSocket" in text
    for known, status in ((tag, 304), (f'"other", {tag}', 304), ('"other"', 200)):
        async with http.get(gate.url + "/runestone.js", headers={"If-None-Match": known}) as response:
            assert response.status == status
            assert await response.read() == (b"" if status == 304 else text)
