"""An answer: a head that is known, and a body that is either whole or pulled in blocks.

Rule: whoever holds a reply closes it, exactly once; closing gives the provider's connection back and ends the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runestone.core.summary import Summary

Headers = list[tuple[str, str]]


class Blocks(Protocol):
    """A stream's events, pulled. A block is whole events in the client's dialect, as one read of the provider
    brought them.
    """

    @property
    def first_token(self) -> float | None:
        """When the first block with content came (perf_counter), None before."""

    async def next(self) -> bytes:
        """The next block; b"" when the stream has ended as its dialect says. Raises ProviderError if not so."""

    def close(self) -> None:
        """Gives the connection back, or ends it when the stream has not ended. Idempotent."""


Closing = Callable[["Reply", BaseException | None], None]


class Reply:
    """What the stages hand back. `body` is the whole answer, or None when `blocks` is there."""

    __slots__ = ("_closing", "blocks", "body", "headers", "status", "summary")

    def __init__(
        self,
        status: int,
        headers: Headers,
        summary: Summary,
        *,
        body: bytes | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.summary = summary
        self.body = body
        self.blocks = blocks
        self._closing: list[Closing] = []

    def when_closed(self, callback: Closing) -> None:
        """`callback(reply, error)` runs at the close; `error` is why the client did not get all of it, or None."""
        self._closing.append(callback)

    def close(self, error: BaseException | None = None) -> None:
        """Ends the reply. Safe to call again; only the first call counts."""
        try:
            if self.blocks is not None:
                self.blocks.close()
        finally:
            callbacks, self._closing = self._closing, []
            for callback in callbacks:
                callback(self, error)
