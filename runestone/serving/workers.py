"""The parent of several processes on the same sockets: it starts them, looks after them, and serves nothing itself.

    a worker ends, or gives no sign of life   started again, after a pause that grows while that goes on
    SIGTERM, SIGINT                           passed on; the parent ends when they have ended
    SIGHUP                                    passed on, as RELOAD
    SIGUSR2                                   a new parent with its own workers takes the sockets over; then these leave

The sockets are one queue for all: a connection waits for whichever worker is free, and none is lost with one that ends.
Rule: what a worker needs is its environment; the command is the same.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from runestone.config.schema import Configuration
from runestone.config.source import Source
from runestone.core.backoff import Pauses
from runestone.serving import successor
from runestone.serving.family import FOLDER, RESTARTS
from runestone.serving.sockets import HTTP, Listeners, address_of, listeners_of
from runestone.serving.successor import LEAVE, RELOAD, WORKER, Child, NoSuccessor, Pulse
from runestone.serving.system import Notifier, is_first_process
from runestone.tasks import Supervisor, spawn

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a worker that has ended once, and again and again, is started anew; with jitter."""
WELL = 60.0
"""Seconds after which an end is taken for a first one."""
BEAT = 1.0

_log = logging.getLogger("runestone.workers")


class Parent:
    """As serving/process.py's Process; `configuration.server.workers` says of how many."""

    def __init__(
        self,
        configuration: Configuration,
        source: Source,
        *,
        environ: Mapping[str, str],
        ready: Callable[[str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._configuration = configuration
        self._source = source
        self._environ = environ
        self._ready = ready
        self._chance = chance
        self._count = configuration.server.workers
        self._notifier = Notifier(environ)
        self._pulse = Pulse(environ)
        self._workers: dict[int, Child] = {}
        self._tasks = Supervisor()
        self._leave = asyncio.Event()
        self._is_upgrading = False
        self._last_words = signal.SIGTERM
        """What the workers are told at the end."""
        self._folder = Path()
        self._listeners: Listeners = {}

    async def run(self) -> None:
        """Serves until it is told to stop, or is replaced. Raises OSError when it cannot listen, NoSuccessor when the
        workers do not come to serve.
        """
        self._take_signals()
        self._listeners = listeners_of(self._configuration, self._environ)
        self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="runestone-"))
        self._source.folder = self._folder
        self._source.keep()
        try:
            await self._serve()
        finally:
            for listener in self._listeners.values():
                listener.close()
            await self._tasks.close()
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _serve(self) -> None:
        first = [spawn(f"begin worker {index}", self._begin(index, 0)) for index in range(self._count)]
        try:
            await asyncio.gather(*first)
        except NoSuccessor:
            for task in first:
                task.cancel()
            await asyncio.gather(*first, return_exceptions=True)
            await asyncio.gather(*(child.end() for child in self._workers.values()))
            raise
        kept = [spawn(f"keep worker {index}", self._keep(index)) for index in range(self._count)]
        self._tasks.keep("beat", self._beat)
        tls = "https" if self._configuration.server.tls_cert is not None else "http"
        self._ready(f"{tls}://{address_of(self._listeners[HTTP])}")
        self._pulse.ready()
        if successor.HEIR in self._environ:
            self._notifier.take_over(f"{self._count} workers serve")
        else:
            self._notifier.ready(f"{self._count} workers serve")
        await self._leave.wait()
        if self._last_words is signal.SIGTERM:
            self._notifier.stopping()
        else:
            self._notifier.mute()
        self._tell(self._last_words)
        await asyncio.gather(*kept)

    async def _begin(self, index: int, restarts: int) -> None:
        told = {
            WORKER: f"{index}/{self._count}",
            FOLDER: str(self._folder),
            RESTARTS: str(restarts),
            "NOTIFY_SOCKET": "",
        }
        self._workers[index] = await successor.begin(self._listeners, self._environ, **told)

    async def _keep(self, index: int) -> None:
        """Starts a worker again whenever it has ended, until all are told to leave."""
        pauses = Pauses(first=FIRST_PAUSE, most=LONGEST_PAUSE, well=WELL, chance=self._chance)
        restarts = 0
        while True:
            since = monotonic()
            child = self._workers[index]
            await self._look_after(index, child)
            if self._leave.is_set():
                return
            _log.error("a worker has ended", extra={"fields": {"worker": index, "exit": child.exit}})
            is_back = False
            while not is_back:
                restarts += 1
                if await self._is_told_to_leave_within(pauses.next(monotonic() - since)):
                    return
                since = monotonic()
                is_back = await self._is_back(index, restarts)

    async def _is_back(self, index: int, restarts: int) -> bool:
        try:
            await self._begin(index, restarts)
        except NoSuccessor as error:
            _log.error("worker %d does not come back: %s", index, error)
            return False
        return True

    async def _look_after(self, index: int, child: Child) -> None:
        """Until it has ended; one that gives no sign of life is ended."""
        limit = self._configuration.server.stuck_after + BEAT * 2
        try:
            while await child.breathes(limit):
                pass
        except TimeoutError:
            _log.error("worker %d has given no sign of life for %.0f s: killed", index, limit)
            child.kill()
        await child.wait()

    async def _is_told_to_leave_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._leave.wait()
        except TimeoutError:
            return False
        return True

    async def _beat(self) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(BEAT)

    def _tell(self, number: signal.Signals) -> None:
        for child in self._workers.values():
            child.signal(number)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._upgrade)

    def _stop(self) -> None:
        """The first signal drains the workers; a second one ends them at once."""
        if self._leave.is_set():
            self._tell(signal.SIGTERM)
        self._leave.set()

    def _reload(self) -> None:
        if not self._leave.is_set():
            self._notifier.reloading()
            self._tell(RELOAD)
            self._notifier.ready(f"{self._count} workers serve, and read their configuration again")

    def _upgrade(self) -> None:
        if is_first_process():
            _log.error("not replaced: this is the first process of its container, which would end with it")
        elif not self._leave.is_set() and not self._is_upgrading:
            self._is_upgrading = True
            self._tasks.start("start a successor", self._hand_over())

    async def _hand_over(self) -> None:
        try:
            heir = await successor.replace(self._listeners, self._environ)
        except NoSuccessor as error:
            _log.error("not replaced, these workers go on: %s", error)
            self._is_upgrading = False
            self._notifier.ready(f"{self._count} workers serve; an upgrade has failed")
            return
        _log.info("replaced", extra={"fields": {"by": heir}})
        self._last_words = LEAVE
        self._leave.set()
