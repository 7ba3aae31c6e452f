"""Closed-loop callers in this process, each with a connection of its own and a list of bodies to send.

Rule: what comes back is whole answers with content-length; each caller sends its next body when it has its answer.
Bounded by the bodies. For measurements where every call differs (`load.py` sends one call over and over).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

import uvloop

from bench import wire
from bench.servers import Server, SetupError

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CACHE = re.compile(rb"(?i)\r\ncache-status: *([^\r]*)")
WITHIN = 120.0
"""Seconds after which a measurement is broken."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What all callers saw: calls, seconds over all, latencies in seconds, and each answer's Cache-Status."""

    calls: int
    seconds: float
    latencies: list[float]
    cached: list[str]

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    def quantile(self, share: float) -> float:
        """Of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


def ask(server: Server, path: str, callers: Sequence[Iterable[bytes]]) -> Asked:
    """Runs all callers to their ends. Raises SetupError for an answer that is no 200, or when it takes too long."""

    async def run() -> Asked:
        latencies: list[float] = []
        cached: list[str] = []
        began = perf_counter()
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(*(_call(server, path, bodies, latencies, cached) for bodies in callers))
        return Asked(len(latencies), perf_counter() - began, latencies, cached)

    try:
        return uvloop.run(run())
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        raise SetupError(f"{server.name}: {error or 'not done in time'}") from error


async def _call(server: Server, path: str, bodies: Iterable[bytes], latencies: list[float], cached: list[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for body in bodies:
            sent = perf_counter()
            writer.write(wire.request(path, server.port, body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            answer = await reader.readexactly(int(length.group(1)) if length else 0)
            if not head.startswith(b"HTTP/1.1 200"):
                raise SetupError(f"{server.name} answered {head[:20]!r} {answer[:300]!r}")
            latencies.append(perf_counter() - sent)
            status = _CACHE.search(head)
            cached.append(status.group(1).decode() if status else "")
    finally:
        writer.close()
