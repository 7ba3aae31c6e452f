"""What a session has said and heard: questions that wait for answers, streams, rooms. It outlives connections.

Rules: each question is answered, fails, or runs into its deadline. Messages are handled at once, one after the other,
so what a message makes (a stream, a room) is there before the next one is looked at. What has begun for somebody who
has gone meanwhile is ended at the gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from runestone.client.chunk import told
from runestone.client.errors import ClientError, ConnectionLost, Refused, SessionLost, StreamFailed, TimedOut, another
from runestone.client.incoming import Broken, Incoming
from runestone.client.options import Limits
from runestone.client.outgoing import Queue
from runestone.client.room import Room
from runestone.client.stream import Stream

_log = logging.getLogger("runestone.client")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that waits for its answer; `stream` when it is about one, whose end answers it too."""

    future: asyncio.Future[Any]
    stream: Stream | None = None


class Conversation:
    """One session's. `wake` is called when there is something in the queue; answers may take `timeout` seconds. It
    begins with `begin`.
    """

    def __init__(self, queue: Queue, wake: Callable[[], object], limits: Limits, timeout: float) -> None:
        self._queue = queue
        self._wake = wake
        self._limits = limits
        self._timeout = timeout
        self._asked: dict[int, _Asked] = {}
        self._streams: dict[str, Stream] = {}
        self._rooms: dict[str, Room] = {}
        self._over: ClientError | None = ConnectionLost("the session is not open")

    def begin(self) -> None:
        """From here on it takes questions."""
        self._over = None

    def leave(self) -> None:
        """Takes no more questions, and says to the gateway what is not wanted any more: streams, but not those that
        others hear too, and rooms.
        """
        self._over = self._over or ConnectionLost("the session is closed")
        self._queue.drop()
        for stream in self._streams.values():
            if stream.is_mine and stream.room is None:
                self._send("stream:control", {"stream_id": stream.id, "action": "cancel"})
        for room in self._rooms.values():
            self._send("room:leave", {"room": room.name})

    def end(self, error: ClientError) -> None:
        """There is no session any more: whatever waits fails."""
        self._over = error
        self._fail(error)

    async def ask(self, event: str, payload: object, *, stream: Stream | None = None, is_bound: bool = False) -> Any:
        """Sends a message and waits for what answers it; `stream` when it is about one, `is_bound` when it means
        nothing in another session. Raises Refused, TimedOut, SessionLost, QueueFull, and why the session is over.
        """
        if self._over is not None:
            raise another(self._over)
        ref = self._queue.add(event, payload, is_bound=is_bound or stream is not None)
        future = asyncio.get_running_loop().create_future()
        self._asked[ref] = _Asked(future, stream)
        self._wake()
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await future
                except asyncio.CancelledError:
                    self._forsake(future)
                    raise
        except TimeoutError:
            raise TimedOut(f"no answer to {event} within {self._timeout:g} seconds") from None
        finally:
            if self._asked.pop(ref, None) is not None:
                self._queue.withdraw(ref)

    async def control(self, stream: Stream, action: str) -> None:
        """See Controls."""
        if self._over is None:
            await self.ask("stream:control", {"stream_id": stream.id, "action": action}, stream=stream)

    def control_soon(self, stream: Stream, action: str) -> None:
        """See Controls."""
        if self._over is None and self._streams.get(stream.id) is stream:
            self._send("stream:control", {"stream_id": stream.id, "action": action})

    def heard(self, message: Incoming) -> None:
        """See Listener."""
        event, payload = message.event, message.payload
        if event == "stream:chunk":
            self._chunk(message)
        elif event == "stream:started":
            self._started(message)
        elif event in ("stream:complete", "stream:error", "stream:cancelled"):
            self._ended(message)
        elif event in ("stream:paused", "stream:resumed"):
            stream = self._streams.get(message.text("stream_id"))
            if stream is not None:
                stream.is_paused = event == "stream:paused"
            self._answer(message.ref, payload)
        elif event == "room:joined":
            self._joined(message)
        elif event in ("chat:response", "room:left"):
            self._answer(message.ref, payload)
        elif event == "error":
            refused = Refused(str(payload.get("message")), code=message.text("code"))
            if message.ref is None:
                _log.warning("the gateway complains: %s", refused.message)
            self._answer(message.ref, refused)

    def lost(self, reason: str, waiting: Set[int]) -> None:
        """See Listener."""
        self._fail(SessionLost(f"the session was lost: {reason}"), waiting)

    def _forsake(self, future: asyncio.Future[Any]) -> None:
        """Who asked has gone, perhaps in the moment in which the answer came: a stream that has begun is nobody's."""
        if future.done() and not future.cancelled() and future.exception() is None:
            begun = future.result()
            if isinstance(begun, Stream):
                self.control_soon(begun, "cancel")
                begun.end(cancelled=True)

    def _send(self, event: str, payload: object) -> None:
        self._queue.add(event, payload, is_bound=True, anyway=True)
        self._wake()

    async def _leave(self, room: Room) -> None:
        """See Room.leave."""
        left = await self.ask("room:leave", {"room": room.name}, is_bound=True)
        if self._rooms.get(room.name) is room:
            del self._rooms[room.name]
        _told(room, left)
        room.close()
        for stream in tuple(self._streams.values()):
            if stream.room == room.name:
                del self._streams[stream.id]
                stream.end(error=StreamFailed(f"the room {room.name!r} was left", code="left"))

    def _answer(self, ref: int | None, answer: object) -> None:
        """What was asked under `ref` has its answer, if somebody waits for it still."""
        asked = self._asked.pop(ref, None) if ref is not None else None
        if asked is None or asked.future.done():
            return
        if isinstance(answer, ClientError):
            asked.future.set_exception(answer)
        else:
            asked.future.set_result(answer)

    def _joined(self, message: Incoming) -> None:
        name, is_asked = message.text("room"), message.ref in self._asked
        room = self._rooms.get(name)
        if room is None and not is_asked:  # who asked for it has gone
            self._send("room:leave", {"room": name})
            return
        if room is None:  # it is there before the next message is handled, which may be of a stream that runs in it
            room = self._rooms[name] = Room(name, most=self._limits.waiting_streams, leave=self._leave)
        _told(room, message.payload)
        self._answer(message.ref, room)

    def _started(self, message: Incoming) -> None:
        identity, payload, is_mine = message.text("stream_id"), message.payload, message.ref is not None
        model, name = payload.get("model"), payload.get("room")
        stream = Stream(
            identity,
            model=model if isinstance(model, str) else None,
            room=name if isinstance(name, str) else None,
            is_mine=is_mine,
            controls=self,
            limits=self._limits,
            timeout=self._timeout,
        )
        room = self._rooms.get(name) if isinstance(name, str) else None
        if room is None and not is_mine:
            return
        self._streams[identity] = stream
        if is_mine and message.ref not in self._asked:  # who asked for it has gone
            self.control_soon(stream, "cancel")
            stream.end(cancelled=True)
            return
        if room is not None:
            room.began(stream)
        self._answer(message.ref, stream)

    def _chunk(self, message: Incoming) -> None:
        stream, chunk = self._streams.get(message.text("stream_id")), told(message.payload)
        if chunk is None:
            raise Broken("the gateway sent a stream:chunk without text or index")
        if stream is not None:
            stream.put(chunk, message.size)

    def _ended(self, message: Incoming) -> None:
        stream = self._streams.pop(message.text("stream_id"), None)
        if stream is not None:
            if message.event == "stream:complete":
                stream.end(message.inner("response"))
            elif message.event == "stream:cancelled":
                stream.end(cancelled=True)
            else:
                error = message.inner("error")
                code, kind = error.get("code"), error.get("type")
                stream.end(
                    error=StreamFailed(
                        str(error.get("message")),
                        code=code if isinstance(code, str) else None,
                        type=kind if isinstance(kind, str) else None,
                    )
                )
            for ref, asked in tuple(self._asked.items()):
                if asked.stream is stream:
                    self._answer(ref, None)
        self._answer(message.ref, None)

    def _fail(self, error: ClientError, waiting: Set[int] = frozenset()) -> None:
        """Everything that waits fails, but what was not sent yet and is `waiting` for another session."""
        for ref, asked in tuple(self._asked.items()):
            if ref not in waiting:
                del self._asked[ref]
                if not asked.future.done():
                    asked.future.set_exception(another(error))
        for stream in self._streams.values():
            stream.end(error=another(error))
        for room in self._rooms.values():
            room.close(error)
        self._streams.clear()
        self._rooms.clear()


def _told(room: Room, payload: Any) -> None:
    members, streams = payload.get("members"), payload.get("streams")
    room.members = members if isinstance(members, int) else 0
    room.streams = tuple(streams) if isinstance(streams, list) else ()
