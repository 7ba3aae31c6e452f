"""What a client's messages do, one after the other.

Rule: a message that cannot be obeyed is answered by an `error`, and the conversation goes on.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Final

import orjson

from runestone.core.bucket import Bucket
from runestone.core.call import Call, Operation
from runestone.dialects.socket import Message, Ref, Unreadable, read
from runestone.edge.request import Head, call_of
from runestone.edge.running import Running
from runestone.edge.websocket.rooms import MAX_NAME, Room, Rooms
from runestone.edge.websocket.session import Session, timestamp
from runestone.edge.websocket.sessions import Sessions
from runestone.edge.websocket.socket import Socket
from runestone.edge.websocket.stream import Answer, Gateway, Stream
from runestone.errors import RunestoneError

Start = Callable[[str, Coroutine[object, object, None]], asyncio.Task[None]]

REFUSALS = 100
"""Messages that could not be taken, less those that could, after which the connection is closed: 1008."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one connection. `messages_per_second` None does not limit."""

    messages_per_second: int | None = 100
    max_streams: int = 1000
    max_rooms: int = 100
    max_text: int = 1_000_000


@dataclass(slots=True, kw_only=True)
class House:
    """What all conversations share; `gateway` and `limits` are others after a reload. `start` runs something in a task
    that the house owns.
    """

    gateway: Gateway
    sessions: Sessions
    rooms: Rooms
    running: Running
    start: Start
    limits: Limits
    refused: Callable[[RunestoneError], None]
    """Told of calls that were refused before they became one."""


class Conversation:
    """One connection's. `head` is that of its handshake, which holds for every call made in it."""

    def __init__(self, house: House, session: Session, socket: Socket, head: Head) -> None:
        self.session = session
        self._house = house
        self._socket = socket
        self._head = head
        self._count = 0
        self._is_fresh = True
        self._refusals = 0
        rate = house.limits.messages_per_second
        self._bucket = Bucket(rate, 1.0) if rate is not None else None

    def greet(self) -> None:
        """The first message."""
        told = {"session_id": self.session.id, "timestamp": timestamp()}
        self.session.tell("connected", {**told, "resumable_for": self._house.sessions.resumable_for})

    def free(self) -> None:
        """The connection takes more again."""
        self.session.free()

    def take(self, text: str) -> None:
        """One message of the client."""
        session = self.session
        if session.socket is not self._socket:  # it goes on elsewhere, where the client was told what has arrived here
            return
        try:
            message = read(text)
        except Unreadable as error:
            session.received += 1
            self._refuse_or_close("bad_message", error.message, error.ref)
            return
        if message.event not in ("ping", "session:resume"):
            session.received += 1
        if not self._may_speak():
            rate = self._house.limits.messages_per_second
            self._refuse_or_close("rate_limited", f"more than {rate} messages a second", message.ref)
            return
        handle = EVENTS.get(message.event)
        try:
            if handle is None:
                session.refuse("unknown_event", f"'event' is one of {', '.join(EVENTS)}", message.ref)
            else:
                handle(self, message)
        except Unreadable as error:
            session.refuse("bad_message", error.message, error.ref)
        self._is_fresh = self._is_fresh and message.event == "ping"

    def take_bytes(self) -> None:
        """A binary frame."""
        if self.session.socket is not self._socket:
            return
        self.session.received += 1
        self._refuse_or_close("bad_message", "messages are text frames; this one was binary")

    def _may_speak(self) -> bool:
        bucket, now = self._bucket, perf_counter()
        if bucket is not None:
            if bucket.wait(now) > 0:
                return False
            bucket.take(now)
        self._refusals = max(self._refusals - 1, 0)
        return True

    def _refuse_or_close(self, code: str, message: str, ref: Ref = None) -> None:
        """A client that sends mostly what is refused is sent away."""
        self._refusals += 1
        if self._refusals < REFUSALS:
            self.session.refuse(code, message, ref)
        elif self._refusals == REFUSALS:
            self._socket.close(1008, "too many messages that cannot be taken")

    def _ping(self, message: Message) -> None:
        self.session.tell("pong", {"timestamp": timestamp()}, message.ref)

    def _chat_stream(self, message: Message) -> None:
        house, session = self._house, self.session
        room: Room | None = None
        if "room" in message.payload:
            name = message.text("room", MAX_NAME)
            room = house.rooms.find(session, name)
            if room is None:
                session.refuse("not_found", "you are not in that room; join it first", message.ref)
                return
        call = self._call(message, stream=True)
        if call is not None:
            identity = f"stream_{secrets.token_hex(12)}"
            stream = Stream(identity, call, session, message.ref, house.running, room, house.limits.max_text)
            session.works[identity] = stream
            stream.begin()
            stream.began(house.start(f"stream {call.id}", stream.run(house.gateway)))

    def _chat_message(self, message: Message) -> None:
        call = self._call(message, stream=False)
        if call is not None:
            house, session = self._house, self.session
            answer = Answer(f"answer {call.id}", call, session, message.ref, house.running)
            session.works[answer.id] = answer
            answer.began(house.start(answer.id, answer.run(house.gateway)))

    def _call(self, message: Message, *, stream: bool) -> Call | None:
        """The call that the payload asks for; None when it is refused, which is told."""
        house, session = self._house, self.session
        if session.is_revoked:
            session.refuse("unauthorized", "the key of this connection has changed; connect again", message.ref)
            return None
        if house.running.draining or house.sessions.is_draining:
            session.refuse("service_unavailable", "the gateway is shutting down", message.ref)
            return None
        if len(session.works) >= house.limits.max_streams:
            most = house.limits.max_streams
            session.refuse("too_many_streams", f"{most} streams run already, and no more may", message.ref)
            return None
        fields = {name: value for name, value in message.payload.items() if name != "room"}
        fields["stream"] = stream
        if not stream:
            fields.pop("stream_options", None)
        elif "stream_options" not in fields:
            fields["stream_options"] = {"include_usage": True}
        self._count += 1
        try:
            return call_of(self._head.part(self._count, perf_counter()), Operation.CHAT, orjson.dumps(fields), fields)
        except RunestoneError as error:
            house.refused(error)
            session.refuse(error.code or error.type, error.message, message.ref)
            return None

    def _stream_control(self, message: Message) -> None:
        action, identity = message.text("action"), message.text("stream_id")
        if action not in ("pause", "resume", "cancel"):
            raise Unreadable("'payload.action' is one of pause, resume, cancel", message.ref)
        work = self.session.works.get(identity)
        if isinstance(work, Stream):
            work.control(action, message.ref)
        elif any(identity in room.streams for room in self._rooms()):
            self.session.refuse("unauthorized", "only who began a stream controls it", message.ref)
        else:
            self.session.refuse("not_found", "no such stream runs", message.ref)

    def _rooms(self) -> list[Room]:
        found = [self._house.rooms.find(self.session, name) for name in self.session.rooms]
        return [room for room in found if room is not None]

    def _room_join(self, message: Message) -> None:
        house, session = self._house, self.session
        name = message.text("room", MAX_NAME)
        is_new = name not in session.rooms
        if is_new and len(session.rooms) >= house.limits.max_rooms:
            session.refuse("too_many_rooms", f"you are in {house.limits.max_rooms} rooms already", message.ref)
            return
        room = house.rooms.join(session, name)
        if room is None:
            session.refuse("too_many_members", "the room is full", message.ref)
            return
        session.tell("room:joined", room.told(), message.ref)
        if is_new:
            for stream in tuple(room.streams.values()):
                stream.introduce(session)

    def _room_leave(self, message: Message) -> None:
        name = message.text("room", MAX_NAME)
        if name not in self.session.rooms:
            self.session.refuse("not_found", "you are not in that room", message.ref)
            return
        self.session.tell("room:left", self._house.rooms.leave(self.session, name).told(), message.ref)

    def _session_resume(self, message: Message) -> None:
        house, fresh = self._house, self.session
        if not self._is_fresh:
            raise Unreadable("'session:resume' must be the first message of a connection", message.ref)
        identity, last_seq = message.text("session_id"), message.number("last_seq")
        if identity == fresh.id:
            raise Unreadable("that is the session of this connection", message.ref)
        found = house.sessions.resume(identity, fresh.caller, last_seq)
        if isinstance(found, str):
            fresh.tell("session:lost", {"session_id": identity, "reason": found}, message.ref)
            return
        session, missed = found
        house.sessions.drop(fresh)
        self.session = session
        for old in missed:
            self._socket.send(old)
        session.socket = self._socket
        told = {"session_id": session.id, "replayed": len(missed), "received": session.received}
        session.tell("session:resumed", told, message.ref)
        session.free()


EVENTS: Final[Mapping[str, Callable[[Conversation, Message], None]]] = MappingProxyType(
    {
        "chat:stream": Conversation._chat_stream,
        "chat:message": Conversation._chat_message,
        "stream:control": Conversation._stream_control,
        "room:join": Conversation._room_join,
        "room:leave": Conversation._room_leave,
        "session:resume": Conversation._session_resume,
        "ping": Conversation._ping,
    }
)
