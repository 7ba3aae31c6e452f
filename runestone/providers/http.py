"""A provider reached over HTTP: one shared aiohttp ClientSession, tuned for long streams, and nothing that knows a
dialect.

Rules:
- every aiohttp exception ends here and becomes one of errors.py; none of their texts is passed on, they hold addresses;
- a connection goes back to the pool only when its answer was read to the end; everything else closes it;
- redirects are not followed: they would carry a credential to somebody else.
Deliberately absent: retries of calls (gateway/fallback.py decides those), cookies, proxies from the environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import cast

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from runestone import __version__
from runestone.core.upstream import UpstreamRequest
from runestone.errors import (
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnreachable,
    Unavailable,
)
from runestone.providers.catalog import Auth
from runestone.providers.connection import ClientProtocol
from runestone.providers.credentials import Credential, Credentials
from runestone.providers.exchange import BytesRequest, exchange, is_spoiled, replace
from runestone.providers.pool import DEFAULT_LIMITS, Pool, PoolLimits, Tally
from runestone.providers.reply import HttpReply
from runestone.providers.watch import Watch

MAX_LIST = 4 * 1024 * 1024
MAX_LISTED = 2000
"""Bytes, and names, that are read of a provider's list of models."""

SECRET_LENGTH = 16
"""Characters from which a configured header's value is taken for a secret that must not come back in an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds: to a connection, to the first byte of the answer, between two reads."""

    connect: float = 5.0
    first_byte: float = 300.0
    between_bytes: float = 120.0


class HttpProvider:
    """An Upstream. `credentials` take turns; `headers` go with every call; `health_path` is a cheap GET, or ""."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        auth: Auth,
        credentials: Iterable[str] = (),
        passthrough: bool = False,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),
        limits: PoolLimits = DEFAULT_LIMITS,
        health_path: str = "",
        tally: Tally | None = None,
    ) -> None:
        self.name = name
        self.pool = Pool(name, base_url, limits, tally)
        self.credentials = Credentials(credentials)
        self.health_path = health_path
        self.draining = False
        self._base_url = base_url
        self._auth = auth
        self.passthrough = passthrough
        self._timeouts = timeouts
        self._connecting = aiohttp.ClientTimeout(connect=timeouts.connect, sock_connect=timeouts.connect)
        self._urls: dict[str, URL] = {}
        fixed = {
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": f"runestone/{__version__}",
        }
        self._fixed = CIMultiDict({**fixed, **(headers or {})})
        own = {value.encode() for value in (headers or {}).values() if len(value) >= SECRET_LENGTH}
        self._secrets = (*self.credentials.secrets, *own)
        self._heads = [self._with_credential(credential.value) for credential in self.credentials.all]
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """See Upstream."""
        await self.pool.open()
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """See Upstream."""
        if self._loop is not None:
            await self.pool.close()

    async def send(self, request: UpstreamRequest) -> HttpReply:
        """See Upstream. A credential that is refused or throttled is replaced by the next one, unseen by the caller."""
        if self._loop is None or self.draining:
            raise Unavailable(f"the provider {self.name!r} takes no calls now", retry_after=5.0)
        while True:
            own = self.passthrough and request.credential is not None
            credential = None if own else self.credentials.choose(perf_counter())
            reply = await self._attempt(self._loop, request, credential)
            if credential is None or reply.status < 400:
                return reply
            if not self.credentials.judge(credential, reply.status, reply.retry_after, perf_counter()):
                return reply
            if not self.credentials.has_other(perf_counter()):
                return reply
            reply.close()

    async def warm(self, connections: int) -> None:
        """Opens connections ahead of the first calls, as far as the provider lets us; nothing is sent over them."""
        opened = []
        try:
            for _ in range(connections):
                request = self._request("", CIMultiDict(self._fixed), b"")
                opened.append(await self.pool.connector.connect(request, traces=[], timeout=self._connecting))
        except (aiohttp.ClientError, OSError):
            self.pool.tally.errors += 1
        finally:
            for connection in opened:
                connection.release()

    async def tend(self, warmup: int, interval: float, checked: Callable[[bool], None]) -> None:
        """Looks after the provider until cancelled: connections ahead, closing spare ones, a check every `interval`
        s.
        """
        await self.warm(warmup)
        while True:
            await asyncio.sleep(interval)
            self.pool.trim()
            if self.health_path and not self.draining:
                checked(await self.is_well())

    async def is_well(self) -> bool:
        """Whether a cheap GET is answered, and not by a 5xx."""
        status, _ = await self._get(self.health_path)
        return 0 < status < 500

    async def list_models(self) -> list[str]:
        """The names of the provider's own list; empty when it has none, or does not answer in time."""
        if not self.health_path.endswith("/models"):
            return []
        status, body = await self._get(self.health_path)
        try:
            listed = orjson.loads(body) if status == 200 else None
        except orjson.JSONDecodeError:
            listed = None
        data = listed.get("data") if isinstance(listed, dict) else listed
        entries = data[:MAX_LISTED] if isinstance(data, list) else []
        return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    async def _get(self, path: str) -> tuple[int, bytes]:
        """(status, body) of a GET that is no call; (0, b"") when there is none in time."""
        head = self._heads[0] if self._heads else self._fixed
        timeout = aiohttp.ClientTimeout(total=self._timeouts.connect)
        try:
            async with self.pool.session.get(
                self._url(path), headers=head, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status, await response.content.read(MAX_LIST)
        except (aiohttp.ClientError, OSError):
            return 0, b""

    async def _attempt(
        self, loop: asyncio.AbstractEventLoop, request: UpstreamRequest, credential: Credential | None
    ) -> HttpReply:
        head = self._head(request, credential)
        request.progress.stage = "pool"
        await self.pool.check_out()
        request.progress.stage = "provider"
        watch = Watch(loop, request.deadline)
        try:
            response = await watch.wait(self._post(request, head), "first_byte", self._timeouts.first_byte)
        except BaseException as error:
            watch.stop()
            self.pool.check_in()
            if isinstance(error, (aiohttp.ClientError, OSError)):
                self.pool.tally.errors += 1
                raise self._translate(error) from None
            raise
        return HttpReply(response, watch, self._timeouts.between_bytes, self._secrets, self.pool.check_in)

    async def _post(self, request: UpstreamRequest, head: CIMultiDict[str]) -> aiohttp.ClientResponse:
        connector = self.pool.connector
        opened = connector.opened
        message = self._request(request.path, head, request.body)
        connection = await connector.connect(message, traces=[], timeout=self._connecting)
        if is_spoiled(connection):
            connection = await replace(connection, connector, message, self._connecting)
        if connector.opened != opened:  # a kept connection is handed out without a pause
            self.pool.tally.fresh += 1
            return await exchange(message, connection)
        protocol = cast("ClientProtocol", connection.protocol)
        try:
            response = await exchange(message, connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if protocol.answered:
                self.pool.tally.reused += 1
                raise
        else:
            self.pool.tally.reused += 1
            return response
        # The provider had closed the connection while it was idle, so no byte of an answer came and it took no call
        # (RFC 9110 9.2.2 and 9112 9.3.1 leave that to the client). The others may be as dead: once more, on a fresh
        # one.
        self.pool.drop_idle()
        message = self._request(request.path, head, request.body)
        self.pool.tally.fresh += 1
        return await exchange(message, await connector.connect(message, traces=[], timeout=self._connecting))

    def _request(self, path: str, head: CIMultiDict[str], body: bytes) -> BytesRequest:
        return BytesRequest(
            "POST", self._url(path), headers=head, data=body, loop=self._loop, session=self.pool.session
        )

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:  # one per operation
            url = self._urls[path] = URL(self._base_url + path)
        return url

    def _head(self, request: UpstreamRequest, credential: Credential | None) -> CIMultiDict[str]:
        if credential is not None:
            head = self._heads[credential.index].copy()
        elif request.credential is not None and self.passthrough:
            head = self._with_credential(request.credential)
        else:
            head = self._fixed.copy()
        if request.headers:
            head.update(request.headers)
        if request.context is not None:
            head["traceparent"] = request.context.header()
            if request.context.state:
                head["tracestate"] = request.context.state
        return head

    def _with_credential(self, credential: str) -> CIMultiDict[str]:
        head = self._fixed.copy()
        if self._auth is Auth.X_API_KEY:
            head["x-api-key"] = credential
        elif self._auth is Auth.API_KEY:
            head["api-key"] = credential
        else:  # a server that needs no key may still be given one
            head["Authorization"] = f"Bearer {credential}"
        return head

    def _translate(self, error: aiohttp.ClientError | OSError) -> ProviderError:
        if isinstance(error, TimeoutError):
            return ProviderTimeout(
                f"timeout (connect): no connection to {self.name!r} within {self._timeouts.connect:g} s"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return ProviderUnreachable(f"the provider {self.name!r} cannot be reached")
        if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
            return ProviderUnreachable(f"the provider {self.name!r} closed the connection before it answered")
        return ProviderFailed(f"the provider {self.name!r} sent something that is not an HTTP answer")
