"""What the gateway needs of a provider: take bytes, give an answer's head, then its bytes.

Rule: an upstream knows connections and credentials, not dialects; everything it raises is a ProviderError or
Unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from runestone.core.call import UNWATCHED, Progress
from runestone.core.reply import Headers
from runestone.core.trace import Context


class Prefill(StrEnum):
    """How a provider is asked to go on with an assistant's message instead of beginning another."""

    MESSAGE = "message"  # the message stands last
    PREFIX = "prefix"  # and has `prefix: true`
    FINAL_MESSAGE = "continue_final_message"  # and the request says so


@dataclass(slots=True, eq=False)
class UpstreamRequest:
    """`path` goes behind the provider's base URL; `deadline` (perf_counter) bounds the whole answer."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    credential: str | None
    stream: bool
    deadline: float
    context: Context | None = None
    """The trace it is a part of, for a provider that follows it too."""
    progress: Progress = UNWATCHED


class UpstreamReply(Protocol):
    """An answer whose head has come. Whoever holds it closes it."""

    status: int
    headers: Headers
    """What a client may see of the provider's head, already under the names it will see."""
    content_type: str
    """In lower case, without parameters; "" when there is none."""
    retry_after: float | None

    async def read(self) -> bytes:
        """The whole body. Raises ProviderError."""

    def redact(self, text: str) -> str:
        """`text` without our credentials, whole or starred out in the middle."""

    async def read_some(self) -> bytes:
        """What the next read brings, b"" at a clean end. Raises ProviderError."""

    def close(self) -> None:
        """Gives the connection back if the answer was read to its end, else ends it. Idempotent."""


class Upstream(Protocol):
    """A provider."""

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """The head of the answer. Raises ProviderError or Unavailable; cancelling it gives the connection back."""

    async def start(self) -> None:
        """Opens what needs a running loop."""

    async def close(self) -> None:
        """Ends every connection."""
