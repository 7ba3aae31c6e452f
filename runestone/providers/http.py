"""A provider reached over HTTP: one shared aiohttp ClientSession, tuned for long streams, and nothing that knows a
dialect.

Rules:
- every aiohttp exception ends here and becomes one of errors.py; none of their texts is passed on, they hold addresses;
- a connection goes back to the pool only when its answer was read to the end; everything else closes it;
- redirects are not followed: they would carry a credential to somebody else.
Deliberately absent: retries (gateway/fallback.py decides those), cookies, proxies from the environment.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from runestone import __version__
from runestone.core.reply import Headers
from runestone.core.upstream import UpstreamRequest
from runestone.errors import (
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnreachable,
    StreamBroken,
    Unavailable,
)
from runestone.providers.catalog import Auth
from runestone.providers.credentials import redact
from runestone.providers.exchange import post
from runestone.providers.watch import Watch

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of a whole answer; images and embeddings of large batches are the largest seen."""
MAX_CONNECTIONS = 4050
"""Connections to one provider at a time; a stream holds its own for its whole life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds: to a connection, to the first byte of the answer, between two reads."""

    connect: float = 5.0
    first_byte: float = 300.0
    between_bytes: float = 120.0


class HttpProvider:
    """An Upstream. `credentials` take turns; `headers` go with every call."""

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
    ) -> None:
        self._name = name
        self._base_url = base_url
        self._auth = auth
        self._passthrough = passthrough
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
        held = tuple(credentials)
        self._secrets = tuple(secret.encode() for secret in held)
        heads = [self._with_credential(credential) for credential in held] or [self._fixed]
        self._heads = itertools.cycle(heads)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS,
            keepalive_timeout=60.0,
            ttl_dns_cache=60,
            ssl=ssl.create_default_context() if self._base_url.startswith("https:") else True,
            resolver=aiohttp.AsyncResolver() if _needs_dns(self._base_url) else aiohttp.ThreadedResolver(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, request: UpstreamRequest) -> HttpReply:
        """See Upstream."""
        if self._session is None:
            raise Unavailable(f"the provider {self._name!r} is not open")
        watch = Watch(self._loop, request.deadline)
        try:
            response = await watch.wait(
                post(self._session, self._url(request.path), self._head(request), request.body, self._connecting),
                "first_byte",
                self._timeouts.first_byte,
            )
        except (aiohttp.ClientError, OSError) as error:
            watch.stop()
            raise self._translate(error) from None
        except BaseException:
            watch.stop()
            raise
        return HttpReply(response, watch, self._timeouts.between_bytes, self._secrets)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:  # one per operation
            url = self._urls[path] = URL(self._base_url + path)
        return url

    def _head(self, request: UpstreamRequest) -> CIMultiDict[str]:
        if self._passthrough and request.credential:
            head = self._with_credential(request.credential)
        else:
            head = next(self._heads)
        head = head.copy()
        if request.headers:
            head.update(request.headers)
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
                f"timeout (connect): no connection to {self._name!r} within {self._timeouts.connect:g} s"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return ProviderUnreachable(f"the provider {self._name!r} cannot be reached")
        if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
            return ProviderUnreachable(f"the provider {self._name!r} closed the connection before it answered")
        return ProviderFailed(f"the provider {self._name!r} sent something that is not an HTTP answer")


class HttpReply:
    """An UpstreamReply."""

    __slots__ = ("_between", "_response", "_secrets", "_watch", "content_type", "headers", "retry_after", "status")

    def __init__(
        self, response: aiohttp.ClientResponse, watch: Watch, between_bytes: float, secrets: tuple[bytes, ...]
    ) -> None:
        self._response = response
        self._secrets = secrets
        self._watch = watch
        self._between = between_bytes
        self.status = response.status
        self.headers = visible_headers(response.raw_headers)
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.retry_after = parse_retry_after(response.headers.get("Retry-After"))

    async def read(self) -> bytes:
        body = await self._read_whole()
        return redact(body, self._secrets) if self._secrets and self.status >= 400 else body

    async def _read_whole(self) -> bytes:
        if (self._response.content_length or 0) > MAX_ANSWER:
            raise ProviderFailed(f"the provider's answer is larger than {MAX_ANSWER} bytes")
        data = await self.read_some()
        if self._response.content.at_eof():  # the usual case: one read brought it all
            return data
        parts, size = [data], len(data)
        while part := await self.read_some():
            size += len(part)
            if size > MAX_ANSWER:
                raise ProviderFailed(f"the provider's answer is larger than {MAX_ANSWER} bytes")
            parts.append(part)
        return b"".join(parts)

    async def read_some(self) -> bytes:
        content = self._response.content
        try:
            data = content.read_nowait(-1)
            if data or content.at_eof():
                return data
            return await self._watch.wait(content.readany(), "between_bytes", self._between)
        except (aiohttp.ClientError, OSError):
            # What had come before the cut still counts: aiohttp keeps it, but only its inner reader gives it out.
            rest = content._read_nowait(-1)
            if rest:
                return rest
            raise StreamBroken("the provider's connection was lost before the answer was complete") from None

    def close(self) -> None:
        self._watch.stop()
        self._response.close()  # gives the connection back when the answer was read to its end, else ends it


_KEPT = frozenset(
    {"retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "openai-version", "openai-model"}
)
_RENAMED = {"x-request-id": "x-provider-request-id", "request-id": "x-provider-request-id"}


@lru_cache(maxsize=1024)
def _visible_name(raw: bytes) -> str | None:
    """What a client sees a provider's header as; None hides it. Bounded: names come from providers, and they repeat."""
    name = raw.decode("latin-1").lower()
    if name in _KEPT:
        return name
    if name.startswith("x-ratelimit"):
        return "x-provider-" + name[2:]
    if "ratelimit" in name:
        return "x-provider-" + name
    return _RENAMED.get(name)


def visible_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The provider's headers that clients use, under names that cannot be taken for ours."""
    seen = []
    for key, value in raw:
        name = _visible_name(key)
        if name is not None:
            seen.append((name, value.decode("utf-8", "surrogateescape")))
    return seen


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 10.2.3); dates and nonsense count as "not said"."""
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 86400 * 365 else None


def _needs_dns(base_url: str) -> bool:
    host = URL(base_url).host or ""
    return host != "localhost" and not host.replace(".", "").isdigit() and ":" not in host
