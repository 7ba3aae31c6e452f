"""The client that comes with Runestone. It needs aiohttp and orjson, and nothing of the gateway.

    async with Client("http://127.0.0.1:4003", key="...") as client:
        answer = await client.chat(model="fast", messages=[...])
        async for text in client.stream(model="fast", messages=[...]): ...
        async with client.session() as session:
            stream = await session.stream(model="fast", messages=[...])
            async for text in stream: ...

    client.py     what is asked over HTTP; owns everything below
    resumable.py  a stream over HTTP that survives its connection; events.py reads it
    session.py    many streams, answers and rooms over one WebSocket; conversation.py what was asked and what came
    stream.py     one of its streams: what waits to be read, and asks the gateway to pause
    room.py       the streams that anybody begins in a room
    link.py       what keeps a session connected: numbers, resuming, waits (retry.py)
    outgoing.py   what is to be sent, until it is known to have arrived; incoming.py what came
    dial.py       the one place that opens connections
    chunk.py      a piece of an answer; errors.py what can go wrong; options.py how patient, how much

Rule: what is asked is answered once, fails with an error of errors.py, or runs into its deadline. docs/client.md shows
how it is used, docs/websocket.md what goes over the wire.
"""

from runestone.client.chunk import Chunk
from runestone.client.client import Client
from runestone.client.errors import (
    ClientError,
    ConnectionLost,
    Overrun,
    QueueFull,
    Refused,
    SessionLost,
    StreamFailed,
    TimedOut,
    TooLarge,
)
from runestone.client.link import State
from runestone.client.options import Limits, Reconnect
from runestone.client.resumable import ResumableStream
from runestone.client.room import Room
from runestone.client.session import Session
from runestone.client.stream import Stream

__all__ = (
    "Chunk",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Limits",
    "Overrun",
    "QueueFull",
    "Reconnect",
    "Refused",
    "ResumableStream",
    "Room",
    "Session",
    "SessionLost",
    "State",
    "Stream",
    "StreamFailed",
    "TimedOut",
    "TooLarge",
)
