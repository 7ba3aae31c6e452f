"""A real gateway on a real socket, in a loop that only runs while a test says so: what is drawn stays in charge.

House   the gateway and its provider, what they log, and whether anything is left of what was done to them
Warped  a loop whose clock can be put forward
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from runestone.providers.http import HttpProvider
from tests.conftest import until
from tests.gateway import ENVIRON, ONE_ATTEMPT, Gateway, start_gateway
from tests.provider import FakeProvider, Script

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds for whatever must happen."""

CONFIG = (
    ONE_ATTEMPT
    + 'pool.health_check_interval = "1000d"\n'
    + """
server.max_body = "100KB"
server.stuck_after = "1h"
server.cors_origins = ["https://page.example"]
[providers.simulated.simulated]
ttft = "0ms"
tokens_per_second = 0
[providers.up]
kind = "openai-compatible"
base_url = "%s/v1"
api_keys = ["env:UP_KEY"]
models = ["m"]
[breaker]
enabled = false
[telemetry]
enabled = false
"""
)


class Warped(asyncio.SelectorEventLoop):
    """`skew` seconds ahead."""

    skew = 0.0

    def time(self) -> float:
        """See asyncio."""
        return super().time() + self.skew


class House:
    """`wrong` is what was logged as an error, or told to the loop as one."""

    def __init__(self, loop: Warped, gate: Gateway, up: FakeProvider, wrong: list[str]) -> None:
        self.loop = loop
        self.gate = gate
        self.up = up
        self.wrong = wrong
        self.port = gate.port
        self._tasks = 0
        self.begin()

    def begin(self) -> None:
        """From here on: what was left before is no concern of what comes."""
        self._tasks = self._others()
        self.wrong.clear()

    def _others(self) -> int:
        """Tasks but those of the provider, which holds the connections that are kept to it."""
        return len(asyncio.all_tasks(self.loop)) - self.up.open

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does it, while the gateway does what it likes."""

        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE):
                return await work

        return self.loop.run_until_complete(bounded())

    def pass_time(self, seconds: float) -> None:
        """Everything that was due within so many seconds is done now."""
        self.loop.skew += seconds
        self.run(turns(3))

    def clients_are_gone(self) -> None:
        """Nothing is left of anybody: no session, no call, no connection, no task, and no word of an error."""
        live, running = self.gate.app.live, self.gate.app.running
        upstream = self.gate.app.upstreams["up"]
        assert isinstance(upstream, HttpProvider)
        pool = upstream.pool

        def left() -> dict[str, int]:
            counts = {
                "sessions": len(list(live.sessions)) + live.sessions.away,
                "connections": live.sessions.connections,
                "rooms": len(live.rooms),
                "resumable streams": len(live.streams),
                "calls": len(self.gate.app.lasting.inflight),
                "running": len(running._tasks),
                "streams": running.streams,
                "kept bytes": live.sessions._ledger.bytes,
                "slots": pool.active + pool.waiting,
                "connections to the provider": self.up.open - pool.idle,
                "tasks": self._others() - 1 - self._tasks,
            }
            return {name: count for name, count in counts.items() if count > 0}

        async def emptied() -> None:
            with contextlib.suppress(TimeoutError):
                await until(lambda: not left(), 5.0)
            tasks = [task.get_name() for task in asyncio.all_tasks()]
            assert not left(), (left(), tasks)

        self.run(emptied())
        assert not self.wrong, self.wrong[0]


async def turns(count: int) -> None:
    """So many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


class _Listener(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self._heard.append(logging.Formatter().format(record))


@contextlib.contextmanager
def open_house(folder: Path, script: Script, extra: str = "") -> Iterator[House]:
    """A gateway with the simulated model, and `up/m`, which answers by `script`."""
    wrong: list[str] = []
    listener = _Listener(wrong)
    loop = Warped()
    loop.set_exception_handler(lambda _, context: wrong.append(f"told to the loop: {context}"))
    logging.getLogger().addHandler(listener)
    stack = AsyncExitStack()

    async def begin() -> tuple[Gateway, FakeProvider]:
        up = await stack.enter_async_context(FakeProvider(script))
        gate = await stack.enter_async_context(start_gateway(CONFIG % up.url + extra, folder, ENVIRON))
        return gate, up

    try:
        gate, up = loop.run_until_complete(begin())
        yield House(loop, gate, up, wrong)
    finally:
        loop.run_until_complete(stack.aclose())
        logging.getLogger().removeHandler(listener)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
