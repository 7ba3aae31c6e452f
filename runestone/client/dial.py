"""How a client reaches its gateway: the one place that speaks to aiohttp about connections, and words what failed.

Rule: what is raised here names the host and what went wrong, nothing of the request: aiohttp's own errors hold its
headers, the key among them, so they are described and let go of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import ClientError as HttpError
from aiohttp import (
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWSTimeout,
    DummyCookieJar,
    TCPConnector,
    WSServerHandshakeError,
)
from yarl import URL

from runestone.client.errors import ClientError, ConnectionLost, Refused, TimedOut, TooLarge
from runestone.client.incoming import Broken
from runestone.client.link import WebSocket
from runestone.client.options import Limits, Reconnect

CLOSING = 0.5
"""Seconds the gateway has to answer the end of a WebSocket."""
LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say nothing of the next attempt."""


class Dialler:
    """Opens connections to one gateway; `headers` go with every request. The sockets are its own until `close`."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], *, reconnect: Reconnect, limits: Limits, heartbeat: float
    ) -> None:
        url = URL(base_url.rstrip("/"))
        if url.scheme not in ("http", "https") or not url.host or url.user is not None or url.query_string:
            raise ValueError("the base URL is http:// or https://, a host and perhaps a port and a path, nothing else")
        self.url = url
        self._headers = dict(headers)
        self._reconnect = reconnect
        self._limits = limits
        self._heartbeat = heartbeat
        self._http: ClientSession | None = None
        self.is_closed = False

    async def close(self) -> None:
        """Ends all connections."""
        self.is_closed = True
        if self._http is not None:
            await self._http.close()

    async def websocket(self) -> WebSocket:
        """A connection to `/ws`. See Dial."""
        failure: Exception
        try:
            async with asyncio.timeout(self._reconnect.attempt):
                return await self._session().ws_connect(
                    self.url / "ws",
                    headers=self._headers,
                    heartbeat=self._heartbeat,
                    max_msg_size=self._limits.largest_read,
                    timeout=ClientWSTimeout(ws_close=CLOSING),
                    decode_text=False,
                )
        except TimeoutError:
            failure = Broken(f"{self._host} does not answer")
        except WSServerHandshakeError as error:
            what = f"{self._host} did not take the WebSocket: HTTP status {error.status}"
            is_final = 300 <= error.status < 500 and error.status not in LATER
            failure = Refused(what, status=error.status) if is_final else Broken(what)
        except (HttpError, OSError) as error:
            failure = Broken(self._described(error))
        raise failure

    async def request(
        self, method: str, path: str, *, within: float, body: object = None, headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """An answer whose head has come `within` so many seconds; no more may pass between two reads of it. The caller
        closes it. Raises TimedOut, ConnectionLost.
        """
        failure: ClientError
        more = {"content-type": "application/json"} if body is not None else {}
        try:
            async with asyncio.timeout(within):
                return await self._session().request(
                    method,
                    self.url.joinpath(*path.split("/")),
                    data=orjson.dumps(body) if body is not None else None,
                    headers={**self._headers, **more, **(headers or {})},
                    timeout=ClientTimeout(total=None, sock_connect=self._reconnect.attempt, sock_read=within),
                    allow_redirects=False,
                )
        except TimeoutError:
            failure = TimedOut(f"{self._host} did not answer within {within:g} seconds")
        except (HttpError, OSError) as error:
            failure = ConnectionLost(self._described(error))
        raise failure

    async def call(self, method: str, path: str, *, within: float, body: object = None) -> Any:
        """The answer, which is JSON. Raises Refused for an error, TimedOut, ConnectionLost, TooLarge."""
        try:
            async with asyncio.timeout(within):
                response = await self.request(method, path, within=within, body=body)
                said = await self.whole(response)
        except TimeoutError:
            raise TimedOut(f"{self._host} did not answer within {within:g} seconds") from None
        if response.status >= 300:
            raise refused(response, said)
        try:
            return orjson.loads(said)
        except orjson.JSONDecodeError:
            raise ConnectionLost(f"{self._host} did not answer with JSON") from None

    async def whole(self, response: ClientResponse) -> bytes:
        """The whole body, and closes the answer. Raises ConnectionLost, TooLarge, TimeoutError."""
        failure: ClientError
        parts: list[bytes] = []
        size = 0
        try:
            while part := await response.content.readany():
                size += len(part)
                if size > self._limits.largest_read:
                    raise TooLarge(f"an answer of more than {self._limits.largest_read} bytes")
                parts.append(part)
            response.release()
            return b"".join(parts)
        except (HttpError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            failure = ConnectionLost(self._described(error))
        finally:
            response.close()
        raise failure

    def _session(self) -> ClientSession:
        if self.is_closed:
            raise ConnectionLost("the client is closed")
        if self._http is None:
            self._http = ClientSession(connector=TCPConnector(limit=0), cookie_jar=DummyCookieJar())
        return self._http

    @property
    def _host(self) -> str:
        return str(self.url.origin())

    def _described(self, error: Exception) -> str:
        return f"the connection to {self._host} failed: {described(error)}"


def described(error: Exception) -> str:
    """What went wrong on the way, in the system's words where it has some."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def refused(response: ClientResponse, body: bytes) -> Refused:
    """What an answer with an error says."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    fields: dict[str, object] = error if isinstance(error, dict) else {}
    text = {name: value for name, value in fields.items() if isinstance(value, str)}
    try:
        retry_after = float(response.headers.get("retry-after", ""))
    except ValueError:
        retry_after = None
    return Refused(
        text.get("message") or f"HTTP status {response.status}",
        status=response.status,
        code=text.get("code"),
        type=text.get("type"),
        param=text.get("param"),
        retry_after=retry_after,
    )
