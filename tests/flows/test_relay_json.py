"""Whole answers through the gateway, same dialect on both sides: bytes in are bytes out."""

from __future__ import annotations

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, relay
from tests.provider import Seen, Wire

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = (
    b'{ "id":"c1", "object":"chat.completion","created":1,"model":"m-2","x_unknown": {"a":[1,2.50]},'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"hello \\u00e9"},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5} }\n'
)
PATHS = ["/v1/chat/completions", "/chat/completions"]


async def answer_whole(seen: Seen, wire: Wire) -> None:
    await wire.answer(
        ANSWER,
        headers={
            "x-request-id": "up-1",
            "openai-processing-ms": "12",
            "x-ratelimit-remaining-requests": "9",
            "set-cookie": "a=b",
            "server": "up",
        },
    )


@pytest.mark.parametrize("path", PATHS)
async def test_bytes_of_the_answer_are_the_providers(
    path: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The answer's bytes come through unchanged, odd spacing, escapes and unknown fields included."""
    up = await provider(answer_whole)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + path, json=ASK) as response:
        assert response.status == 200
        assert await response.read() == ANSWER


async def test_bytes_of_the_request_are_the_clients(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The request's bytes come through unchanged: key order, spacing, unknown fields, numbers as written."""
    up = await provider(answer_whole)
    gate = await gateway(relay(up.url), ENVIRON)
    body = b'{"x_new":{"deep":[1e2,1.0]} , "messages":[{"role":"user","content":"h\\u00e9"}],\n "model" : "m"}'
    async with http.post(
        gate.url + "/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 200
    (seen,) = up.requests
    assert seen.body == body
    assert seen.path == "/v1/chat/completions"


async def test_only_the_model_is_patched_for_an_alias(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """An alias changes the top-level model and nothing else, wherever else the word stands."""
    up = await provider(answer_whole)
    gate = await gateway(relay(up.url, extra='[aliases]\nfast = "up/real-model"'), ENVIRON)
    message = b'{"role":"user","content":"\\"model\\": \\"fast\\""}'
    body = b'{"metadata":{"model": "fast"}, "messages":[' + message + b'], "model": "fast" }'
    async with http.post(
        gate.url + "/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 200
        assert response.headers["x-runestone-model"] == "real-model"
    assert up.requests[0].body == body.replace(b'"model": "fast" }', b'"model": "real-model" }')


async def test_provider_headers_come_through_renamed(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Ids and limits of the provider are seen under names that cannot be taken for the gateway's; the rest is not."""
    up = await provider(answer_whole)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"x-request-id": "mine"}) as response:
        headers = response.headers
    assert headers["x-request-id"] == "mine"
    assert headers["x-provider-request-id"] == "up-1"
    assert headers["openai-processing-ms"] == "12"
    assert headers["x-provider-ratelimit-remaining-requests"] == "9"
    assert "set-cookie" not in headers
    assert headers["x-runestone-provider"] == "up"
    assert headers["x-runestone-attempts"] == "1"
    assert headers["Server-Timing"].startswith("gateway;dur=")


async def test_our_credential_goes_up_and_the_clients_does_not(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The provider sees the configured key, never the client's."""
    up = await provider(answer_whole)
    gate = await gateway(relay(up.url), ENVIRON)
    await http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"Authorization": "Bearer client-key"})
    assert up.requests[0].headers["authorization"] == f"Bearer {ENVIRON['UP_KEY']}"
    assert "client-key" not in str(up.requests[0])


async def test_passthrough_sends_the_clients_own_credential(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With passthrough the client's key goes up in the provider's own header."""
    up = await provider(answer_whole)
    gate = await gateway(
        f'[providers.up]\nkind = "openai-compatible"\nbase_url = "{up.url}/v1"\nmodels = ["m"]\npassthrough = true'
    )
    await http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"x-api-key": "client-key"})
    assert up.requests[0].headers["authorization"] == "Bearer client-key"


async def test_the_azure_form_names_the_model_in_the_path(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A deployment in the path is the model, and the body may leave it out."""
    up = await provider(answer_whole)
    gate = await gateway(relay(up.url), ENVIRON)
    body = {"messages": ASK["messages"]}
    path = "/openai/deployments/m/chat/completions?api-version=2024-10-21"
    async with http.post(gate.url + path, json=body, headers={"api-key": "k"}) as response:
        assert response.status == 200
    assert up.requests[0].json == {"model": "m", **body}


async def test_a_provider_4xx_keeps_its_bytes_and_retry_after(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A refusal of the provider is the provider's: status, body and retry-after."""
    body = b'{"error": {"message":"slow down","type":"tokens","param":null,"code":"rate_limit_exceeded","x":1}}'

    async def refuse(seen: Seen, wire: Wire) -> None:
        await wire.answer(body, status=429, headers={"retry-after": "7", "x-request-id": "up-9"})

    up = await provider(refuse)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == 429
        assert await response.read() == body
        assert response.headers["retry-after"] == "7"
        assert response.headers["x-provider-request-id"] == "up-9"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error":{"message":"boom","type":"server_error"}}'),
        (503, b"<html>no</html>"),
        (529, b""),
        (302, b""),
        (200, b"<html>hello</html>"),
        (200, b'{"error":{"message":"boom"}}'),
        (200, b"[]"),
        (200, ANSWER[:100]),
    ],
)
async def test_a_bad_answer_is_a_502(
    status: int, body: bytes, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """5xx, redirects, garbage, a cut body and errors in the guise of an answer are the provider's failure."""

    async def fail(seen: Seen, wire: Wire) -> None:
        await wire.answer(body, status=status, headers={"location": "http://127.0.0.1:1/"})

    up = await provider(fail)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == 502
        error = orjson.loads(await response.read())["error"]
    assert (error["type"], error["code"]) == ("api_error", "provider_error")
    assert len(up.requests) == 1


async def test_a_provider_that_is_not_there_is_a_502(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Nobody listening is the provider's failure, and the address is not told."""
    gate = await gateway(relay("http://127.0.0.1:9"), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == 502
        assert b"127.0.0.1" not in await response.read()


async def test_the_next_target_answers_when_the_first_cannot(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A model with two targets is answered by the second when the first fails."""

    async def fail(seen: Seen, wire: Wire) -> None:
        await wire.answer(b"{}", status=500)

    bad, good = await provider(fail), await provider(answer_whole)
    one = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'
    models = '[models.both]\ntargets = ["bad/x", "good/y"]'
    gate = await gateway(one.format("bad", bad.url) + one.format("good", good.url) + models)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "model": "both"}) as response:
        assert response.status == 200
        assert response.headers["x-runestone-attempts"] == "2"
        assert response.headers["x-runestone-provider"] == "good"
    assert good.requests[0].json["model"] == "y"


@pytest.mark.parametrize(
    "refusal",
    [
        (401, {"error": {"message": "bad key", "type": "invalid_request_error", "code": "invalid_api_key"}}),
        (404, {"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}}),
    ],
    ids=["our key is refused", "it has no such model"],
)
async def test_what_another_target_could_answer_moves_on(
    refusal: tuple[int, dict[str, object]],
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """A refusal that says something of the target, and not of the call, is taken to the next one, and named in the
    log.
    """
    status, body = refusal

    async def refuse(seen: Seen, wire: Wire) -> None:
        await wire.answer(body, status=status)

    bad, good = await provider(refuse), await provider(answer_whole)
    one = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "{}/v1"\napi_keys = ["env:UP_KEY"]\n'
    toml = one.format("bad", bad.url) + one.format("good", good.url) + '[models.both]\ntargets = ["bad/x", "good/y"]'
    gate = await gateway(toml, ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "model": "both"}) as response:
        assert response.status == 200
    assert (len(bad.requests), len(good.requests)) == (1, 1)


async def test_a_target_that_cannot_be_asked_is_passed_over(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What cannot be carried to one dialect is asked of the next target, which speaks the client's own."""
    up = await provider(answer_whole)
    toml = (
        f'[providers.claude]\nkind = "anthropic"\nbase_url = "{up.url}"\napi_keys = ["env:UP_KEY"]\n'
        f'[providers.open]\nkind = "openai-compatible"\nbase_url = "{up.url}/v1"\n'
        '[models.both]\ntargets = ["claude/x", "open/y"]'
    )
    gate = await gateway(toml, ENVIRON)
    async with http.post(
        gate.url + "/v1/chat/completions", json={**ASK, "model": "both", "logprobs": True}
    ) as response:
        assert response.status == 200
    assert [seen.path for seen in up.requests] == ["/v1/chat/completions"]
