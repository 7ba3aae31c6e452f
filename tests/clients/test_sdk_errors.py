"""Errors as SDKs raise them: the class, the fields and the request id, whoever failed, in whatever dialect."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from tests.clients.conftest import Clients
from tests.clients.sdks import SIMULATED, answers, chat, message, text
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire

HI: list[Any] = [{"role": "user", "content": "hi"}]
SDKS = {"openai": openai, "anthropic": anthropic}
CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
OPENAI_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

every_sdk = pytest.mark.parametrize("sdk", SDKS)
every_provider = pytest.mark.parametrize("dialect", SDKS)


def client_of(sdk: str, clients: Clients, gate: Gateway, **options: Any) -> Any:
    return clients.async_openai(gate, **options) if sdk == "openai" else clients.async_anthropic(gate, **options)


async def ask(client: Any, **more: Any) -> Any:
    """The plainest call of either SDK."""
    if isinstance(client, openai.AsyncOpenAI):
        return await client.chat.completions.create(**{"model": "m", "messages": HI, **more})
    return await client.messages.create(**{"model": "m", "max_tokens": 9, "messages": HI, **more})


def refusal(dialect: str, status: int) -> dict[str, Any]:
    """A refusal as the vendor writes it."""
    if dialect == "openai":
        kind = OPENAI_TYPES.get(status, "invalid_request_error")
        return {"error": {"message": f"no: {status}", "type": kind, "param": "messages", "code": "the_code"}}
    kind = ANTHROPIC_TYPES.get(status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": f"no: {status}"}, "request_id": "req_up"}


@pytest.mark.parametrize("status", CLASSES)
@every_provider
@every_sdk
async def test_a_refusal_has_its_class(
    sdk: str, dialect: str, status: int, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """A provider's 4xx raises the SDK's class for that status, with the provider's words and the request's id."""
    up = await provider(answers(refusal(dialect, status), status=status))
    gate = await gateway(relay(up.url, dialect=dialect), ENVIRON)
    client = client_of(sdk, clients, gate, default_headers={"x-request-id": "mine-1"})
    with pytest.raises(getattr(SDKS[sdk], CLASSES[status])) as caught:
        await ask(client)
    assert f"no: {status}" in str(caught.value)
    assert caught.value.request_id == "mine-1"


@every_sdk
async def test_a_refusal_keeps_what_the_provider_said(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Same dialect: the SDK's exception holds the provider's own error object, code and param included."""
    said = refusal(sdk, 400)
    up = await provider(answers(said, status=400))
    gate = await gateway(relay(up.url, dialect=sdk), ENVIRON)
    with pytest.raises(SDKS[sdk].BadRequestError) as caught:  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate))
    if sdk == "openai":
        error = caught.value
        assert (error.type, error.code, error.param) == ("invalid_request_error", "the_code", "messages")
    else:
        assert caught.value.body == said


@every_provider
async def test_anthropics_types_are_its_own(
    dialect: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Whoever refused, Anthropic's SDK reads Anthropic's type for it."""
    up = await provider(answers(refusal(dialect, 401), status=401))
    gate = await gateway(relay(up.url, dialect=dialect), ENVIRON)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        await ask(clients.async_anthropic(gate))
    assert caught.value.type == "authentication_error"


@every_provider
@every_sdk
async def test_a_rate_limit_is_waited_for(
    sdk: str, dialect: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """The SDK's own retry asks again after a 429, and the second answer is the result."""
    good = chat("ok") if dialect == "openai" else message(text("ok"))

    async def script(seen: Seen, wire: Wire) -> None:
        if len(up.requests) == 1:
            await wire.answer(refusal(dialect, 429), status=429, headers={"Retry-After": "0.001"})
        else:
            await wire.answer(good)

    up: FakeProvider = await provider(script)
    gate = await gateway(relay(up.url, dialect=dialect), ENVIRON)
    answer = await ask(client_of(sdk, clients, gate, max_retries=1))
    assert "ok" in answer.model_dump_json()
    assert len(up.requests) == 2


@every_provider
@every_sdk
async def test_a_rate_limit_says_how_long(
    sdk: str, dialect: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """RateLimitError's response has the provider's Retry-After, as it was; the SDK does not wait that long."""
    headers = {"Retry-After": "3600", "x-ratelimit-remaining-requests": "0"}
    up = await provider(answers(refusal(dialect, 429), status=429, headers=headers))
    gate = await gateway(relay(up.url, dialect=dialect), ENVIRON)
    with pytest.raises(SDKS[sdk].RateLimitError) as caught:  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate))
    assert caught.value.response.headers["retry-after"] == "3600"
    assert caught.value.response.headers["x-provider-ratelimit-remaining-requests"] == "0"


@every_sdk
async def test_a_provider_can_forbid_retries(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Both vendors say `x-should-retry: false` where asking again is useless (a quota spent), and both SDKs obey it."""
    headers = {"x-should-retry": "false", "retry-after-ms": "1"}
    up = await provider(answers(refusal(sdk, 429), status=429, headers=headers))
    gate = await gateway(relay(up.url, dialect=sdk), ENVIRON)
    with pytest.raises(SDKS[sdk].RateLimitError):  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate, max_retries=1))
    assert len(up.requests) == 1


@every_provider
@every_sdk
async def test_a_failing_provider_is_an_internal_server_error(
    sdk: str, dialect: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """A provider's 5xx is a 502: InternalServerError, with its request id."""
    up = await provider(answers(refusal(dialect, 500), status=500))
    gate = await gateway(relay(up.url, dialect=dialect), ENVIRON)
    with pytest.raises(SDKS[sdk].InternalServerError) as caught:  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate))
    assert caught.value.status_code == 502
    assert caught.value.type == "api_error"
    assert caught.value.request_id


@every_sdk
async def test_a_key_is_required(sdk: str, gateway: StartGateway, clients: Clients) -> None:
    """With `required`, a wrong key raises AuthenticationError, the right one is let in, as each SDK presents it."""
    keys = '[auth]\nrequired = true\n[[auth.keys]]\nname = "app"\nkey = "env:APP_KEY"\nmodels = ["simulated"]\n'
    gate = await gateway(keys + SIMULATED, {"APP_KEY": "app-secret-0123456789"})
    wrong = client_of(sdk, clients, gate, api_key="nobody-0123456789")
    with pytest.raises(SDKS[sdk].AuthenticationError):  # type: ignore[attr-defined]
        await ask(wrong, model="simulated")
    right = client_of(sdk, clients, gate, api_key="app-secret-0123456789")
    assert await ask(right, model="simulated")
    with pytest.raises(SDKS[sdk].PermissionDeniedError):  # type: ignore[attr-defined]
        await ask(right, model="simulated/other")


@every_sdk
async def test_a_wrong_field_is_a_bad_request(sdk: str, gateway: StartGateway, clients: Clients) -> None:
    """A field of the wrong type raises BadRequestError that names it, with the request's id."""
    gate = await gateway(SIMULATED)
    with pytest.raises(SDKS[sdk].BadRequestError, match="max_tokens") as caught:  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate), model="simulated", max_tokens="many")
    assert caught.value.request_id


@every_sdk
async def test_an_sdk_gives_up_when_it_likes(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """A provider that hangs: the SDK's own timeout raises APITimeoutError, and the provider's call ends with it."""
    gone = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.left()
        gone.set()

    up = await provider(script)
    gate = await gateway(relay(up.url, dialect=sdk), ENVIRON)
    with pytest.raises(SDKS[sdk].APITimeoutError):  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate, timeout=0.2))
    async with asyncio.timeout(5):
        await gone.wait()


@every_sdk
async def test_a_deadline_of_the_gateway_is_a_504(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """The gateway's own timeout raises the SDK's class for 5xx, with status 504 and the deadline's name."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.left()

    up = await provider(script)
    waits = '[routing.timeouts]\nfirst_byte = "100ms"\n'
    gate = await gateway(relay(up.url, dialect=sdk, extra=waits), ENVIRON)
    with pytest.raises(SDKS[sdk].InternalServerError, match="first_byte") as caught:  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate))
    assert caught.value.status_code == 504


@every_sdk
async def test_nobody_there_is_a_502(sdk: str, gateway: StartGateway, clients: Clients) -> None:
    """A provider that cannot be reached raises InternalServerError, not a broken connection."""
    gate = await gateway(relay("http://127.0.0.1:9", dialect=sdk), ENVIRON)
    with pytest.raises(SDKS[sdk].InternalServerError) as caught:  # type: ignore[attr-defined]
        await ask(client_of(sdk, clients, gate))
    assert caught.value.status_code == 502
