"""Streams in SDKs' hands when they do not go well: left early, cut, failed; and several at once through one client."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import anthropic
import openai
import pytest

from tests.clients.conftest import Clients
from tests.clients.sdks import (
    answers,
    anthropic_event,
    chat_stream,
    collect,
    first_events,
    message_stream,
    text,
    thinking,
)
from tests.conftest import StartGateway, StartProvider, until
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import Script, Seen, Wire

HI: list[Any] = [{"role": "user", "content": "hi"}]
STREAMS = {"openai": chat_stream({"content": "Hello there."}), "anthropic": message_stream(text("Hello there."))}
FIRST = {"openai": 2, "anthropic": 4}
"""Events up to the first text."""

every_sdk = pytest.mark.parametrize("sdk", STREAMS)
every_provider = pytest.mark.parametrize("dialect", STREAMS)


async def open_stream(sdk: str, clients: Clients, gate: Gateway) -> Any:
    if sdk == "openai":
        return await clients.async_openai(gate).chat.completions.create(model="m", messages=HI, stream=True)
    return await clients.async_anthropic(gate).messages.create(model="m", max_tokens=9, messages=HI, stream=True)


def endless(dialect: str, left: asyncio.Event) -> Script:
    """Says the beginning of a stream and then waits for the gateway to go."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(first_events(STREAMS[dialect], FIRST[dialect]))
        await wire.left()
        left.set()

    return script


@every_provider
@every_sdk
async def test_leaving_a_stream_ends_the_providers_call(
    sdk: str, dialect: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """A client that breaks out of its loop and closes the stream: the provider's connection is closed."""
    left = asyncio.Event()
    up = await provider(endless(dialect, left))
    stream = await open_stream(sdk, clients, await gateway(relay(up.url, dialect=dialect), ENVIRON))
    async for _ in stream:
        break
    await stream.close()
    async with asyncio.timeout(5):
        await left.wait()
    await until(lambda: up.open == 0)


@every_sdk
async def test_a_thread_can_leave_a_stream(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Leaving the `with` block of a synchronous stream ends the provider's call too."""
    left = asyncio.Event()
    up = await provider(endless(sdk, left))
    gate = await gateway(relay(up.url, dialect=sdk), ENVIRON)

    def read() -> int:
        if sdk == "openai":
            with clients.openai(gate).chat.completions.create(model="m", messages=HI, stream=True) as chunks:
                return len(list(islice(chunks, 1)))
        with clients.anthropic(gate).messages.stream(model="m", max_tokens=9, messages=HI) as stream:
            return len(list(islice(stream.text_stream, 1)))

    assert await asyncio.to_thread(read) == 1
    async with asyncio.timeout(5):
        await left.wait()


@every_sdk
async def test_a_cancelled_task_ends_the_providers_call(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Cancelling the task that reads a stream ends the provider's call."""
    left = asyncio.Event()
    up = await provider(endless(sdk, left))
    stream = await open_stream(sdk, clients, await gateway(relay(up.url, dialect=sdk), ENVIRON))
    items: list[Any] = []
    reading = asyncio.create_task(collect(stream, items))
    await until(lambda: len(items) > 0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(5):
        await left.wait()


@pytest.mark.parametrize("how", ["fin", "reset", "clean"])
@every_sdk
async def test_a_cut_stream_raises(
    sdk: str, how: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """A stream cut mid-way raises the SDK's error after what had come, however the provider left."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(first_events(STREAMS[sdk], FIRST[sdk]))
        if how == "clean":
            await wire.end_stream()
        elif how == "fin":
            wire.close()
        else:
            wire.reset()

    up = await provider(script)
    stream = await open_stream(sdk, clients, await gateway(relay(up.url, dialect=sdk), ENVIRON))
    items: list[Any] = []
    with pytest.raises(openai.APIError if sdk == "openai" else anthropic.APIStatusError, match=r"end marker|lost"):
        await collect(stream, items)
    assert items


async def test_openais_error_event_keeps_its_code(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """The error event of a cut stream is OpenAI's error object: APIError has its type and code."""
    up = await provider(answers(first_events(STREAMS["openai"], 2)))
    stream = await open_stream("openai", clients, await gateway(relay(up.url), ENVIRON))
    with pytest.raises(openai.APIError) as caught:
        await collect(stream, [])
    assert (caught.value.type, caught.value.code) == ("api_error", "provider_error")


@every_sdk
async def test_the_providers_own_error_event_is_raised(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """An error the provider itself reports in its stream raises with the provider's own words."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "up is Overloaded"}}
    failed = b'data: {"error":{"message":"up is Overloaded","type":"server_error"}}\n\n'
    last = failed if sdk == "openai" else anthropic_event(overloaded)
    up = await provider(answers(first_events(STREAMS[sdk], FIRST[sdk]) + last))
    stream = await open_stream(sdk, clients, await gateway(relay(up.url, dialect=sdk), ENVIRON))
    with pytest.raises(openai.APIError if sdk == "openai" else anthropic.APIStatusError, match="up is Overloaded"):
        await collect(stream, [])


@every_sdk
async def test_a_stream_that_never_begins_raises_with_a_status(
    sdk: str, gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """A provider that leaves before the first event is a 502, which SDKs may retry."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        wire.close()

    up = await provider(script)
    gate = await gateway(relay(up.url, dialect=sdk), ENVIRON)
    wanted = openai.InternalServerError if sdk == "openai" else anthropic.InternalServerError
    with pytest.raises(wanted) as caught:
        await open_stream(sdk, clients, gate)
    assert caught.value.status_code == 502


async def test_anthropics_thinking_passes_as_it_is(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Same dialect: thinking arrives with the signature the provider gave it."""
    up = await provider(answers(message_stream(thinking("Hmm.", "c2lnbmF0dXJl"), text("Water."))))
    gate = await gateway(relay(up.url, dialect="anthropic"), ENVIRON)
    async with clients.async_anthropic(gate).messages.stream(model="m", max_tokens=9, messages=HI) as stream:
        final = await stream.get_final_message()
    assert [block.model_dump(exclude_none=True) for block in final.content] == [
        thinking("Hmm.", "c2lnbmF0dXJl"),
        text("Water."),
    ]
    assert final.id == "msg_up1"


async def test_a_connection_serves_many_streams(
    gateway: StartGateway, provider: StartProvider, clients: Clients
) -> None:
    """Streams read to their end leave the provider's connection open for the next one."""
    up = await provider(answers(STREAMS["openai"]))
    gate = await gateway(relay(up.url), ENVIRON)
    client = clients.async_openai(gate)
    for _ in range(5):
        stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
        await collect(stream, [])
    assert len(up.requests) == 5
    assert up.opened == 1
