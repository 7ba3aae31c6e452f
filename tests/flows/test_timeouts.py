"""Every wait has a deadline, and the 504 says which one passed. Deadlines here are tenths of a second."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_relay_stream import ROLE
from tests.gateway import ENVIRON, relay
from tests.provider import Seen, Wire

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def with_timeouts(url: str, **timeouts: str) -> str:
    lines = "\n".join(f'{name} = "{value}"' for name, value in timeouts.items())
    return relay(url, extra=f"[routing.timeouts]\n{lines}")


async def silent(seen: Seen, wire: Wire) -> None:
    await wire.left()


async def stuck_stream(seen: Seen, wire: Wire) -> None:
    await wire.begin_stream()
    await wire.chunk(ROLE)
    await wire.left()


async def stuck_body(seen: Seen, wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    await wire.left()


async def trickle(seen: Seen, wire: Wire) -> None:
    await wire.begin_stream()
    while not wire.reader.at_eof():
        await wire.chunk(ROLE)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("script", "stream", "timeouts", "says"),
    [
        (silent, False, {"first_byte": "100ms"}, "first_byte"),
        (silent, True, {"first_byte": "100ms"}, "first_byte"),
        (stuck_body, False, {"between_bytes": "100ms"}, "between_bytes"),
        (stuck_stream, True, {"between_bytes": "100ms"}, "between_bytes"),
        (silent, False, {"total": "100ms"}, "total"),
        (trickle, True, {"total": "200ms"}, "total"),
    ],
)
async def test_a_deadline_names_itself(
    script: object,
    stream: bool,
    timeouts: dict[str, str],
    says: str,
    gateway: StartGateway,
    provider: StartProvider,
    http: aiohttp.ClientSession,
) -> None:
    """A call that waits too long is a 504 (an error event once the stream has begun) that says for what; the call
    ends.
    """
    up = await provider(script)  # type: ignore[arg-type]
    gate = await gateway(with_timeouts(up.url, **timeouts), ENVIRON)
    async with http.post(gate.url + "/v1/chat/completions", json={**ASK, "stream": stream}) as response:
        body = await response.read()
    begun = body.startswith(ROLE)
    assert response.status == (200 if begun else 504)
    error = orjson.loads(body.split(b"\n\n")[-2].removeprefix(b"data: ") if begun else body)["error"]
    assert (error["type"], error["code"]) == ("api_error", "timeout")
    assert f"timeout ({says})" in error["message"]
    await until(lambda: up.open == 0)


async def test_connecting_has_a_deadline(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A provider that does not even accept is a 504 that says connect."""
    with socket.socket() as full:  # a listener whose queue is full accepts no more
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        queued = [socket.socket() for _ in range(8)]
        for one in queued:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        gate = await gateway(with_timeouts(f"http://127.0.0.1:{port}", connect="200ms"), ENVIRON)
        async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
            assert response.status == 504
            assert "timeout (connect)" in (await response.json())["error"]["message"]
        for one in queued:
            one.close()


async def test_a_client_can_lower_the_total(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """x-runestone-timeout shortens a call's time; it cannot lengthen it."""
    up = await provider(silent)
    gate = await gateway(with_timeouts(up.url, total="300ms"), ENVIRON)
    for asked in ("100ms", "1h"):
        async with http.post(
            gate.url + "/v1/chat/completions", json=ASK, headers={"x-runestone-timeout": asked}
        ) as response:
            assert response.status == 504
            assert "timeout (total)" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("value", ["30", "soon", "0s", "-1s"])
async def test_a_wrong_timeout_header_is_named(value: str, gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """A timeout without a unit, or none at all, is a 400 that names the header."""
    gate = await gateway(relay("http://127.0.0.1:9"), ENVIRON)
    async with http.post(
        gate.url + "/v1/chat/completions", json=ASK, headers={"x-runestone-timeout": value}
    ) as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "x-runestone-timeout"
