"""A stream over HTTP that survives its connection: begun by POST, gone on with by GET after the last event that came.

    POST ─▶ events ─▶ [DONE]
              │ lost          GET /v1/streams/ID, last-event-id ─▶ events ─▶ [DONE]
              └─ waits ──────────▲

Rules: the POST is sent once, since a model that was asked twice is paid twice; only a GET is tried again. An event
counts when it has come whole, and the next connection goes on after it: each is told once. Who leaves early ends the
provider's call, as without resumption.
Back-pressure is the socket's: what is not read stays at the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import ClientError as HttpError
from aiohttp import ClientResponse

from runestone.client.chunk import Chunk, streamed
from runestone.client.dial import LATER, Dialler, described, refused
from runestone.client.errors import ClientError, ConnectionLost, StreamFailed, TimedOut
from runestone.client.events import Event, Events
from runestone.client.options import Limits, Reconnect
from runestone.client.retry import Retry
from runestone.core.json import JsonObject

STREAM_ID = "x-runestone-stream-id"


class ResumableStream:
    """`async for text in client.stream(...)` gives the text of the first choice, piece by piece; `chunks()` everything.
    It is read once. Made by `Client.stream`.

    Reading raises Refused when the gateway does not take the call, StreamFailed when the stream ends before its end,
    ConnectionLost when it could not be gone on with, TimedOut when the answer does not begin in time, TooLarge.
    """

    def __init__(
        self,
        dialler: Dialler,
        body: JsonObject,
        *,
        reconnect: Reconnect,
        limits: Limits,
        timeout: float,
        began: Callable[[ResumableStream], object],
        ended: Callable[[ResumableStream], object],
    ) -> None:
        self.id: str | None = None
        """The gateway's, once it has begun."""
        self.finish_reason: str | None = None
        self.usage: Any = None
        self.is_over = False
        """Whether all of it has come, or nothing more will."""
        self.resumed = 0
        """How often it was gone on with after a lost connection."""
        self._dialler = dialler
        self._body = body
        self._limits = limits
        self._timeout = timeout
        self._began = began
        self._ended = ended
        self._retry = Retry(reconnect)
        self._give_up_after = reconnect.give_up_after
        self._response: ClientResponse | None = None
        self._events = Events(limits.largest_read)
        self._last_id: str | None = None
        self._index = 0
        self._is_read = False
        self._left: ClientError | None = None

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts()

    async def _texts(self) -> AsyncGenerator[str, None]:
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                if chunk.text and chunk.choice == 0:
                    yield chunk.text

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """All chunks, instead of the texts."""
        if self._is_read:
            raise RuntimeError("a stream is read once")
        self._is_read = True
        self._began(self)
        try:
            await self._begin()
            while not self.is_over:
                for event in await self._next():
                    for chunk in self._told(event):
                        yield chunk
        finally:
            self._ended(self)
            self.leave()

    async def cancel(self) -> None:
        """Ends the stream and the provider's call; who reads it reads what has come, then the iteration just ends.
        Raises Refused, TimedOut, ConnectionLost.
        """
        if self.is_over or self.id is None:
            return
        self.is_over = True
        self.leave()
        response = await self._dialler.request("DELETE", f"v1/streams/{self.id}", within=self._timeout)
        response.release()

    def leave(self, error: ClientError | None = None) -> None:
        """Gives the connection up; whoever reads still has `error`. For the client."""
        self._left = error
        if self._response is not None:
            self._response.close()
            self._response = None

    async def _begin(self) -> None:
        response = await self._dialler.request(
            "POST",
            "v1/chat/completions",
            within=self._timeout,
            body=self._body,
            headers={"x-runestone-resumable": "true", "accept": "text/event-stream"},
        )
        if response.status != 200:
            raise await self._refusal(response)
        self.id = response.headers.get(STREAM_ID)
        self._response = response
        self._retry.connected()

    async def _next(self) -> list[Event]:
        """The events that came next, from this connection or another one; none when there are no more."""
        while not self.is_over:
            if self._left is not None:
                raise self._left
            if self._response is None:
                await self._go_on("the connection was lost")
                continue
            try:
                data = await self._response.content.readany()
                why = "the connection ended before the stream"
            except (HttpError, OSError) as error:
                data, why = b"", f"the connection was lost: {described(error)}"
            if data:
                events = self._events.feed(data)
                if events:
                    self._retry.progress()
                    return events
            elif not self.is_over and self._left is None:
                await self._go_on(why)
        return []

    async def _go_on(self, why: str) -> None:
        """Waits, and asks for the rest. Raises when there is none to be had."""
        if self._response is not None:
            self._response.close()
            self._response = None
        if self.id is None:
            raise ConnectionLost(f"{why}; the gateway does not keep this stream")
        seconds = self._retry.wait()
        if seconds is None:
            raise ConnectionLost(f"{why}; it could not be gone on with for {self._give_up_after:g} seconds")
        await asyncio.sleep(seconds)
        headers = {"last-event-id": self._last_id} if self._last_id is not None else {}
        try:
            response = await self._dialler.request(
                "GET", f"v1/streams/{self.id}", within=self._timeout, headers=headers
            )
        except (ConnectionLost, TimedOut):
            if self._dialler.is_closed:
                raise
            return
        if response.status == 204:  # all of it has come already
            response.release()
            self.is_over = True
        elif response.status == 200:
            self._response = response
            self._events = Events(self._limits.largest_read)
            self._retry.connected()
            self.resumed += 1
        elif response.status in LATER:
            response.release()
        else:
            failure = await self._refusal(response)
            if response.status == 404:
                raise StreamFailed(f"the gateway has lost the stream: {failure.message}", code="not_found")
            raise failure

    async def _refusal(self, response: ClientResponse) -> ClientError:
        try:
            async with asyncio.timeout(self._timeout):
                return refused(response, await self._dialler.whole(response))
        except TimeoutError:
            return TimedOut(f"the gateway did not finish its answer within {self._timeout:g} seconds")

    def _told(self, event: Event) -> list[Chunk]:
        """The chunks of an event. Raises StreamFailed when it says that there will be none."""
        if event.id is not None:
            self._last_id = event.id
        if event.data == b"[DONE]":
            self.is_over = True
            return []
        try:
            said = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            return []
        if not isinstance(said, dict):
            return []
        if isinstance(said.get("error"), dict):
            self.is_over = True
            error = said["error"]
            code, kind = error.get("code"), error.get("type")
            raise StreamFailed(
                str(error.get("message")),
                code=code if isinstance(code, str) else None,
                type=kind if isinstance(kind, str) else None,
            )
        if said.get("usage") is not None:
            self.usage = said["usage"]
        choices = said.get("choices")
        return [chunk for choice in (choices if isinstance(choices, list) else ()) if (chunk := self._chunk(choice))]

    def _chunk(self, choice: Any) -> Chunk | None:
        if isinstance(choice, dict) and choice.get("index", 0) == 0 and isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        chunk = streamed(choice, self._index)
        if chunk is not None:
            self._index += 1
        return chunk
