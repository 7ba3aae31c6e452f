"""A kept stream as blocks: at once, or at the pace at which it came.

Rule: paced or not, the bytes are the same; a client that reads slowly slows only itself.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from runestone.core.answer import Answer

IN_TIME = 0.9
"""Of the time a call has left, the share a paced stream may take."""


class Playback:
    """See Blocks. `speed`: times the recorded pace, or more if it has to be over `within` seconds; 0 is at once."""

    __slots__ = ("_at", "_began", "_next", "_pace", "_sent", "_speed", "first_token")

    def __init__(self, answer: Answer, sent: bytes, speed: float, within: float) -> None:
        # The pace is that of the stream as it came; a form that was made of another one has none.
        is_recorded = bool(answer.pace) and answer.pace[-1][1] == len(sent)
        self._pace = answer.pace if speed and is_recorded else ((0.0, len(sent)),)
        self._sent = sent
        self._speed = max(speed or 1.0, self._pace[-1][0] / max(within * IN_TIME, 1e-3))
        self._next = 0
        self._at = 0
        self._began: float | None = None
        self.first_token: float | None = None

    async def next(self) -> bytes:
        """The next block, when its time has come; what is due together comes together."""
        if self._next >= len(self._pace):
            return b""
        now = perf_counter()
        if self._began is None:
            self._began = self.first_token = now
        due = self._began + self._pace[self._next][0] / self._speed
        if due > now:
            await asyncio.sleep(due - now)
            now = perf_counter()
        end = self._at
        while self._next < len(self._pace) and self._began + self._pace[self._next][0] / self._speed <= now:
            end = self._pace[self._next][1]
            self._next += 1
        if end == self._at:  # a timer may ring a little early
            end = self._pace[self._next][1]
            self._next += 1
        block = self._sent[self._at : end]
        self._at = end
        return block

    def close(self) -> None:
        self._next = len(self._pace)
