"""What tests of the Python client share: a proxy that loses connections, and a client that soon tries again."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from blockbuster import blockbuster_ctx

from runestone.client import Client, Reconnect
from tests.client.proxy import Proxy
from tests.client.speaker import Script, Speaker

SOON = Reconnect(first_wait=0.01, longest_wait=0.1, give_up_after=5.0, attempt=2.0)

StartProxy = Callable[[int], Awaitable[Proxy]]
StartSpeaker = Callable[[Script], Awaitable[Speaker]]
MakeClient = Callable[..., Client]


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """A blocking call of the client inside the loop is an error."""
    with blockbuster_ctx(["runestone.client"]):
        yield


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """Every test leaves no task of the client behind, and nothing that warns when it is collected."""
    yield
    gc.collect()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("a session", "a stream"))]
    assert not left


@pytest.fixture
async def proxy(stack: AsyncExitStack) -> StartProxy:
    """`await proxy(port)`: a Proxy in front of that port."""

    async def start(port: int) -> Proxy:
        return await stack.enter_async_context(Proxy(port))

    return start


@pytest.fixture
async def speaker(stack: AsyncExitStack) -> StartSpeaker:
    """`await speaker(script)`: a Speaker."""

    async def start(script: Script) -> Speaker:
        return await stack.enter_async_context(Speaker(script))

    return start


@pytest.fixture
async def client(stack: AsyncExitStack) -> MakeClient:
    """`client(url, **options)`: a Client that is closed when the test is over."""

    def make(url: str, **options: object) -> Client:
        made = Client(url, **{"reconnect": SOON, "timeout": 5.0, **options})  # type: ignore[arg-type]
        stack.push_async_callback(made.close)
        return made

    return make
