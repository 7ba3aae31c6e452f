"""When to try again after a connection was lost, and when no more.

Rule: what ends the patience is time without progress, not a number of attempts: a connection that brings something, or
lasts, makes it whole again; one that is accepted and dropped over and over does not.
"""

from __future__ import annotations

import random
from time import monotonic

from runestone.client.options import Reconnect
from runestone.core.backoff import delay


class Retry:
    """The patience for one connection that is sought again and again."""

    def __init__(self, terms: Reconnect) -> None:
        self._terms = terms
        self._attempt = 0
        self._since: float | None = None
        self._connected: float | None = None

    def connected(self) -> None:
        """There is a connection; whether it is any good will be seen."""
        self._connected = monotonic()

    def progress(self) -> None:
        """It has brought something new."""
        self._attempt = 0
        self._since = None

    def wait(self) -> float | None:
        """It failed, or there was none: seconds to wait before the next attempt, None to give up."""
        now, terms = monotonic(), self._terms
        if self._connected is not None and now - self._connected > terms.longest_wait:
            self.progress()
        self._connected = None
        if self._since is None:
            self._since = now
        # How long to wait is no secret: the dice of `random` are good enough.
        seconds = delay(self._attempt, random.random(), base=terms.first_wait, most=terms.longest_wait)  # noqa: S311
        self._attempt += 1
        return None if now + seconds - self._since > terms.give_up_after or not terms.give_up_after else seconds
