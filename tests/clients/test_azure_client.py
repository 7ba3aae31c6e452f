"""The Azure client of OpenAI's SDK: a deployment in the path, the key in `api-key`, a version in the query."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI

from tests.clients.sdks import RIVERS, SIMULATED, answers, chat
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, Gateway, relay

KEYS = '[auth]\nrequired = true\n[[auth.keys]]\nname = "app"\nkey = "env:APP_KEY"\n'
APP = {"APP_KEY": "app-secret-0123456789"}
HI: Any = RIVERS


def azure(stack: AsyncExitStack, gate: Gateway, key: str = APP["APP_KEY"], **options: Any) -> AsyncAzureOpenAI:
    client = AsyncAzureOpenAI(
        azure_endpoint=gate.url, api_key=key, api_version="2024-10-21", max_retries=0, timeout=20.0, **options
    )
    stack.push_async_exit(client)
    return client


async def test_a_model_is_its_deployment(gateway: StartGateway, stack: AsyncExitStack) -> None:
    """The client asks at /openai/deployments/{model}, with its key in `api-key`, and gets an answer."""
    client = azure(stack, await gateway(KEYS + SIMULATED, APP))
    raw = await client.chat.completions.with_raw_response.create(model="simulated", messages=HI)
    assert raw.http_request.url.path == "/openai/deployments/simulated/chat/completions"
    assert raw.http_request.headers["api-key"] == APP["APP_KEY"]
    assert raw.parse().choices[0].message.content


async def test_a_thread_can_stream(gateway: StartGateway, stack: AsyncExitStack) -> None:
    """The synchronous Azure client streams."""
    gate = await gateway(KEYS + SIMULATED, APP)
    client = stack.enter_context(
        AzureOpenAI(azure_endpoint=gate.url, api_key=APP["APP_KEY"], api_version="2024-10-21", max_retries=0)
    )

    def read() -> str:
        with client.chat.completions.stream(model="simulated", messages=HI) as stream:
            return stream.get_final_completion().choices[0].message.content or ""

    assert "ivers" in await asyncio.to_thread(read)


async def test_a_fixed_deployment_wins(gateway: StartGateway, provider: StartProvider, stack: AsyncExitStack) -> None:
    """With `azure_deployment` the path names the model, whatever the body says, and the provider is asked for that."""
    up = await provider(answers(chat("ok")))
    client = azure(stack, await gateway(relay(up.url), ENVIRON), azure_deployment="m")
    await client.chat.completions.create(model="something-else", messages=HI)
    (seen,) = up.requests
    assert seen.path == "/v1/chat/completions"
    assert seen.json["model"] == "m"


async def test_embeddings_and_completions_have_deployments_too(gateway: StartGateway, stack: AsyncExitStack) -> None:
    """The other operations stand at the same form of path."""
    client = azure(stack, await gateway(KEYS + SIMULATED, APP))
    assert (await client.embeddings.create(model="simulated", input="x", dimensions=4)).data[0].embedding
    assert (await client.completions.create(model="simulated", prompt="Rivers")).choices[0].text


async def test_a_wrong_key_is_refused(gateway: StartGateway, stack: AsyncExitStack) -> None:
    """An unknown `api-key` raises AuthenticationError."""
    client = azure(stack, await gateway(KEYS + SIMULATED, APP), key="nobody-0123456789")
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.chat.completions.create(model="simulated", messages=HI)
    assert caught.value.code == "invalid_api_key"


async def test_an_unknown_deployment_is_not_found(gateway: StartGateway, stack: AsyncExitStack) -> None:
    """A deployment that is no model here raises NotFoundError."""
    client = azure(stack, await gateway(KEYS + SIMULATED, APP))
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=HI)
    assert caught.value.code == "model_not_found"
