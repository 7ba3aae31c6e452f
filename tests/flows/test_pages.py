"""Web pages in a developer's browser, before a gateway that needs no key; and what a key is told of others' models."""

from __future__ import annotations

import aiohttp
import orjson
import pytest

from runestone.core.keys import digest
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, relay
from tests.provider import Seen, Wire

ASK = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})


async def answer(seen: Seen, wire: Wire) -> None:
    await wire.answer({"choices": [], "id": "x"})


@pytest.mark.parametrize(
    "headers",
    [
        # fetch(url, {mode: "no-cors", body: new Blob([...])}), which browsers send unasked; a name that was rebound to
        # this machine; a page in a sandbox
        {"Origin": "https://evil.example"},
        {"Origin": "http://evil.example:4003", "Host": "evil.example:4003", "Content-Type": "application/json"},
        {"Origin": "null"},
    ],
)
async def test_a_page_of_somebody_elses_spends_nothing(
    headers: dict[str, str], gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Without a key, a page must be of an address of our own, or of server.cors_origins: as for WebSockets."""
    up = await provider(answer)
    gate = await gateway(relay(up.url), ENVIRON)
    async with http.post(
        gate.url + "/v1/chat/completions", data=ASK, headers=headers, skip_auto_headers={"Content-Type"}
    ) as response:
        assert response.status == 403
    assert not up.requests


async def test_a_hint_names_only_what_the_key_may_use(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """GET /v1/models leaves the others out, and so does model_not_found."""
    up = await provider(answer)
    more = '[models.gpt-secret-project]\ntargets = ["up/m"]\n'
    more += f'[[auth.keys]]\nname = "k"\nsha256 = "{digest("rs-k")}"\nmodels = ["gpt-secret-projec", "m"]\n'
    gate = await gateway(relay(up.url, extra=more), ENVIRON)
    ask = {"model": "gpt-secret-projec", "messages": [{"role": "user", "content": "hi"}]}
    async with http.post(gate.url + "/v1/chat/completions", json=ask, headers={"x-api-key": "rs-k"}) as response:
        assert response.status == 404
        assert "gpt-secret-project'" not in (told := await response.text()), told
        assert "gpt-secret-project?" not in told, told
