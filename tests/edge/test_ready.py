"""A whole answer's head: put together by us in the usual case, by aiohttp in every other; the same headers."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import StartGateway, StartProvider
from tests.flows.test_cached_answers import ANSWER, UP
from tests.provider import Seen, Wire

BODY = b'{"model":"up/m","messages":[{"role":"user","content":"hi"}]}'
HEAD = "POST /v1/chat/completions HTTP/{}\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"


async def answers(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER, headers={"x-request-id": "theirs", "x-ratelimit-remaining-requests": "7"})


async def exchanged(port: int, version: str, more: str) -> tuple[str, dict[str, str], bytes, bool]:
    """(status line, headers, body, whether the connection is still there)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD.format(version, len(BODY), more).encode() + BODY)
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    try:
        async with asyncio.timeout(0.05):
            is_open = await reader.read(1) != b""
    except TimeoutError:
        is_open = True
    writer.close()
    return status, headers, body, is_open


@pytest.mark.parametrize(
    ("version", "more", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
    ids=["usual", "close", "old", "old, kept"],
)
async def test_either_way_the_answer_is_the_same(
    version: str, more: str, stays: bool, gateway: StartGateway, provider: StartProvider
) -> None:
    """Status, headers, length, body; and the connection is kept or ended as HTTP wants it."""
    up = await provider(answers)
    gate = await gateway(UP.format(up.url, ""))
    usual = await exchanged(gate.port, "1.1", "x-request-id: mine\r\n")
    status, headers, body, is_open = await exchanged(gate.port, version, "x-request-id: mine\r\n" + more)
    assert (status.partition(" ")[2], body, is_open) == (usual[0].partition(" ")[2], usual[2], stays)
    told = {name: value for name, value in headers.items() if name not in ("date", "server-timing", "connection")}
    expected = {name: value for name, value in usual[1].items() if name not in ("date", "server-timing")}
    assert told == expected
    assert (headers["x-request-id"], headers["x-provider-request-id"]) == ("mine", "theirs")
    assert headers["server"] == "runestone"
    assert headers["date"].endswith("GMT")
