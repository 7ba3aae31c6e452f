"""What visitors of the soak do over WebSockets: streams that are paused, cancelled, cut and gone on with; rooms.

Rule: as in soak_calls.py. Messages are numbered without a gap over all connections of a session, chunks without a gap
in their stream, and each stream ends once. A session that is left alone is the gateway's to clear away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import orjson

from bench import frames
from bench.soak_calls import Visit
from bench.soak_client import Line, Wrong

_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
_ENDS = ("stream:complete", "stream:cancelled", "stream:error")
_PAUSE = 0.2  # seconds, at most
Message = dict[str, Any]


class Talk:
    """One session, over as many connections as it takes; `stack` closes them."""

    def __init__(self, visit: Visit, stack: AsyncExitStack) -> None:
        self._visit = visit
        self._stack = stack
        self._line: Line | None = None
        self._frames = frames.Frames()
        self._heard: deque[Message] = deque()
        self._excused: set[str] = set()  # the refs of messages that came too late, and may be refused
        self._count = self._last = 0
        self._session = ""
        self.running: dict[str, int | None] = {}
        """Streams under way, and the index of the chunk that each has to say next, where that is known."""

    @property
    def line(self) -> Line:
        assert self._line is not None
        return self._line

    async def connect(self) -> None:
        """The first connection, or another one after the last was lost."""
        visit = self._visit
        self._line = await self._stack.enter_async_context(visit.client.line())
        self._frames, self._heard = frames.Frames(), deque()
        self._line.say(frames.handshake("/ws", visit.client.port))
        told = await self._next()
        if told["event"] != "connected":
            raise Wrong(f"a WebSocket began with {told}")
        if self._session:
            ref = self.say("session:resume", {"session_id": self._session, "last_seq": self._last})
            await self.until("session:resumed", ref)
        else:
            self._session, self._last = told["payload"]["session_id"], told["seq"]

    def say(self, event: str, payload: Message) -> str:
        """Sends a message, and gives its ref."""
        self._visit.called()
        self._count += 1
        ref = f"{self._count} {event}"
        self.line.say(frames.text(orjson.dumps({"event": event, "payload": payload, "ref": ref})))
        return ref

    async def until(self, event: str, ref: str) -> Message:
        """Hears what comes, up to what answers `ref`, which has to be that event."""
        while (told := await self.hear()).get("ref") != ref:
            pass
        if told["event"] != event:
            raise Wrong(f"instead of {event}: {str(told)[:200]}")
        return told

    async def hear(self) -> Message:
        """The next message. Raises Wrong where its number is not the next one, or its stream is not where it was."""
        told = await self._next()
        if told["seq"] != self._last + 1:
            raise Wrong(f"message {told['seq']} after {self._last}: {str(told)[:200]}")
        self._last += 1
        event, payload = told["event"], told["payload"]
        if event == "stream:started":
            self.running[payload["stream_id"]] = 0 if "ref" in told else None
        elif event == "stream:chunk":
            stream, index = payload["stream_id"], payload["index"]
            if self.running.get(stream, -1) not in {index, None}:
                raise Wrong(f"chunk {index} of a stream that is at {self.running.get(stream)}")
            self.running[stream] = index + 1
        elif event in _ENDS:
            if self.running.pop(payload["stream_id"], -1) == -1:
                raise Wrong(f"a stream ended that did not run: {told}")
            if event == "stream:error":
                raise Wrong(f"a stream failed: {told}")
        elif event == "error" and told.get("ref") in self._excused:
            self._visit.met("a control that came too late")
        return told

    async def control(self, action: str, stream: str) -> None:
        """Tells a stream what to do, and hears that it does; it may be over before."""
        ref = self.say("stream:control", {"action": action, "stream_id": stream})
        self._excused.add(ref)
        while stream in self.running and (await self.hear()).get("ref") != ref:
            pass

    async def _next(self) -> Message:
        line = self.line
        while not self._heard:
            data = await line.reader.read(65536)
            if not data:
                raise ConnectionResetError("a WebSocket was closed")
            self._heard.extend(map(orjson.loads, self._frames.feed(data)))
            for ping in self._frames.pings:
                line.say(frames.pong(ping))
            self._frames.pings.clear()
            if self._frames.closed:
                raise Wrong(f"a WebSocket was {self._frames.closed}")
        return self._heard.popleft()


async def talked(visit: Visit) -> None:
    """A session: some streams, what its client does with them, and how it goes."""
    chance = visit.chance
    async with AsyncExitStack() as stack:
        talk = Talk(visit, stack)
        await talk.connect()
        if chance.random() < 0.3:
            await _whole(visit, talk)
        for _ in range(chance.randrange(1, 4)):
            await _begin(visit, talk)
        for _ in range(chance.randrange(5)):
            await chance.choice(DEEDS)(visit, talk)
        if chance.random() < 0.2:
            return  # and never comes back
        while talk.running:
            await talk.hear()
        talk.line.say(_CLOSE)


async def shared(visit: Visit) -> None:
    """A room of two: one begins a stream, the other joins it midway and hears it to its end, whoever leaves."""
    chance = visit.chance
    room = {"room": f"room {next(visit.numbers)}"}
    async with AsyncExitStack() as stack:
        host, guest = Talk(visit, stack), Talk(visit, stack)
        for talk in (host, guest):
            await talk.connect()
        await host.until("room:joined", host.say("room:join", room))
        await _begin(visit, host, room)
        await asyncio.sleep(chance.random() * _PAUSE)
        await guest.until("room:joined", guest.say("room:join", room))
        if chance.random() < 0.3:
            host.line.leave(rudely=chance.random() < 0.5)
        elif chance.random() < 0.5:
            await host.until("room:left", host.say("room:leave", room))
        heard = 0
        while guest.running or not heard:
            heard += (await guest.hear())["event"] in {"stream:chunk", *_ENDS}


async def _begin(visit: Visit, talk: Talk, more: dict[str, str] | None = None) -> None:
    model, events = visit.chance.choice((("paced", 25), ("paced", 60), ("fast", None)))
    if more:
        model, events = "paced", 60
    payload = {**orjson.loads(visit.ask(model, stream=True, events=events)), **(more or {})}
    await talk.until("stream:started", talk.say("chat:stream", payload))


async def _whole(visit: Visit, talk: Talk) -> None:
    """An answer at once; then what is refused."""
    await talk.until("chat:response", talk.say("chat:message", orjson.loads(visit.ask("steady"))))
    await talk.until("error", talk.say("no:such:event", {}))
    await talk.until("error", talk.say("chat:message", orjson.loads(visit.ask("no-such-model"))))


async def _pause(visit: Visit, talk: Talk) -> None:
    for stream in list(talk.running)[:1]:
        await talk.control("pause", stream)
        await asyncio.sleep(visit.chance.random() * _PAUSE)
        await talk.control("resume", stream)


async def _cancel(visit: Visit, talk: Talk) -> None:
    for stream in list(talk.running)[:1]:
        await talk.control("cancel", stream)


async def _lose(visit: Visit, talk: Talk) -> None:
    """The connection is lost, wherever it was, and the session goes on on another one."""
    talk.line.leave(rudely=visit.chance.random() < 0.5)
    await asyncio.sleep(visit.chance.random() * _PAUSE)
    await talk.connect()


async def _ping(visit: Visit, talk: Talk) -> None:
    await talk.until("pong", talk.say("ping", {}))


DEEDS: tuple[Callable[[Visit, Talk], Awaitable[None]], ...] = (_pause, _cancel, _lose, _ping)
