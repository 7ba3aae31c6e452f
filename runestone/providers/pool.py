"""The connections to one provider: how many at a time, which are kept, and what became of them.

A call checks out a slot for as long as its answer lasts (a stream: its whole life). `size` idle connections are kept;
more are opened while they are needed and closed again once they have been idle for a while.
Rules: callers that wait are served in order, a bounded number for a bounded time, and then refused; a slot that was
checked out is checked in exactly once, whatever became of the call.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field
from time import monotonic

import aiohttp
from yarl import URL

from runestone.core.buckets import SECONDS, Buckets
from runestone.errors import Unavailable
from runestone.providers.connection import Connector

KEEP_ALIVE = 60.0
"""Seconds an idle connection is kept; longer than most gaps, shorter than most vendors' own limit."""
OVERFLOW_IDLE = 10.0
"""Seconds an idle connection beyond `size` is kept: while there is load it is needed again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Connections kept, and opened beyond them while needed; seconds a caller waits for one; callers that may wait."""

    size: int = 50
    overflow: int = 4000
    checkout_timeout: float = 5.0
    waiting: int = 1000


DEFAULT_LIMITS = PoolLimits()


@dataclass(slots=True)
class Tally:
    """What has been counted: `acquired` slots, calls over `reused` and over `fresh` connections, `refused` callers,
    `errors` of connections. It may outlive its pool: what is counted of a provider goes on in the next one.
    """

    acquired: int = 0
    reused: int = 0
    fresh: int = 0
    refused: int = 0
    errors: int = 0
    queued: int = 0
    """Of those acquired, the ones that were waited for."""
    waits: Buckets = field(default_factory=lambda: Buckets(SECONDS))
    """Seconds of each wait."""


class Pool:
    """Slots in front of a session of its own; what becomes of them is counted in `tally`."""

    def __init__(self, name: str, base_url: str, limits: PoolLimits, tally: Tally | None = None) -> None:
        self._name = name
        self._tls = base_url.startswith("https:")
        self._needs_dns = _needs_dns(base_url)
        self._limits = limits
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.active = 0
        self.tally = tally if tally is not None else Tally()
        self.session: aiohttp.ClientSession
        self.connector: Connector

    async def open(self) -> None:
        """Makes the session."""
        # Certificates are read from the disk: in a thread, because at a reload calls run meanwhile.
        tls = await asyncio.to_thread(ssl.create_default_context) if self._tls else True
        self.connector = Connector(
            limit=0,  # the slots are the limit
            keepalive_timeout=KEEP_ALIVE,
            ttl_dns_cache=60,
            ssl=tls,
            resolver=aiohttp.AsyncResolver() if self._needs_dns else aiohttp.ThreadedResolver(),
        )
        self.session = aiohttp.ClientSession(connector=self.connector, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        """Ends every connection."""
        await self.session.close()

    @property
    def capacity(self) -> int:
        """Calls at a time."""
        return self._limits.size + self._limits.overflow

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot."""
        return len(self._waiting)

    @property
    def waits(self) -> Buckets:
        """Seconds each caller has waited for a slot, in vain or not; nought where one was free."""
        return self.tally.waits.with_zeros(self.tally.acquired - self.tally.queued)

    @property
    def idle(self) -> int:
        """Connections that are kept and not in use; those the provider has ended meanwhile count no more."""
        return sum(protocol.is_connected() for kept in self.connector._conns.values() for protocol, _ in kept)

    @property
    def opened(self) -> int:
        """Connections opened so far."""
        return self.connector.opened

    async def check_out(self) -> None:
        """A slot. Raises Unavailable when there is none within the checkout timeout, or too many wait already."""
        if self.active < self.capacity:
            self.active += 1
        else:
            await self._wait()
            self.tally.queued += 1
        self.tally.acquired += 1

    def check_in(self) -> None:
        """Gives the slot to who waits longest, or back."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.active -= 1

    def trim(self) -> None:
        """Closes connections beyond `size` that nobody has needed for a while."""
        spare = self.idle - self._limits.size
        oldest = monotonic() - OVERFLOW_IDLE
        for connections in self.connector._conns.values():
            while spare > 0 and connections and connections[0][1] < oldest:
                connections.popleft()[0].close()
                spare -= 1

    def drop_idle(self) -> None:
        """Closes every idle connection: one of them turned out to be dead, so the others may be."""
        for connections in self.connector._conns.values():
            while connections:
                connections.popleft()[0].close()

    async def _wait(self) -> None:
        if len(self._waiting) >= self._limits.waiting:
            self.tally.refused += 1
            raise Unavailable(f"the provider {self._name!r} has all its connections in use", retry_after=1.0)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        before = monotonic()
        try:
            async with asyncio.timeout(self._limits.checkout_timeout):
                await waiter
        except TimeoutError:
            self._abandon(waiter)
            self.tally.refused += 1
            raise Unavailable(f"the provider {self._name!r} had no free connection in time", retry_after=1.0) from None
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            self.tally.waits.observe(monotonic() - before)

    def _abandon(self, waiter: asyncio.Future[None]) -> None:
        """A waiter that gave up; one that was served in the same moment passes its slot on."""
        if waiter.done() and not waiter.cancelled():
            self.check_in()
        elif waiter in self._waiting:
            self._waiting.remove(waiter)


def _needs_dns(base_url: str) -> bool:
    host = URL(base_url).host or ""
    return host != "localhost" and not host.replace(".", "").isdigit() and ":" not in host
