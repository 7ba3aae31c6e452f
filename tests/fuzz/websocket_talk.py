"""Clients of the WebSocket endpoint that hold a session to what it promises, and the provider behind it.

Speaker   a provider whose streams say what they are told
Session   what a client knows of its session; every message that it hears must be the next
Client    one connection, on a bare socket, of one session after the other
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import orjson

from tests.flows.talk import Message, masked
from tests.fuzz.house import House, turns
from tests.fuzz.strategies import deep_json
from tests.provider import Seen, Wire

SETTLED = 30
"""Turns of the loop after which whatever was said has been heard, by way of the provider too."""
ENDS = ("stream:complete", "stream:error", "stream:cancelled")
CLOSES = {1000, 1001, 1002, 1003, 1007, 1008, 1009}
"""Codes that what a client did can have; 1000 is its own, repeated."""
CODES = frozenset(
    [
        "bad_message",
        "unknown_event",
        "not_found",
        "unauthorized",
        "rate_limited",
        "too_many_streams",
        "too_many_rooms",
        "bad_request",
        "model_not_found",
        "provider_error",
        "timeout",
        "service_unavailable",
    ]
)


class Speaker:
    """A provider whose answers say what they are told, each known by its number, which is the question."""

    def __init__(self) -> None:
        self.told: dict[str, asyncio.Queue[bytes | None]] = {}
        self.open: set[str] = set()

    async def script(self, seen: Seen, wire: Wire) -> None:
        name = seen.json["messages"][-1]["content"]
        told = self.told.setdefault(name, asyncio.Queue())
        leaving = asyncio.ensure_future(wire.left(600))
        leaving.add_done_callback(lambda _: told.put_nowait(None))
        self.open.add(name)
        try:
            if not seen.json.get("stream"):
                if await told.get() is not None:
                    await wire.answer({"id": "c", "choices": [], "usage": None})
                return
            await wire.begin_stream()
            while (block := await told.get()) is not None:
                await wire.chunk(block)
                if block.endswith(b"data: [DONE]\n\n"):
                    await wire.end_stream()
                    return
            wire.close()
        finally:
            self.open.discard(name)
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving


def chunk(delta: object, finish: str | None = None) -> bytes:
    return (
        b"data: " + deep_json({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}) + b"\n\n"
    )


class Session:
    """What a client knows of its session."""

    def __init__(self) -> None:
        self.id = ""
        self.seq = 0
        self.rooms: set[str] = set()
        self.indexes: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.paused: set[str] = set()
        self.asked: dict[str, str] = {}
        """Of streams: by their id, the question."""
        self.unanswered: dict[object, str] = {}
        """Of questions that have neither begun nor been refused: by ref, what was asked."""

    def hear(self, told: Message) -> None:
        """Takes in the next message: it must be the next."""
        event, payload = told["event"], told["payload"]
        assert told["seq"] == self.seq + 1, (self.seq, told)
        self.seq += 1
        if event.startswith("stream:"):
            self._stream(event, payload, told.get("ref"))
        elif event == "error":
            assert payload["code"] in CODES, told
            assert payload["message"]
            self.unanswered.pop(told.get("ref"), None)
        elif event == "chat:response":
            assert self.unanswered.pop(told["ref"]) == "chat:message"

    def _stream(self, event: str, payload: Message, ref: object) -> None:
        identity = payload["stream_id"]
        assert identity not in self.ended or ref is not None, f"{event} after the end"
        if event == "stream:started":
            if "room" not in payload:
                assert identity not in self.indexes, "begun twice"
            if self.unanswered.get(ref, "").startswith("stream "):
                self.asked[identity] = self.unanswered.pop(ref).removeprefix("stream ")
            self.indexes[identity] = -1
            self.texts[identity] = ""
        elif event == "stream:chunk":
            if identity in self.asked:
                assert identity not in self.paused, "a paused stream goes on"
                assert payload["index"] == self.indexes[identity] + 1, "a chunk is missing"
            assert payload["index"] > self.indexes[identity]
            self.indexes[identity] = payload["index"]
            self.texts[identity] += payload["chunk"]
        elif event in ENDS:
            assert identity not in self.ended, "ended twice"
            self.ended[identity] = event
        elif event == "stream:paused":
            self.paused.add(identity)
        elif event == "stream:resumed":
            self.paused.discard(identity)


class Client:
    """One connection of a session, on a bare socket."""

    def __init__(self, house: House, session: Session) -> None:
        self.house = house
        self.session = session
        self.is_open = True
        self.code: int | None = None
        self._sock = socket.socket()
        self._data = b""
        self._pings = 0

    async def come_back(self) -> None:
        """Goes on with its session, if its connection is gone."""
        if not self.is_open:
            old, self.session = self.session, Session()
            self._sock, self._data, self.is_open = socket.socket(), b"", True
            await self.connect()
            await self.resume(old, old.seq)

    async def connect(self) -> None:
        """Shakes hands, and is greeted."""
        loop = self.house.loop
        self._sock.setblocking(False)
        await loop.sock_connect(self._sock, ("127.0.0.1", self.house.port))
        await self.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        while b"\r\n\r\n" not in self._data:
            self._data += await loop.sock_recv(self._sock, 4096)
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        greeting = await self._next()
        assert greeting is not None
        assert greeting["event"] == "connected"
        assert greeting["seq"] == 1
        self.session.id, self.session.seq = greeting["payload"]["session_id"], 1

    async def write(self, data: bytes) -> None:
        """Sends bytes, if they are still taken."""
        try:
            await self.house.loop.sock_sendall(self._sock, data)
        except OSError:
            await self._drain()

    async def say(self, event: str, payload: object, ref: object = None) -> None:
        told = {"event": event, "payload": payload, "ref": ref}
        await self.write(masked(deep_json(told)))

    async def hear_all(self) -> None:
        """Everything that was said up to now: a ping is answered behind it."""
        if not self.is_open:
            return
        self._pings += 1
        ref = f"ping {self._pings}"
        await self.say("ping", {}, ref)
        while (told := await self._next()) is not None:
            self.session.hear(told)
            if told.get("ref") == ref:
                return

    async def resume(self, old: Session, last_seq: int) -> bool:
        """Goes on with a session. What it has had after `last_seq` comes again."""
        fresh, ref = self.session, f"resume from {self.session.id}"  # an older answer may be among what was missed
        await self.say("session:resume", {"session_id": old.id, "last_seq": last_seq}, ref)
        again = Session()
        again.seq = last_seq
        missed: list[Message] = []
        while (told := await self._next()) is not None:
            if told["seq"] == fresh.seq + 1 and told["event"] in ("session:lost", "error") and told.get("ref") == ref:
                fresh.hear(told)
                return False
            assert told["seq"] == last_seq + 1 + len(missed), "what was missed is not in order"
            missed.append(told)
            if told.get("ref") == ref:
                assert told["event"] == "session:resumed"
                assert told["payload"]["replayed"] == len(missed) - 1
                for one in missed:
                    if one["seq"] > old.seq:
                        old.hear(one)
                self.session = old
                return True
        return False

    async def _next(self) -> Message | None:
        """The next message; None at the end."""
        while True:
            frame = await self._frame()
            if frame is None:
                return None
            opcode, payload = frame
            if opcode == 1:
                told: Message = orjson.loads(payload)
                return told
            if opcode == 8:
                self.code = int.from_bytes(payload[:2], "big") if payload else 1005
                assert self.code in CLOSES, (self.code, payload)
                await self.leave()
                return None
            assert opcode == 10, opcode

    async def _frame(self) -> tuple[int, bytes] | None:
        head = await self._read(2)
        if head is None:
            return None
        size = head[1]
        assert size < 128, "a server does not mask"
        assert head[0] & 0x80, "every message is one frame"
        if size >= 126:
            length = await self._read(2 if size == 126 else 8)
            if length is None:
                return None
            size = int.from_bytes(length, "big")
        payload = await self._read(size)
        return None if payload is None else (head[0] & 0x7F, payload)

    async def _read(self, size: int) -> bytes | None:
        while len(self._data) < size:
            try:
                part = await self.house.loop.sock_recv(self._sock, 65536)
            except OSError:
                part = b""
            if not part:
                await self.leave()
                return None
            self._data += part
        data, self._data = self._data[:size], self._data[size:]
        return data

    async def closed(self) -> int | None:
        """Reads to the end: the close code."""
        while await self._next() is not None:
            pass
        return self.code

    async def _drain(self) -> None:
        """What was still said before it was closed."""
        while (told := await self._next()) is not None:
            self.session.hear(told)

    async def leave(self) -> None:
        """Gone, without a word."""
        self.is_open = False
        self._sock.close()
        await turns(SETTLED)
