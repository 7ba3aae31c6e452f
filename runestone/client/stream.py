"""A stream of a session: what has come of it, for whoever reads it.

    gateway ─▶ session ─▶ [buffer] ─▶ `async for`
                 pause ◀─ full │ a quarter ─▶ resume

Rules: what came before an end is read before the end is told. A full buffer asks the gateway to pause the stream, when
it is one's own; a stream of somebody else's cannot be asked, and fails alone. One task reads a stream, in one place.
Deliberately absent: a `__del__`. Who leaves a stream early cancels it, or uses it as `async with`; otherwise it waits,
paused, for the end of the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Protocol

from runestone.client.chunk import Chunk
from runestone.client.errors import ClientError, Overrun, StreamFailed, TimedOut, another
from runestone.client.options import Limits


class Controls(Protocol):
    """What a stream asks of its session."""

    async def control(self, stream: Stream, action: str) -> None:
        """Sends a `stream:control` and waits for its answer, or for the end of the stream. Raises ClientError."""

    def control_soon(self, stream: Stream, action: str) -> None:
        """Sends one and does not wait. Raises nothing; when the session is over there is nothing to send."""


class Stream:
    """An answer that is on its way.

    `async for text in stream` gives the text of the first choice, piece by piece, `async for chunk in stream.chunks()`
    everything. Both raise StreamFailed (Overrun among them) when the stream ends before its end, SessionLost or
    ConnectionLost when its session does, TimedOut when nothing comes for the session's `timeout`, after which one may
    go on. A stream that one has cancelled just ends.
    """

    def __init__(
        self,
        identity: str,
        *,
        model: str | None,
        room: str | None,
        is_mine: bool,
        controls: Controls,
        limits: Limits,
        timeout: float,
    ) -> None:
        self.id = identity
        self.model = model
        self.room = room
        """The name of the room that hears it; None when there is none."""
        self.is_mine = is_mine
        """Whether this session began it, and so may control it."""
        self.response: Any = None
        """What `stream:complete` said: finish_reason, usage, provider, model, cache. None until then."""
        self.cancelled = False
        self.error: ClientError | None = None
        """Why it ended before its end."""
        self.is_paused = False
        """As the gateway said last."""
        self.over = asyncio.Event()
        self._controls = controls
        self._limits = limits
        self._timeout = timeout
        self._buffer: deque[tuple[Chunk, int]] = deque()
        self._waiting = 0  # bytes in the buffer
        self._next_index = 0
        self._held_by_reader = False  # full: it was asked to pause
        self._held_by_hand = False  # pause() was called
        self._is_leaving = False  # cancel() was called
        self._arrived = asyncio.Event()
        self._is_read = False

    @property
    def finish_reason(self) -> str | None:
        """Why the model ended, as OpenAI says it; None until the stream is complete."""
        reason = self.response.get("finish_reason") if self.response is not None else None
        return reason if isinstance(reason, str) else None

    @property
    def usage(self) -> Any:
        """OpenAI's `usage`, where the provider told it; None until the stream is complete."""
        return self.response.get("usage") if self.response is not None else None

    @property
    def waiting(self) -> int:
        """Bytes that came and were not read yet."""
        return self._waiting

    def __aiter__(self) -> AsyncIterator[str]:
        return _Texts(self)

    def chunks(self) -> AsyncIterator[Chunk]:
        """All chunks, instead of the texts."""
        return _Chunks(self)

    async def pause(self) -> None:
        """The gateway stops reading the provider until `resume`. Without effect on a stream that is over. Raises
        Refused for one that is not yours, TimedOut, ConnectionLost, SessionLost, QueueFull.
        """
        self._held_by_hand = True
        if not self.over.is_set() and not self._held_by_reader:
            await self._controls.control(self, "pause")

    async def resume(self) -> None:
        """The opposite. A stream whose buffer is full goes on when it has been read."""
        self._held_by_hand = False
        if not self.over.is_set() and not self._held_by_reader:
            await self._controls.control(self, "resume")

    async def cancel(self) -> None:
        """Ends the stream and the provider's call. What came before may still be read, then the iteration just ends."""
        self._is_leaving = self.is_mine
        if not self.over.is_set():
            await self._controls.control(self, "cancel")

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_mine and not self.over.is_set():
            self._is_leaving = True
            self._controls.control_soon(self, "cancel")
            self.end(cancelled=True)

    def put(self, chunk: Chunk, size: int) -> None:
        """A chunk of `size` bytes has come. For the session."""
        if self.over.is_set():
            return
        if self.is_mine and chunk.index != self._next_index:
            self._give_up(StreamFailed(f"chunk {chunk.index} came where {self._next_index} is next", code="bad_index"))
            return
        self._next_index = chunk.index + 1
        self._buffer.append((chunk, size))
        self._waiting += size
        self._arrived.set()
        if self._waiting > self._most:
            self._give_up(Overrun(f"{self._waiting} bytes of the stream were not read", code="overrun"))
        elif self.is_mine and self._waiting > self._limits.buffered and not self._held_by_reader:
            self._held_by_reader = True
            if not self._held_by_hand:
                self._controls.control_soon(self, "pause")

    @property
    def _most(self) -> int:
        """A stream that was asked to pause may still bring what was under way."""
        return self._limits.buffered + self._limits.largest_read if self.is_mine else self._limits.heard

    def end(self, response: object = None, error: ClientError | None = None, *, cancelled: bool = False) -> None:
        """The stream is over: complete, failed or cancelled. Only the first end counts. For the session."""
        if self.over.is_set():
            return
        if cancelled and not self._is_leaving:
            error = StreamFailed("the stream was cancelled", code="cancelled")
        self.response, self.error, self.cancelled = response, error, cancelled
        self.over.set()
        self._arrived.set()

    def _give_up(self, error: StreamFailed) -> None:
        """Ends the stream from this side. Of one that nobody read in time, nothing more is kept."""
        if isinstance(error, Overrun):
            self._buffer.clear()
            self._waiting = 0
        self.end(error=error)
        if self.is_mine:
            self._controls.control_soon(self, "cancel")

    async def next(self) -> Chunk | None:
        """The next chunk, None at the end. For the iterators; raises what the class says."""
        if self._is_read:
            raise RuntimeError("a stream is read by one task at a time")
        self._is_read = True
        try:
            while not self._buffer:
                if self.over.is_set():
                    if self.error is not None:
                        raise another(self.error)
                    return None
                await self._wait()
        finally:
            self._is_read = False
        chunk, size = self._buffer.popleft()
        self._waiting -= size
        if self._held_by_reader and self._waiting * 4 <= self._limits.buffered:
            self._held_by_reader = False
            if not self._held_by_hand and not self.over.is_set():
                self._controls.control_soon(self, "resume")
        return chunk

    async def _wait(self) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout(self._timeout):
                await self._arrived.wait()
        except TimeoutError:
            raise TimedOut(f"nothing of the stream came for {self._timeout:g} seconds") from None


class _Texts:
    """The texts of the first choice."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while (chunk := await self._stream.next()) is not None:
            if chunk.text and chunk.choice == 0:
                return chunk.text
        raise StopAsyncIteration


class _Chunks:
    """All chunks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        chunk = await self._stream.next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk
