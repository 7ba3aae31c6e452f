"""Client keys: who may call, what they may ask for, and that a key is never told to anyone."""

from __future__ import annotations

import io
import logging

import aiohttp
import pytest

from runestone.core.keys import digest
from runestone.telemetry.logs import JsonFormatter
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, relay
from tests.provider import Seen, Wire

ASK = {"model": "m", "messages": [{"role": "user", "content": "a very private prompt"}]}
GOOD, OFF, OLD, NARROW = "rs-good-key-1", "rs-off-key-2", "rs-old-key-3", "rs-narrow-key-4"


def auth(*, required: bool = True) -> str:
    return f"""
[auth]
required = {str(required).lower()}
[[auth.keys]]
name = "good"
sha256 = "{digest(GOOD)}"
[[auth.keys]]
name = "off"
sha256 = "{digest(OFF)}"
active = false
[[auth.keys]]
name = "old"
sha256 = "{digest(OLD)}"
expires = 2020-01-01T00:00:00Z
[[auth.keys]]
name = "narrow"
sha256 = "{digest(NARROW)}"
models = ["other-*"]
"""


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer({"choices": [], "id": "x"})


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {GOOD}"},
        {"Authorization": f"bearer {GOOD}"},
        {"Authorization": GOOD},
        {"x-api-key": GOOD},
        {"api-key": GOOD},
    ],
)
async def test_a_key_may_come_in_any_of_its_headers(
    headers: dict[str, str], gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """OpenAI's, Anthropic's and Azure's way of showing a key are all accepted."""
    up = await provider(answer)
    gate = await gateway(relay(up.url, extra=auth()), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, 401, "missing_authorization"),
        ("", 401, "missing_authorization"),
        ("rs-unknown", 401, "invalid_api_key"),
        (OFF, 401, "invalid_api_key"),
        (OLD, 401, "expired_api_key"),
        (NARROW, 403, "insufficient_permissions"),
    ],
)
async def test_a_refused_key(
    key: str | None,
    status: int,
    code: str,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """A missing, unknown, disabled, expired or narrower key is refused with its own code, and nothing goes up."""
    up = await provider(answer)
    gate = await gateway(relay(up.url, extra=auth()), ENVIRON)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=headers) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error["code"] == code
    assert error["type"] == ("permission_error" if status == 403 else "invalid_request_error")
    assert up.requests == []


async def test_an_unlisted_key_is_ignored_where_none_is_required(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Without `required` any key will do, but a listed one that is disabled is still refused."""
    up = await provider(answer)
    gate = await gateway(relay(up.url, extra=auth(required=False)), ENVIRON)
    for key, status in (("sk-whatever", 200), (GOOD, 200), (OFF, 401), (NARROW, 403)):
        async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"x-api-key": key}) as response:
            assert response.status == status


async def test_the_model_list_shows_what_the_key_may_use(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """GET /v1/models leaves out what the key may not ask for."""
    gate = await gateway(relay("http://127.0.0.1:9", extra='[aliases]\nother-1 = "up/x"\n' + auth()), ENVIRON)
    for key, names in ((GOOD, ["m", "other-1"]), (NARROW, ["other-1"])):
        async with http.get(gate.url + "/v1/models", headers={"x-api-key": key}) as response:
            assert [model["id"] for model in (await response.json())["data"]] == names


async def test_health_and_metrics_need_no_key(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Load balancers and Prometheus get in without a key; a path that only begins like theirs does not."""
    gate = await gateway(relay("http://127.0.0.1:9", extra=auth()), ENVIRON)
    for path, status in (
        ("/health", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics", 200),
        ("/healthy", 401),
    ):
        async with http.get(gate.url + path) as response:
            assert response.status == status


async def test_keys_secrets_and_prompts_are_told_to_nobody(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Neither logs nor errors nor metrics hold a client's key, the provider's secret, or a prompt."""

    async def refuse(seen: Seen, wire: Wire) -> None:
        body = {"error": {"message": f"Incorrect API key provided: {ENVIRON['UP_KEY']}", "code": "invalid_api_key"}}
        await wire.answer(body, status=401)

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("runestone")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        up = await provider(refuse)
        gate = await gateway(relay(up.url, extra=auth()), ENVIRON)
        told = ""
        for key in (GOOD, "rs-unknown", OFF, NARROW):
            async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"x-api-key": key}) as response:
                told += await response.text() + str(response.headers)
        async with http.get(gate.url + "/metrics") as response:
            told += await response.text()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    told += written.getvalue()
    assert '"key":"good"' in told
    for secret in (GOOD, OFF, OLD, NARROW, "rs-unknown", ENVIRON["UP_KEY"], "private prompt"):
        assert secret not in told


async def test_a_key_of_ours_never_goes_to_a_provider(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With passthrough a client's own credential goes up; a listed key is for the gateway, and does not."""
    up = await provider(answer)
    toml = relay(up.url, extra="passthrough = true\n" + auth(required=False)).replace('api_keys = ["env:UP_KEY"]', "")
    gate = await gateway(toml, ENVIRON)
    for key in ("sk-their-own", GOOD):
        await http.post(gate.url + "/v1/chat/completions", json=ASK, headers={"Authorization": f"Bearer {key}"})
    assert [seen.headers.get("authorization") for seen in up.requests] == ["Bearer sk-their-own", None]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_admin_is_for_admin_keys(method: str, gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Without a key 401, with an ordinary one 403, with an admin's 200."""
    keys = auth(required=False).replace('name = "good"', 'name = "good"\nadmin = true')
    gate = await gateway(relay("http://127.0.0.1:9", extra=keys), ENVIRON)
    path = "/admin/providers" + ("" if method == "GET" else "/up/reset")
    for key, status in ((None, 401), (NARROW, 403), (GOOD, 200)):
        headers = {"x-api-key": key} if key else {}
        async with http.request(method, gate.url + path, headers=headers) as response:
            assert response.status == status
