"""Clients of the WebSocket endpoint, and a provider that says what a test tells it to.

Talk   over aiohttp's own client, which checks the frames; keeps every message it heard
Raw    on a bare socket: reads exactly as much as it is told to, and leaves in the middle of whatever it likes
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import orjson
from aiohttp import WSMsgType

from tests.flows.test_relay_stream import DONE, ROLE, STOP, USAGE, chunk
from tests.provider import Seen, Wire

Message = dict[str, Any]


class Address(Protocol):
    """Where a gateway is."""

    url: str


PATIENCE = 10.0
"""Seconds for whatever must come."""
ANSWER: Message = {
    "id": "c1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def question(text: str = "hi", **more: object) -> Message:
    """The payload of a chat:stream or chat:message to the provider `up`."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def message(event: str, payload: object = None, ref: object = None) -> str:
    told = {"event": event} if payload is None else {"event": event, "payload": payload}
    return orjson.dumps(told if ref is None else {**told, "ref": ref}).decode()


def text_of(messages: Iterable[Message], stream_id: str) -> str:
    """What a stream has said; its chunks are numbered without a gap."""
    chunks = [told["payload"] for told in messages if told["event"] == "stream:chunk"]
    mine = [told for told in chunks if told["stream_id"] == stream_id]
    assert [told["index"] for told in mine] == list(range(len(mine)))
    return "".join(told["chunk"] for told in mine)


class Talk:
    """One connection. `heard` holds all of it; `seq` the number of the last message."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.heard: list[Message] = []
        self.session = ""
        self.seq = 0
        self._may_follow: set[int] = set()

    async def next(self) -> Message:
        """The next message. Numbers count up one by one, from wherever they began."""
        told = await self.ws.receive(timeout=PATIENCE)
        assert told.type is WSMsgType.TEXT, (str(told)[:300], self.ws.close_code)
        heard: Message = orjson.loads(told.data)
        if heard["event"] == "connected":
            assert heard["seq"] == 1
            self.session = heard["payload"]["session_id"]
        else:
            assert heard["seq"] == self.seq + 1 or heard["seq"] in self._may_follow, (self.seq, str(heard)[:300])
        self.seq = heard["seq"]
        self._may_follow = set()
        self.heard.append(heard)
        return heard

    async def wait(self, event: str, **payload: object) -> Message:
        """Reads on to the next message of that kind, with that in its payload."""
        while True:
            told = await self.next()
            if told["event"] == event and payload.items() <= told["payload"].items():
                return told

    async def say(self, event: str, payload: object = None, ref: object = None) -> None:
        await self.ws.send_str(message(event, payload, ref))

    async def ask(self, event: str, payload: object = None, ref: object = None) -> Message:
        """Says it, and reads on to the answer, which repeats the `ref`."""
        ref = ref if ref is not None else f"ref {len(self.heard)}"
        await self.say(event, payload, ref)
        while (told := await self.next()).get("ref") != ref:
            pass
        return told

    async def start(self, text: str = "hi", **more: object) -> str:
        """Begins a stream: its id."""
        told = await self.ask("chat:stream", question(text, **more))
        assert told["event"] == "stream:started", told
        identity: str = told["payload"]["stream_id"]
        return identity

    async def control(self, action: str, stream_id: str) -> Message:
        return await self.ask("stream:control", {"action": action, "stream_id": stream_id})

    async def refused(self, event: str, payload: object = None) -> str:
        """Says what will be refused: with which code."""
        told = await self.ask(event, payload, "refuse me")
        assert told["event"] == "error", told
        assert told["payload"]["ref"] == "refuse me"
        assert told["payload"]["message"]
        code: str = told["payload"]["code"]
        return code

    async def resume(self, session: str, seq: int) -> Message:
        """Goes on with another session: `session:resumed` or `session:lost`. What came before it is in `heard`, which
        may hold answers to resumes of before.
        """
        ref = f"resume {len(self.heard)}"
        await self.say("session:resume", {"session_id": session, "last_seq": seq}, ref)
        self._may_follow = {seq + 1}
        while (told := await self.next()).get("ref") != ref:
            pass
        assert told["event"] in ("session:resumed", "session:lost"), told
        if told["event"] == "session:resumed":
            self.session = session
        return told

    async def all_heard(self) -> list[Message]:
        """Everything that has been said to it up to now, and nothing that comes later."""
        await self.ask("ping", ref=f"now {len(self.heard)}")
        return self.heard

    async def closed(self) -> int | None:
        """Reads to the end: the close code."""
        while True:
            told = await self.ws.receive(timeout=PATIENCE)
            if told.type is WSMsgType.TEXT:
                self.heard.append(orjson.loads(told.data))
            else:
                return self.ws.close_code

    def lose(self) -> None:
        """The connection is gone, without a word."""
        connection = self.ws._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()


@asynccontextmanager
async def talking(
    gate: Address,
    *,
    headers: dict[str, str] | None = None,
    protocols: Iterable[str] = (),
    path: str = "/ws",
    greeted: bool = True,
) -> AsyncIterator[Talk]:
    """A conversation that has been greeted."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(gate.url + path, headers=headers, protocols=protocols, max_msg_size=0) as ws,
    ):
        talk = Talk(ws)
        if greeted:
            assert (await talk.next())["event"] == "connected"
        yield talk


class Raw:
    """One connection on a bare socket. It reads nothing that nobody asked for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.seq = 0
        self.session = ""
        self.ahead = b""
        """What came with the answer to the handshake."""

    @staticmethod
    @asynccontextmanager
    async def connected(gate: Address, *, buffer: int | None = None, head: str = "") -> AsyncIterator[Raw]:
        """Shakes hands, and reads no more; `buffer` is how many bytes the system takes in for it."""
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            raw = Raw(sock)
            port = int(gate.url.rpartition(":")[2])
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            await raw.write(
                f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{head}\r\n".encode()
            )
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await asyncio.get_running_loop().sock_recv(sock, 1024)
            head, _, raw.ahead = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            yield raw

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, size: int) -> bytes:
        """So many bytes and no more. Raises EOFError at the end."""
        data, self.ahead = self.ahead[:size], self.ahead[size:]
        async with asyncio.timeout(PATIENCE):
            while len(data) < size:
                part = await asyncio.get_running_loop().sock_recv(self.sock, size - len(data))
                if not part:
                    raise EOFError
                data += part
        return data

    async def say(self, event: str, payload: object = None, ref: object = None) -> None:
        await self.write(masked(message(event, payload, ref).encode()))

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload)."""
        first, size = await self.read(2)
        if size >= 126:
            size = int.from_bytes(await self.read(2 if size == 126 else 8), "big")
        return first & 15, await self.read(size)

    async def next(self) -> Message:
        """The next message."""
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        told: Message = orjson.loads(payload)
        if told["event"] == "connected":
            self.session = told["payload"]["session_id"]
        self.seq = told["seq"]
        return told

    async def wait(self, event: str) -> Message:
        while (told := await self.next())["event"] != event:
            pass
        return told

    async def closed(self) -> int | None:
        """Reads to the close frame: its code. None where the connection ended without one."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == 8:
                    return int.from_bytes(payload[:2], "big")
        except (EOFError, ConnectionError):
            return None

    def cut(self) -> None:
        """Gone at once, with whatever was not read (RST)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def masked(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """A client's frame."""
    mask, size = os.urandom(4), len(payload)
    head = bytes([opcode | (128 if final else 0)])
    if size < 126:
        head += bytes([size | 128])
    elif size < 65536:
        head += bytes([126 | 128]) + size.to_bytes(2, "big")
    else:
        head += bytes([127 | 128]) + size.to_bytes(8, "big")
    key = mask * (size // 4 + 1)
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")).to_bytes(size, "big")


class Speaker:
    """A provider whose streams say what they are told, each known by the text of its question; `gone` holds those that
    the gateway ended.
    """

    def __init__(self) -> None:
        self._told: defaultdict[str, asyncio.Queue[bytes | None]] = defaultdict(asyncio.Queue)
        self.asked: list[str] = []
        self.gone: set[str] = set()

    async def script(self, seen: Seen, wire: Wire) -> None:
        text = seen.json["messages"][-1]["content"]
        self.asked.append(text)
        told = self._told[text]
        leaving = asyncio.ensure_future(wire.left(60))
        leaving.add_done_callback(lambda left: None if left.cancelled() else told.put_nowait(None))
        try:
            if not seen.json.get("stream"):
                if await told.get() is not None:
                    await wire.answer(ANSWER)
            else:
                await wire.begin_stream()
                await wire.chunk(ROLE)
                while (block := await told.get()) is not None:
                    await wire.chunk(block)
                    if block.endswith(DONE):
                        await wire.end_stream()
                        return
        finally:
            if leaving.done():
                self.gone.add(text)
                wire.close()
            leaving.cancel()
            await asyncio.wait((leaving,))

    def say(self, text: str, *words: str) -> None:
        """The stream that was asked `text` says these, each in a write of its own."""
        for word in words:
            self._told[text].put_nowait(chunk({"content": word}))

    def end(self, text: str) -> None:
        self._told[text].put_nowait(STOP + USAGE + DONE)


class Flood:
    """A provider that says `total` bytes of text as fast as they are taken, in numbered blocks of `block` bytes. `sent`
    counts what it could get rid of, `ends` the streams that are over.
    """

    def __init__(self, total: int, block: int = 32_000) -> None:
        self.texts = [f"{number:07d}" + "x" * (block - 7) for number in range(total // block)]
        self.blocks = [chunk({"content": text}) for text in self.texts]
        self.go = asyncio.Event()
        """Cleared, it says nothing yet."""
        self.go.set()
        self.sent = 0
        self.ends = 0

    @property
    def text(self) -> str:
        return "".join(self.texts)

    async def script(self, seen: Seen, wire: Wire) -> None:
        try:
            await wire.begin_stream()
            await wire.chunk(ROLE)
            await self.go.wait()
            for block in self.blocks:
                await wire.chunk(block)
                self.sent += len(block)
            await wire.chunk(STOP + USAGE + DONE)
            await wire.end_stream()
        finally:
            self.ends += 1
