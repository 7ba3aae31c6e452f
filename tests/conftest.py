"""What flows share: a gateway on a real socket, and a provider that does on its own socket exactly what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, settings

from tests.gateway import Gateway, start_gateway
from tests.provider import FakeProvider, Script

# How long an example takes says something of the machine, not of the code; what must be fast has a bound of its own.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

StartGateway = Callable[..., Awaitable[Gateway]]
StartProvider = Callable[[Script], Awaitable[FakeProvider]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def provider(stack: AsyncExitStack) -> StartProvider:
    """`await provider(script)`: a server that answers every request by `script(request, wire)`."""

    async def start(script: Script) -> FakeProvider:
        return await stack.enter_async_context(FakeProvider(script))

    return start


@pytest.fixture
async def gateway(stack: AsyncExitStack, tmp_path: Path) -> StartGateway:
    """`await gateway(toml, environ={})`: a running gateway with that configuration."""

    async def start(toml: str, environ: dict[str, str] | None = None) -> Gateway:
        return await stack.enter_async_context(start_gateway(toml, tmp_path, environ or {}))

    return start


@pytest.fixture
async def http(stack: AsyncExitStack) -> aiohttp.ClientSession:
    """A plain client, for what SDKs would hide."""
    return await stack.enter_async_context(
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20), auto_decompress=False)
    )


async def settled(value: Callable[[], int], polls: int = 60) -> int:
    """The value once it has stayed the same for `polls` looks, 5 ms apart."""
    last, same = value(), 0
    while same < polls:
        await asyncio.sleep(0.005)
        last, same = value(), same + 1 if value() == last else 0
    return last


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits for something another task must bring about; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in code that knows no test
            await asyncio.sleep(0.005)
