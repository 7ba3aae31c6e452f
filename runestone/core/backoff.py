"""How long to wait before a retry: exponential backoff with full jitter.

    delay = chance * min(most, base * 2 ** attempt)

Rule: what the provider asked for (`retry-after`, RFC 9110 section 10.2.3) is the least, plus up to one `base`, so that
all who were told the same second do not come back in the same millisecond.
Source: "Exponential Backoff And Jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
Deliberately absent: how often to retry (core/budget.py) and until when (the call's deadline).
"""

from __future__ import annotations

from collections.abc import Callable

_DOUBLINGS = 60  # beyond any `most`; 2.0 ** 1024 would overflow


def delay(
    attempt: int, chance: float, *, base: float = 0.2, most: float = 5.0, retry_after: float | None = None
) -> float:
    """Seconds to wait before retry number `attempt` (0 is the first retry); `chance` is even in [0, 1).

    Without `retry_after` at most `most`; with it never less than it, however long that is: whether the call's deadline
    allows the wait is the caller's to see.
    """
    ceiling = min(most, base * 2.0 ** min(max(attempt, 0), _DOUBLINGS))
    waited = chance * ceiling
    if retry_after is None:
        return waited
    return max(waited, retry_after + chance * base)


class Pauses:
    """Before something that ended, and should not, is begun again: `first` seconds, and with jitter up to `most` more,
    the oftener it does. After it has run for `well` seconds that is forgotten. `chance` is even in [0, 1).
    """

    def __init__(self, *, first: float, most: float, well: float, chance: Callable[[], float]) -> None:
        self._first = first
        self._most = most
        self._well = well
        self._chance = chance
        self._ends = 0

    def next(self, ran: float) -> float:
        """Seconds to wait, after it has run for `ran`."""
        self._ends = self._ends + 1 if ran < self._well else 1
        return self._first + delay(self._ends, self._chance(), base=self._first, most=self._most)
