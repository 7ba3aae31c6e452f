"""The limits of a client's key: told on every answer, refused with the real wait, given back."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.gateway import ENVIRON, relay
from tests.provider import Seen, Wire

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
HEADERS = {"x-api-key": "key-of-the-team"}


def limited(url: str, limits: str) -> str:
    return relay(url, extra=f'[[auth.keys]]\nname = "team"\nkey = "env:TEAM"\n{limits}\n')


SECRETS = {**ENVIRON, "TEAM": "key-of-the-team"}


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 20}})


async def test_calls_over_the_limit_wait_as_long_as_they_are_told(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Two a minute: the third is a 429 with the real wait and goes nowhere; answers say what is left."""
    up = await provider(answer)
    gate = await gateway(limited(up.url, "requests_per_minute = 2"), SECRETS)
    left = []
    for status in (200, 200, 429):
        async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=HEADERS) as response:
            assert response.status == status
            assert response.headers["x-ratelimit-limit-requests"] == "2"
            left.append(response.headers["x-ratelimit-remaining-requests"])
            wait = response.headers.get("Retry-After")
    assert left == ["1", "0", "0"]
    assert wait in ("29", "30")
    assert len(up.requests) == 2
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        assert response.status == 200
        assert "x-ratelimit-limit-requests" not in response.headers


async def test_tokens_are_corrected_when_a_call_ends(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The estimate is taken at the start, the provider's count at the end."""
    up = await provider(answer)
    gate = await gateway(limited(up.url, "tokens_per_minute = 1000"), SECRETS)
    async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=HEADERS) as response:
        await response.read()
    async with http.get(gate.url + "/v1/models", headers=HEADERS) as response:
        assert 939 <= int(response.headers["x-ratelimit-remaining-tokens"]) <= 945


@pytest.mark.parametrize("how", ["answered", "failed", "left"])
async def test_a_slot_is_always_given_back(
    how: str, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Whatever becomes of a call, the next one finds its slot."""
    release = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        if len(up.requests) > 1:
            await answer(seen, wire)
        elif how == "left":
            await wire.left()
        else:
            await release.wait()
            await wire.answer({"choices": []}, status=500 if how == "failed" else 200)

    up = await provider(script)
    gate = await gateway(limited(up.url, "concurrent_requests = 1"), SECRETS)

    async def ask() -> int:
        async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=HEADERS) as response:
            return response.status

    first = asyncio.ensure_future(ask())
    await until(lambda: len(up.requests) == 1)
    assert await ask() == 429
    if how == "left":
        first.cancel()
        await until(lambda: up.open == 0)
    else:
        release.set()
        assert await first == (502 if how == "failed" else 200)
    assert await ask() == 200


async def test_a_queue_waits_instead_of_refusing(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """With `queue` the calls over the limit take their turns, in order, and all are answered."""
    up = await provider(answer)
    gate = await gateway(limited(up.url, 'concurrent_requests = 1\nqueue = "5s"'), SECRETS)

    async def ask() -> int:
        async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=HEADERS) as response:
            return response.status

    assert await asyncio.gather(*(ask() for _ in range(10))) == [200] * 10


async def test_a_queue_is_not_endless(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Who would wait longer than `queue` hears so at once."""
    up = await provider(answer)
    gate = await gateway(limited(up.url, 'requests_per_minute = 1\nqueue = "1s"'), SECRETS)
    for status in (200, 429):
        async with http.post(gate.url + "/v1/chat/completions", json=ASK, headers=HEADERS) as response:
            assert response.status == status
