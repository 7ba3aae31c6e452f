"""A session with the gateway: many streams and answers at once, over one WebSocket that may be lost and found again.

    session           what an application sees
    ├─ conversation   questions, streams, rooms
    ├─ queue          what is to be sent (outgoing.py)
    └─ link           connections, one after another; numbers, resuming, waits

Rule: it ends once, and whatever ends it, everything that waits in it learns why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from runestone.client.conversation import Conversation
from runestone.client.errors import ClientError, ConnectionLost, another
from runestone.client.link import Dial, Link, State
from runestone.client.options import Limits, Reconnect
from runestone.client.outgoing import Queue
from runestone.client.room import Room
from runestone.client.stream import Stream
from runestone.tasks import spawn

GOODBYE = 2.0
"""Seconds a session that closes gives the gateway to learn what is to be cancelled."""

OnState = Callable[[State], object]


class Session:
    """`async with client.session() as session`. Made by `Client.session`, which says what it takes.

    Everything here raises ConnectionLost when the session is over, SessionLost when the gateway has lost it (after
    which it may go on), QueueFull when too much waits to be sent, and TimedOut after `timeout` seconds.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        reconnect: Reconnect,
        limits: Limits,
        timeout: float,
        on_state: OnState | None = None,
        on_open: Callable[[Session], object],
        on_close: Callable[[Session], object],
    ) -> None:
        self.state = State.CONNECTING
        self.error: ClientError | None = None
        """Why it is over, when it was not closed by you."""
        self._on_state = on_state
        self._on_open = on_open
        self._on_close = on_close
        queue, wanted = Queue(limits), asyncio.Event()
        self._conversation = Conversation(queue, wanted.set, limits, timeout)
        self._link = Link(
            dial,
            queue,
            self._conversation,
            wanted=wanted,
            changed=self._changed,
            reconnect=reconnect,
            per_second=limits.messages_per_second,
        )
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._begun = asyncio.Event()

    @property
    def id(self) -> str | None:
        """As the gateway calls it; another one after it was lost."""
        return self._link.id

    async def open(self) -> None:
        """Connects. Raises Refused when the gateway does not want it, ConnectionLost when nobody answers in time."""
        if self._task is not None:
            raise RuntimeError("a session is opened once")
        self._on_open(self)
        self._conversation.begin()
        self._task = spawn("a session of a client", self._run())
        try:
            await self._begun.wait()  # its end sets it too: see Reconnect.give_up_after
        except asyncio.CancelledError:
            await self.close()
            raise
        if self.error is not None:
            await self.close()
            raise another(self.error)

    async def close(self) -> None:
        """Ends the session: what waits in it fails with ConnectionLost, its streams are cancelled at the gateway (those
        of a room go on while somebody is there), and nothing of it is left here.
        """
        if self._task is None:
            return
        if not self._is_closing:
            self._is_closing = True
            self._conversation.leave()
            try:
                await self._link.drain(GOODBYE)
            finally:
                self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()

    async def __aenter__(self) -> Session:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def stream(self, *, model: str, messages: object, room: str | None = None, **fields: object) -> Stream:
        """Begins a stream, and returns when the gateway says that it has begun; with `room` all its members hear it.
        `fields` are those of an OpenAI chat request. Raises Refused, and what the class says.
        """
        payload = {"model": model, "messages": messages, **fields}
        if room is not None:
            payload["room"] = room
        begun: Stream = await self._conversation.ask("chat:stream", payload)
        return begun

    async def chat(self, *, model: str, messages: object, **fields: object) -> Any:
        """The whole answer: OpenAI's completion, a dict. Raises Refused, and what the class says."""
        return await self._conversation.ask("chat:message", {"model": model, "messages": messages, **fields})

    async def join(self, name: str) -> Room:
        """Joins a room, or finds it again: a session is in a room once. Raises Refused, and what the class says."""
        joined: Room = await self._conversation.ask("room:join", {"room": name})
        return joined

    async def _run(self) -> None:
        try:
            await self._link.run()
        except ClientError as error:
            self.error = error
        finally:
            self._conversation.end(self.error or ConnectionLost("the session is closed"))
            self._changed(State.CLOSED)
            self._on_close(self)

    def _changed(self, state: State) -> None:
        self.state = state
        if state is not State.DISCONNECTED:
            self._begun.set()
        if self._on_state is not None:
            asyncio.get_running_loop().call_soon(self._on_state, state)
