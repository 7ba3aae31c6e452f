"""The vendors' own SDKs, unchanged but for the base URL."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from tests.clients.sdks import SIMULATED
from tests.conftest import StartGateway
from tests.gateway import Gateway


@dataclass
class Clients:
    """Makes clients of a gateway and closes them after the test. They do not retry unless told to."""

    stack: AsyncExitStack

    def openai(self, gate: Gateway, **options: Any) -> OpenAI:
        return self.stack.enter_context(OpenAI(base_url=gate.url + "/v1", **self._with_defaults(options)))

    def anthropic(self, gate: Gateway, **options: Any) -> Anthropic:
        return self.stack.enter_context(Anthropic(base_url=gate.url, **self._with_defaults(options)))

    def async_openai(self, gate: Gateway, **options: Any) -> AsyncOpenAI:
        client = AsyncOpenAI(base_url=gate.url + "/v1", **self._with_defaults(options))
        self.stack.push_async_exit(client)
        return client

    def async_anthropic(self, gate: Gateway, **options: Any) -> AsyncAnthropic:
        client = AsyncAnthropic(base_url=gate.url, **self._with_defaults(options))
        self.stack.push_async_exit(client)
        return client

    def _with_defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"api_key": "client-key", "max_retries": 0, "timeout": 20.0, **options}


@pytest.fixture
def clients(stack: AsyncExitStack) -> Clients:
    return Clients(stack)


@pytest.fixture
async def simulated(gateway: StartGateway) -> Gateway:
    """A gateway with the built-in model, as fast as it goes."""
    return await gateway(SIMULATED)
