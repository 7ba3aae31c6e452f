"""What a worker knows of its siblings: whoever of them is asked, the answer is of all.

    GET /metrics             the series of each, told apart by `worker`
    /admin/...               done by every worker, and answered as one (core/merged.py); a worker that does not answer
                             is named
    GET /admin/tail          the calls of all of them

They ask each other over sockets in a folder that only this user can enter; there, nobody is asked for a key.
Rule: a sibling that is not there, or does not answer in time, is left out, and said to be.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from runestone.config.kinds import Port
from runestone.config.schema import Configuration
from runestone.config.source import Source
from runestone.core.json import JsonObject
from runestone.core.merged import merged
from runestone.debug import PORTS
from runestone.edge.request import VISIT
from runestone.edge.state import Followed, Follower
from runestone.errors import RunestoneError
from runestone.serving.successor import WORKER
from runestone.tasks import spawn
from runestone.telemetry.workers import labelled

FOLDER = "RUNESTONE_FAMILY"
RESTARTS = "RUNESTONE_WORKER_RESTARTS"
PATIENCE = 5.0
"""Seconds a sibling may take."""
OF_EACH = ("pid", "uptime_seconds", "memory_bytes", "loop_lag_seconds", "generation")
"""What is told of each worker beside what is told of all."""
TAIL, RELOAD = "/admin/tail", "/admin/reload"


@dataclass(slots=True)
class Family:
    """Of worker `index` of `count`, which meet in `folder`; it was started again `restarts` times."""

    index: int
    count: int
    folder: Path
    restarts: int = 0
    parent: int = field(default_factory=os.getppid)
    _sessions: dict[int, aiohttp.ClientSession] = field(default_factory=dict)

    def place(self, index: int) -> str:
        """Where worker `index` is asked."""
        return str(self.folder / f"{index}.http")

    async def close(self) -> None:
        """Asks no more."""
        for session in self._sessions.values():
            await session.close()

    async def metrics(self, own: bytes) -> bytes:
        """The metrics of all, `own` among them."""
        answers = await self._ask("GET", "/metrics", None, {})
        texts = {self.index: own}
        texts |= {index: body for index, (status, body) in answers.items() if status == 200}
        return labelled(dict(sorted(texts.items())))

    async def everywhere(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware: what this worker does and answers, all do, and answer as one."""
        try:
            response = await handler(request)
        except RunestoneError:
            if request.path == RELOAD:  # what one refuses all refuse, and say so
                await self._ask(request.method, request.path_qs, None, {})
            raise
        if request.path == TAIL or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return response
        body = request[VISIT].body
        asked = await self._ask(request.method, request.path_qs, body, {"Content-Type": request.content_type})
        answers = {self.index: (response.status, response.body), **asked}
        told = {index: orjson.loads(body) for index, (status, body) in sorted(answers.items()) if status == 200}
        whole: JsonObject = merged(list(told.values()))
        whole["workers"] = [self._of(index, told.get(index), answers.get(index)) for index in range(self.count)]
        return web.Response(body=orjson.dumps(whole), content_type="application/json")

    def follow(self, tail: Followed) -> Follower:
        """The calls of all workers, for one who follows those of this one."""
        return _Everybody(tail.follow(), self)

    def _of(self, index: int, told: Any, answer: tuple[int, bytes] | None) -> JsonObject:
        said: JsonObject = {"index": index, "answers": told is not None}
        if isinstance(told, dict):
            said |= {name: told[name] for name in OF_EACH if name in told}
            if isinstance(told.get("calls"), dict):
                said["calls"] = told["calls"]["total"]
        elif answer is not None:
            with suppress(orjson.JSONDecodeError):
                said["error"] = orjson.loads(answer[1]).get("error")
        return said

    async def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> dict[int, tuple[int, bytes]]:
        """What each sibling that answers says."""
        others = [index for index in range(self.count) if index != self.index]

        async def one(index: int) -> tuple[int, bytes] | None:
            try:
                async with self._session(index).request(method, path, data=body, headers=headers) as response:
                    return response.status, await response.read()
            except (aiohttp.ClientError, OSError):
                return None

        answers = await asyncio.gather(*map(one, others))
        return {index: answer for index, answer in zip(others, answers, strict=True) if answer is not None}

    def _session(self, index: int) -> aiohttp.ClientSession:
        session = self._sessions.get(index)
        if session is None:
            session = self._sessions[index] = aiohttp.ClientSession(
                "http://worker",
                connector=aiohttp.UnixConnector(self.place(index)),
                timeout=aiohttp.ClientTimeout(total=PATIENCE),
            )
        return session

    async def pour(self, index: int, tell: Callable[[bytes], None]) -> None:
        """Tells the events of a sibling's calls, as long as it has some to tell."""
        timeout = aiohttp.ClientTimeout(connect=PATIENCE)
        with suppress(aiohttp.ClientError, OSError):
            async with self._session(index).get(TAIL, timeout=timeout) as response:
                while event := await response.content.readuntil(b"\n\n"):
                    if not event.startswith(b":"):
                        tell(event)


class _Everybody:
    """A follower who is told of the siblings' calls too."""

    def __init__(self, own: Follower, family: Family) -> None:
        self._own = own
        others = [index for index in range(family.count) if index != family.index]
        self._tasks = [spawn(f"follow worker {index}", family.pour(index, own.tell)) for index in others]

    async def next(self, patience: float) -> bytes:
        return await self._own.next(patience)

    def tell(self, event: bytes) -> None:
        self._own.tell(event)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._own.close()


def own_of(configuration: Configuration, family: Family | None) -> Configuration:
    """`configuration` with what workers cannot share: the file of the cache, the ports of the debug console."""
    if family is None:
        return configuration
    cache, debug = configuration.cache, configuration.debug
    if cache.persist is not None:
        cache = replace(cache, persist=f"{cache.persist}.{family.index}")
    debug = replace(debug, port=Port(debug.port + PORTS * family.index))
    return replace(configuration, cache=cache, debug=debug)


def worker_of(environ: Mapping[str, str]) -> str | None:
    """The number of the worker that this process is."""
    return environ[WORKER].partition("/")[0] if WORKER in environ else None


def source_of(
    path: Path | None, environ: Mapping[str, str], change: Callable[[Configuration], Configuration]
) -> Source:
    """Where the configuration is read from; a worker begins with the one in force."""
    return Source(path, environ, change, Path(environ[FOLDER]) if WORKER in environ else None)


def family_of(environ: Mapping[str, str]) -> Family | None:
    """Of the worker that this process is; None where it is none."""
    if WORKER not in environ:
        return None
    index, _, count = environ[WORKER].partition("/")
    folder = Path(environ[FOLDER])
    told = folder.stat()
    if told.st_uid != os.getuid() or stat.S_IMODE(told.st_mode) & 0o077:
        raise PermissionError(f"{folder} can be entered by others")
    return Family(int(index), int(count), folder, int(environ.get(RESTARTS, "0")))
