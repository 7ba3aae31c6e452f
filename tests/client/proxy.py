"""A TCP proxy that loses connections when it is told to: at once, after so many bytes, silently, or from the start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class Proxy:
    """Between clients and the server on `port`, which may be changed for the connections to come."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.opened = 0
        """Connections there have been."""
        self.refusing = False
        """Accepts and ends at once."""
        self.allow: Callable[[], int | None] = lambda: None
        """How many bytes a new connection brings down before it is lost; None is all of them."""
        self.flowing = asyncio.Event()
        """Cleared: takes everything and passes nothing on, without closing."""
        self.flowing.set()
        self.sunk = False
        """What clients send is taken and thrown away."""
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open(self) -> int:
        """Connections there are."""
        return len(self._pairs)

    def cut(self, *, gently: bool = False) -> None:
        """Ends every connection: reset, or closed as after a last word."""
        for pair in tuple(self._pairs):
            for writer in pair:
                if gently:
                    writer.close()
                else:
                    writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        try:
            if not self.refusing:
                await self._connect(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
        pair = (writer, up_writer)
        self._pairs.add(pair)
        pumps = [
            asyncio.ensure_future(self._pump(reader, up_writer, None, up=True)),
            asyncio.ensure_future(self._pump(up_reader, writer, self.allow(), up=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pairs.discard(pair)
            up_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None, *, up: bool
    ) -> None:
        while data := await reader.read(65536):
            await self.flowing.wait()
            if up and self.sunk:
                continue
            if left is not None:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()
            if left == 0:
                return
