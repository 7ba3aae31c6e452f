"""A TCP proxy that loses connections where a test says, byte for byte."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Proxy:
    """In front of a port of this machine. `cuts` holds after how many bytes for the client everything is cut, again
    and again; `is_refusing` lets nobody in, `frozen` lets nothing through and says nothing.
    """

    def __init__(self, port: int) -> None:
        self.to = port
        self.cuts: deque[int] = deque()
        self.cut = 0
        """How often."""
        self.heard = bytearray()
        """All that clients said."""
        self.opened = 0
        """Connections that were let in."""
        self.is_refusing = False
        self.frozen: set[asyncio.StreamWriter] = set()
        self._ways: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}  # client to gateway
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.lose()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lose(self) -> None:
        """Every connection, now."""
        for client, gateway in tuple(self._ways.items()):
            client.transport.abort()
            gateway.transport.abort()

    def freeze(self) -> None:
        """The connections of now stay open, and nothing comes through them any more."""
        self.frozen.update(self._ways)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            if self.is_refusing:
                return
            self.opened += 1
            down, upstream = await asyncio.open_connection("127.0.0.1", self.to)
            self._ways[writer] = upstream
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(reader, writer, upstream))
                both.create_task(self._down(down, writer))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._ways.pop(writer, None)
            self._tasks.discard(task)
            writer.close()
            if upstream is not None:
                upstream.close()

    async def _up(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            self.heard += data
            if client not in self.frozen:
                upstream.write(data)
                await upstream.drain()
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if client in self.frozen:
                continue
            if self.cuts and len(data) >= self.cuts[0]:
                client.write(data[: self.cuts.popleft()])
                client.close()  # what was written still arrives
                await client.wait_closed()
                self.cut += 1
                self.lose()
                return
            if self.cuts:
                self.cuts[0] -= len(data)
            client.write(data)
            await client.drain()
        raise ConnectionResetError
