"""An answer that comes over HTTP: its head as clients may see it, its body as it is read.

Rule: the slot of the pool is given back once, at the close; the connection itself is kept only if the answer was
read to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import aiohttp

from runestone.core.reply import Headers
from runestone.errors import ProviderFailed, StreamBroken
from runestone.providers.credentials import redact
from runestone.providers.watch import Watch

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of a whole answer; images and embeddings of large batches are the largest seen."""
MAX_ERROR = 1024 * 1024
"""Bytes of an error answer."""


class HttpReply:
    """An UpstreamReply."""

    __slots__ = (
        *("_between", "_check_in", "_response", "_secrets", "_watch"),
        *("content_type", "headers", "retry_after", "status"),
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        watch: Watch,
        between_bytes: float,
        secrets: tuple[bytes, ...],
        check_in: Callable[[], None],
    ) -> None:
        self._response = response
        self._secrets = secrets
        self._check_in: Callable[[], None] | None = check_in
        self._watch = watch
        self._between = between_bytes
        self.status = response.status
        self.headers = visible_headers(response.raw_headers, secrets)
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.retry_after = parse_retry_after(response.headers.get("Retry-After"))

    async def read(self) -> bytes:
        if self.status < 400:
            return await self._read_whole(MAX_ANSWER)
        body = await self._read_whole(MAX_ERROR)
        return redact(body, self._secrets) if self._secrets else body

    def redact(self, text: str) -> str:
        """See UpstreamReply."""
        return redact(text.encode("utf-8", "surrogatepass"), self._secrets).decode("utf-8", "replace")

    async def _read_whole(self, most: int) -> bytes:
        if (self._response.content_length or 0) > most:
            raise ProviderFailed(f"the provider's answer is larger than {most} bytes")
        data = await self.read_some()
        if self._response.content.at_eof():  # the usual case: one read brought it all
            return data
        parts, size = [data], len(data)
        while part := await self.read_some():
            size += len(part)
            if size > most:
                raise ProviderFailed(f"the provider's answer is larger than {most} bytes")
            parts.append(part)
        return b"".join(parts)

    async def read_some(self) -> bytes:
        content = self._response.content
        try:
            data = content.read_nowait(-1)
            if data or content.at_eof():
                return data
            self._watch.begin("between_bytes", self._between)
            try:
                return await content.readany()
            except asyncio.CancelledError:
                raise self._watch.verdict() from None
            finally:
                self._watch.end()
        except (aiohttp.ClientError, OSError) as error:
            error.__traceback__ = None  # `content` keeps the error, which would keep this frame, which has `content`
            # What had come before the cut still counts: aiohttp keeps it, but only its inner reader gives it out.
            rest = content._read_nowait(-1)
            if rest:
                return rest
            raise StreamBroken("the provider's connection was lost before the answer was complete") from None

    def close(self) -> None:
        if self._check_in is None:
            return
        check_in, self._check_in = self._check_in, None
        check_in()
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


def visible_headers(raw: Iterable[tuple[bytes, bytes]], secrets: Sequence[bytes] = ()) -> Headers:
    """The provider's headers that clients use, under names that cannot be taken for ours.

    A value that is more than printable ASCII, or repeats one of our `secrets`, is left out.
    """
    seen: Headers = []
    for key, value in raw:
        name = _visible_name(key)
        if name is None or (name == "x-provider-request-id" and any(known == name for known, _ in seen)):
            continue
        text = value.decode("latin-1")
        if text.isascii() and text.isprintable() and not any(secret in value for secret in secrets):
            seen.append((name, text))
    return seen


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 10.2.3); dates and nonsense count as "not said"."""
    try:
        seconds = float(value) if value else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 86400 * 365 else None
