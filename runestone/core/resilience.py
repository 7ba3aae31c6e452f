"""What is done for the calls of one model when its targets do badly.

Rule: values only, made once from the configuration; route.py puts them on a call, the stages obey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

P95: Final = "p95"
"""The time that 19 of 20 answers of the target stay under."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A stream that has not brought `tokens_per_second` in its first `window` seconds is too slow."""

    tokens_per_second: float
    window: float

    @property
    def tokens(self) -> float:
        """What the window must bring at least."""
        return self.tokens_per_second * self.window


@dataclass(frozen=True, slots=True, kw_only=True)
class Resilience:
    """Everything here is off unless asked for.

    `fallback_on`: refusals after which the next target is asked too ("context_window", "content_policy").
    `hedge`: seconds after which a second target is asked beside the first, or P95.
    `ttft_timeout`: seconds a stream may take to its first event.
    `pace`: what a stream must bring while nothing of it has gone to the client.
    `continues`: a stream that breaks off is continued by another target.
    """

    fallback_on: frozenset[str] = frozenset()
    hedge: float | Literal["p95"] | None = None
    ttft_timeout: float | None = None
    pace: Pace | None = None
    continues: bool = False


PLAIN: Final = Resilience()
