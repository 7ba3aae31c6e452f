"""SDK and provider of the same vendor: what the SDK adds reaches the provider, and what the provider adds the SDK."""

from __future__ import annotations

import base64
import struct
from typing import Any

import anthropic

from tests.clients.conftest import Clients
from tests.clients.sdks import ANTHROPIC_TOOLS, answers, chat, message, text, tool_use
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, relay

HI: list[Any] = [{"role": "user", "content": "hi"}]


async def test_extra_fields_pass_both_ways(gateway: StartGateway, provider: StartProvider, clients: Clients) -> None:
    """extra_body arrives at the provider, and a field of its own in the answer is in model_extra."""
    up = await provider(answers({**chat("ok"), "vendor_note": {"a": [1]}}))
    client = clients.async_openai(await gateway(relay(up.url), ENVIRON))
    completion = await client.chat.completions.create(model="m", messages=HI, extra_body={"vendor_field": {"b": 2}})
    assert up.requests[0].json["vendor_field"] == {"b": 2}
    assert completion.model_extra == {"vendor_note": {"a": [1]}}


async def test_the_clients_key_stays_here(gateway: StartGateway, provider: StartProvider, clients: Clients) -> None:
    """The provider sees our key, not the client's, and none of the client's headers that are not for it."""
    up = await provider(answers(chat("ok"), message(text("ok"))))
    client = clients.async_openai(await gateway(relay(up.url), ENVIRON), organization="org-1")
    await client.chat.completions.create(model="m", messages=HI, extra_headers={"cookie": "a=b"})
    headers = up.requests[0].headers
    assert headers["authorization"] == f"Bearer {ENVIRON['UP_KEY']}"
    assert not [value for value in headers.values() if "client-key" in value]
    assert not {"cookie", "openai-organization"} & headers.keys()
    assert not [name for name in headers if name.startswith("x-stainless")]


async def test_the_clients_key_goes_up_when_told_to(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """With `passthrough` the provider is paid by the client's own key, in the provider's header."""
    up = await provider(answers(message(text("ok"))))
    toml = relay(up.url, dialect="anthropic").replace('api_keys = ["env:UP_KEY"]', "passthrough = true")
    gate = await gateway(toml, ENVIRON)
    await clients.async_anthropic(gate).messages.create(model="m", max_tokens=9, messages=HI)
    assert up.requests[0].headers["x-api-key"] == "client-key"


async def test_betas_reach_anthropic(gateway: StartGateway, provider: StartProvider, clients: Clients) -> None:
    """The beta client's path and its `betas` arrive as Anthropic expects them."""
    up = await provider(answers(message(text("ok"))))
    client = clients.async_anthropic(await gateway(relay(up.url, dialect="anthropic"), ENVIRON))
    await client.beta.messages.create(model="m", max_tokens=9, messages=HI, betas=["files-api-2025-04-14"])
    assert up.requests[0].headers["anthropic-beta"] == "files-api-2025-04-14"
    assert "betas" not in up.requests[0].json


async def test_the_tool_runner_holds_its_thread(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """The SDK's tool runner lets Anthropic hold the conversation; its second turn continues from the first's id."""

    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """Weather of a city."""
        return f"rain in {city}"

    up = await provider(
        answers(message(tool_use("get_weather", {"city": "Oslo"}), stop="tool_use"), message(text("ok")))
    )
    client = clients.async_anthropic(await gateway(relay(up.url, dialect="anthropic"), ENVIRON))
    runner = client.beta.messages.tool_runner(model="m", max_tokens=9, messages=HI, tools=[get_weather])
    await runner.until_done()
    first, second = (seen.json for seen in up.requests)
    assert first["thread"] == {"type": "create"}
    assert second["thread"] == {"type": "continue", "previous_message_id": "msg_up1"}
    assert second["messages"][0]["content"][0]["content"] == "rain in Oslo"


async def test_anthropic_counts_its_own_tokens(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """count_tokens is asked of a provider that can count."""
    up = await provider(answers({"input_tokens": 4711}))
    client = clients.async_anthropic(await gateway(relay(up.url, dialect="anthropic"), ENVIRON))
    counted = await client.messages.count_tokens(model="m", messages=HI, tools=ANTHROPIC_TOOLS)
    assert counted.input_tokens == 4711
    assert up.requests[0].path == "/v1/messages/count_tokens"


async def test_embeddings_are_asked_for_in_base64(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """The SDK's default encoding reaches the provider, and its bytes come back as the numbers they are."""
    packed = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()
    data = [{"object": "embedding", "index": 0, "embedding": packed}]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    up = await provider(answers({"object": "list", "data": data, "model": "m", "usage": usage}))
    client = clients.async_openai(await gateway(relay(up.url), ENVIRON))
    answer = await client.embeddings.create(model="m", input="x")
    assert up.requests[0].json["encoding_format"] == "base64"
    assert answer.data[0].embedding == [0.5, -2.0]
