"""A request finds the same handler, through the same middlewares, as by aiohttp's own way."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import StartGateway

SIMULATED = "[providers.simulated]\nsimulated.tokens_per_second = 0\n"


async def first_line(port: int, method: str, path: str, more: str = "") -> str:
    """The status line of an answer without a body of ours."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{more}\r\n".encode())
    line = (await reader.readline()).decode().strip()
    writer.close()
    return line


@pytest.mark.parametrize(
    ("method", "path", "more", "line"),
    [
        ("GET", "/health", "", "HTTP/1.1 200 OK"),
        ("HEAD", "/health", "", "HTTP/1.1 200 OK"),
        ("GET", "/health?deep=1", "", "HTTP/1.1 200 OK"),
        ("GET", "/%68ealth", "", "HTTP/1.1 200 OK"),
        ("GET", "/health/", "", "HTTP/1.1 404 Not Found"),
        ("POST", "/health", "", "HTTP/1.1 405 Method Not Allowed"),
        ("GET", "/v1/models", "", "HTTP/1.1 200 OK"),
        ("GET", "/v1/models/simulated", "", "HTTP/1.1 200 OK"),
        ("GET", "/health", "Expect: 100-continue\r\n", "HTTP/1.1 100 Continue"),
        ("GET", "/nowhere", "", "HTTP/1.1 404 Not Found"),
    ],
)
async def test_every_path_is_found_as_http_wants_it(
    method: str, path: str, more: str, line: str, gateway: StartGateway
) -> None:
    """Fixed paths by look-up; parameters, escapes, other methods and expectations by aiohttp."""
    gate = await gateway(SIMULATED)
    assert await first_line(gate.port, method, path, more) == line
