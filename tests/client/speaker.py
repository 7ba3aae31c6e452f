"""A server that says over a WebSocket what a test wants: the misdeeds that a gateway does not commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import orjson
from aiohttp import WSMsgType, web

Script = Callable[["Speaker", int], Awaitable[None]]


class Speaker:
    """Runs `script(speaker, number)` on each connection, 1, 2, 3 ... ; then closes it with 1000."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.ws: web.WebSocketResponse
        self.connections = 0
        self._last = 0
        self.heard: list[dict[str, Any]] = []
        """All that clients said, pings left out."""

    async def __aenter__(self) -> Speaker:
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def say(self, event: str, seq: int, ref: object = None, **payload: object) -> None:
        """One message."""
        self._last = seq
        message = {"event": event, "seq": seq, "payload": payload, **({"ref": ref} if ref is not None else {})}
        await self.ws.send_str(orjson.dumps(message).decode())

    async def hear(self, event: str) -> dict[str, Any]:
        """The next message, which must be that one; a ping before it is passed over."""
        while True:
            message = await self.ws.receive(timeout=5)
            assert message.type is WSMsgType.TEXT, message
            said: dict[str, Any] = orjson.loads(message.data)
            if said["event"] != "ping":
                self.heard.append(said)
                assert said["event"] == event
                return said

    async def silence(self) -> None:
        """Says nothing until the client leaves; but a client that leaves asks first whether all has arrived."""
        while (message := await self.ws.receive(timeout=5)).type is WSMsgType.TEXT:
            said = orjson.loads(message.data)
            if said["event"] == "ping":
                await self.say("pong", self._last + 1, said.get("ref"))

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        self.ws = web.WebSocketResponse(timeout=0.2)
        await self.ws.prepare(request)
        self.connections += 1
        await self._script(self, self.connections)
        await self.ws.close()
        return self.ws
