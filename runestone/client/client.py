"""The client of one gateway: whole answers and streams over HTTP, sessions over WebSockets.

Rule: it owns every socket and task it causes; `close` ends them, and says goodbye to the gateway where something would
go on there for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from runestone.client.dial import Dialler
from runestone.client.errors import ClientError, ConnectionLost
from runestone.client.link import State
from runestone.client.options import Limits, Reconnect
from runestone.client.resumable import ResumableStream
from runestone.client.session import Session
from runestone.core.json import JsonObject
from runestone.tasks import spawn

GOODBYE = 2.0
"""Seconds the gateway has to learn that a stream is not wanted any more."""


class Client:
    """`async with Client("http://127.0.0.1:4003", key="...") as client`. The connections are made when they are needed,
    in the loop that needs them first.

    `timeout` is how many seconds a whole answer may take, a stream until it begins and between two pieces, and anything
    a session asks; `heartbeat` after how many seconds of silence a session asks whether the gateway is there, which
    then has half as long to answer. `headers` go with every request and handshake (`Cache-Control`,
    `x-runestone-timeout` ...). Raises ValueError for an URL that is none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 300.0,
        heartbeat: float = 20.0,
        reconnect: Reconnect | None = None,
        limits: Limits | None = None,
    ) -> None:
        if timeout <= 0 or heartbeat <= 0:
            raise ValueError("timeout and heartbeat are positive numbers of seconds")
        self._timeout = timeout
        self._reconnect = reconnect or Reconnect()
        self._limits = limits or Limits()
        secret = {"authorization": f"Bearer {key}"} if key is not None else {}
        self._dialler = Dialler(
            base_url,
            {**(headers or {}), **secret},
            reconnect=self._reconnect,
            limits=self._limits,
            heartbeat=heartbeat,
        )
        self._sessions: set[Session] = set()
        self._streams: set[ResumableStream] = set()
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def chat(self, *, model: str, messages: object, **fields: object) -> Any:
        """The whole answer: OpenAI's completion, a dict; `fields` are those of its chat request. It is sent once.
        Raises Refused, TimedOut, ConnectionLost, TooLarge.
        """
        if fields.get("stream"):
            raise ValueError("Client.stream streams")
        body = {"model": model, "messages": messages, **fields}
        return await self._dialler.call("POST", "v1/chat/completions", within=self._timeout, body=body)

    def stream(self, *, model: str, messages: object, **fields: object) -> ResumableStream:
        """A stream, which begins when it is read and is gone on with when its connection is lost."""
        usage: JsonObject = {"stream_options": {"include_usage": True}}
        body: JsonObject = {**usage, "model": model, "messages": messages, **fields, "stream": True}
        return ResumableStream(
            self._dialler,
            body,
            reconnect=self._reconnect,
            limits=self._limits,
            timeout=self._timeout,
            began=self._streams.add,
            ended=self._forget,
        )

    def session(self, *, on_state: Callable[[State], object] | None = None) -> Session:
        """A session, to be opened by `async with`. `on_state` is called with each new State, from the loop: that is how
        an application learns that it is disconnected, is back (`resumed`), or must begin anew (`lost`).
        """
        return Session(
            self._dialler.websocket,
            reconnect=self._reconnect,
            limits=self._limits,
            timeout=self._timeout,
            on_state=on_state,
            on_open=self._sessions.add,
            on_close=self._sessions.discard,
        )

    async def close(self) -> None:
        """Closes sessions, streams and connections. What waits fails with ConnectionLost."""
        await asyncio.gather(*(session.close() for session in tuple(self._sessions)))
        for stream in tuple(self._streams):
            self._forget(stream)
            stream.leave(ConnectionLost("the client is closed"))
        if self._goodbyes:
            await asyncio.wait(tuple(self._goodbyes), timeout=GOODBYE)
        for task in tuple(self._goodbyes):
            task.cancel()
        await asyncio.gather(*self._goodbyes, return_exceptions=True)
        await self._dialler.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _forget(self, stream: ResumableStream) -> None:
        """A stream is read no more: the gateway need not go on with one that is not over."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        if stream.id is not None and not stream.is_over and not self._dialler.is_closed:
            task = spawn("a stream is ended", self._end(stream.id))
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)

    async def _end(self, identity: str) -> None:
        with suppress(ClientError):  # it ends by itself when nobody reads it
            response = await self._dialler.request("DELETE", f"v1/streams/{identity}", within=GOODBYE)
            response.release()
