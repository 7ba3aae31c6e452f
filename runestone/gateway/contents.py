"""Notes answers in traces, where the operator asks for that (`telemetry.content`).

Rule: only in the chain of calls that are traced, and bounded; a stream is noted as the answer it adds up to.
"""

from __future__ import annotations

from runestone.core.call import Call, Operation
from runestone.core.reply import Blocks, Reply
from runestone.core.trace import Span
from runestone.dialects.replay.whole import as_answer
from runestone.gateway.pipeline import Next

MOST = 64 * 1024
"""Bytes of an answer in a span."""
ATTRIBUTE = "gen_ai.output.messages"


class Contents:
    """The stage."""

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        reply = await next(call)
        if call.trace is not None:
            if reply.blocks is not None:
                reply.blocks = _Noted(reply.blocks, call.operation, call.trace.root)
            elif reply.body is not None:
                _note(call.trace.root, reply.body)
        return reply


class _Noted:
    """The blocks of a stream, noted when it is closed (see Blocks)."""

    def __init__(self, blocks: Blocks, operation: Operation, span: Span) -> None:
        self._blocks = blocks
        self._operation = operation
        self._span = span
        self._kept: list[bytes] = []
        self._size = 0

    @property
    def first_token(self) -> float | None:
        """See Blocks."""
        return self._blocks.first_token

    async def next(self) -> bytes:
        """See Blocks."""
        block = await self._blocks.next()
        if self._size < MOST:
            self._kept.append(block)
            self._size += len(block)
        return block

    def close(self) -> None:
        self._blocks.close()
        said = b"".join(self._kept)
        self._kept = [said]
        _note(self._span, as_answer(self._operation, said) or said)


def _note(span: Span, said: bytes) -> None:
    span.attributes[ATTRIBUTE] = said[:MOST].decode("utf-8", "replace")
