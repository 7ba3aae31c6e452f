"""A page of a real browser, in the origin of a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.browser.chromium import Page, browser, why_not
from tests.browser.proxy import Proxy
from tests.gateway import Gateway

StartProxy = Callable[[Gateway], Awaitable[Proxy]]


@pytest.fixture(scope="session")
def driven() -> Iterator[str]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with browser() as session:
        yield session


@pytest.fixture
async def page(driven: str) -> AsyncIterator[Page]:
    """`await page.open(url)`, then `await page.run(script)`. Whatever fails unheard in it fails the test."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        page = Page(driven, http)
        yield page
        faults = await page.run("return window.faults")
        await page.open("about:blank")
        assert faults == []


@pytest.fixture
async def proxy(stack: AsyncExitStack) -> StartProxy:
    """`await proxy(gateway)`: a way to the gateway that can be cut."""

    async def start(gate: Gateway) -> Proxy:
        return await stack.enter_async_context(Proxy(gate.port))

    return start
