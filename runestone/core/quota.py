"""All limits of one key together: requests by minute and hour, tokens by minute, calls at the same time.

Rule: a call is counted once, in all limits or in none: a refusal takes nothing. Tokens are estimated on the way in and
corrected on the way out. Of several refusals the one with the longest wait is told, so the wait is real.
Source: the headers are OpenAI's (https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers), whose
times are Go's (https://pkg.go.dev/time#Duration.String).
Deliberately absent: queues (the caller may wait and ask again), and a record of who holds a key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runestone.core.bucket import Bucket
from runestone.errors import InternalError

MINUTE, HOUR = 60.0, 3600.0
NEVER = 86_400.0
"""Seconds: the wait of a call that will never pass. Finite, because it may be written into a header."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may do; None is unlimited."""

    requests_per_minute: int | None = None
    requests_per_hour: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not pass, for the client to read."""

    limit: str
    """requests, requests-hour, tokens or concurrent."""
    wait: float
    """Seconds until it may pass: real, but for concurrent a guess; NEVER when the call is above the whole limit."""
    message: str


class Quota:
    """The limits of one key, O(1) per call.

    Every call that `admit` lets pass is followed by exactly one `settle`. Raises ValueError for a limit below 1.
    """

    __slots__ = ("_buckets", "_concurrent", "_tokens", "in_flight")

    def __init__(self, limits: Limits) -> None:
        if limits.concurrent_requests is not None and limits.concurrent_requests < 1:
            raise ValueError(f"concurrent_requests is at least 1, not {limits.concurrent_requests}")
        windows = (
            ("requests", limits.requests_per_minute, MINUTE, "requests per minute"),
            ("requests-hour", limits.requests_per_hour, HOUR, "requests per hour"),
            ("tokens", limits.tokens_per_minute, MINUTE, "tokens per minute"),
        )
        self._buckets = [
            (name, Bucket(limit, period), f"{limit} {unit}")
            for name, limit, period, unit in windows
            if limit is not None
        ]
        self._tokens = next((bucket for name, bucket, _ in self._buckets if name == "tokens"), None)
        self._concurrent = limits.concurrent_requests
        self.in_flight = 0

    def admit(self, now: float, tokens: int, *, slot_wait: float = 1.0) -> Refusal | None:
        """None: the call may pass, and a request, a slot and `tokens` (an estimate) are taken.

        Else why not, and nothing is taken. `slot_wait` is the caller's guess, in seconds, of when a slot becomes free.
        Raises ValueError for negative tokens.
        """
        refusal = None
        if self._concurrent is not None and self.in_flight >= self._concurrent:
            refusal = Refusal(
                "concurrent", slot_wait, f"rate limit reached: {self._concurrent} requests at the same time"
            )
        for name, bucket, text in self._buckets:
            wait = bucket.wait(now, tokens if bucket is self._tokens else 1)
            if wait > 0 and (refusal is None or wait > refusal.wait):
                refusal = _refusal(name, text, wait, tokens)
        if refusal is not None:
            return refusal
        for _, bucket, _ in self._buckets:
            bucket.take(now, tokens if bucket is self._tokens else 1)
        self.in_flight += 1
        return None

    def settle(self, now: float, estimated: int, actual: int | None) -> None:
        """An admitted call is over: its slot is free, its `estimated` tokens become the `actual` (None: they stay).

        What was used above the estimate is taken even if that is a debt. Raises InternalError when no call is under
        way.
        """
        if not self.in_flight:
            raise InternalError("a quota was told the end of a call it has not admitted, or was told twice")
        self.in_flight -= 1
        if actual is not None and self._tokens is not None:
            self._tokens.give(now, estimated - max(0, actual))

    def headers(self, now: float) -> list[tuple[str, str]]:
        """limit, remaining and reset of every limit that is set, but for the slots: they have no time to reset in."""
        shown = []
        for name, bucket, _ in self._buckets:
            shown += [
                (f"x-ratelimit-limit-{name}", str(bucket.limit)),
                (f"x-ratelimit-remaining-{name}", str(bucket.remaining(now))),
                (f"x-ratelimit-reset-{name}", duration(bucket.reset(now))),
            ]
        return shown


def _refusal(name: str, text: str, wait: float, tokens: int) -> Refusal:
    if math.isinf(wait):
        message = f"the request is too large: about {tokens} tokens, and the limit is {text}"
        return Refusal(name, NEVER, message)
    return Refusal(name, wait, f"rate limit reached: {text}; try again in {duration(wait)}")


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: 20ms, 1s, 8.64s, 6m0s, 1h0m0s; 0s for none. Rounded up to a millisecond."""
    thousandths = math.ceil(max(0.0, seconds) * 1000 - 0.001)
    if 0 < thousandths < 1000:
        return f"{thousandths}ms"
    whole, rest = divmod(thousandths, 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{second}.{rest:03}".rstrip("0").rstrip(".") + "s" if rest else f"{second}s"
    if hours:
        return f"{hours}h{minute}m{text}"
    return f"{minute}m{text}" if minute else text
