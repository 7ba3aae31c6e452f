"""Our credentials for a provider: whose turn it is, which ones rest, and keeping them out of what the provider says.

Rules: a refused credential (401, 403) is put aside for a while, a throttled one (429) until its retry-after; the others
go on, so that one bad key never turns into errors for everyone. Vendors repeat a refused key in their errors, whole or
with its middle starred out; neither reaches a client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runestone.errors import Unavailable

REDACTED = b"[redacted]"
REFUSED_FOR = 60.0
"""Seconds a refused credential is put aside before it is tried again: vendors' mistakes end, ours are mended."""
THROTTLED_FOR = 1.0
"""Seconds a throttled credential rests when the provider does not say how long."""


@dataclass(slots=True)
class Credential:
    """One key. `rests_until` (perf_counter) and why: "refused", "throttled", or ""."""

    value: str
    index: int
    rests_until: float = 0.0
    reason: str = ""


class Credentials:
    """The keys of one provider, taking turns. With none configured there is nothing to choose."""

    def __init__(self, values: Iterable[str]) -> None:
        self.all: Sequence[Credential] = [Credential(value, index) for index, value in enumerate(values)]
        self.secrets = tuple(credential.value.encode() for credential in self.all)
        self._turn = 0

    def choose(self, now: float) -> Credential | None:
        """Whose turn it is among those that do not rest; None when none is configured. Raises Unavailable if all
        rest.
        """
        count = len(self.all)
        for step in range(count):
            credential = self.all[(self._turn + step) % count]
            if credential.rests_until <= now:
                self._turn = credential.index + 1
                return credential
        if not count:
            return None
        first = min(credential.rests_until for credential in self.all)
        raise Unavailable("every credential for this provider rests", retry_after=first - now)

    def has_other(self, now: float) -> bool:
        """Whether another attempt could use a credential that does not rest."""
        return any(credential.rests_until <= now for credential in self.all)

    def judge(self, credential: Credential, status: int, retry_after: float | None, now: float) -> bool:
        """Learns from an answer's status; True when the credential, and not the call, was refused.

        A sole credential never rests: with nothing to put in its place that would make one refusal everybody's.
        """
        if len(self.all) == 1:
            return False
        if status in (401, 403):
            credential.rests_until, credential.reason = now + REFUSED_FOR, "refused"
            return True
        if status == 429:
            credential.rests_until = now + (THROTTLED_FOR if retry_after is None else retry_after)
            credential.reason = "throttled"
            return True
        credential.reason = ""
        return False

    def reset(self) -> None:
        """Operator: all of them may be used again."""
        for credential in self.all:
            credential.rests_until, credential.reason = 0.0, ""


_STARS = re.compile(rb"\*{2,}")
_BEFORE = re.compile(rb"[A-Za-z0-9_-]*\Z")
_AFTER = re.compile(rb"[A-Za-z0-9_-]*")
_SHOWN = 100
"""Characters of a key that a vendor might show on one side of the stars, and then some."""


def redact(body: bytes, secrets: Sequence[bytes]) -> bytes:
    """`body` without any of `secrets`, and without starred forms that show the beginning or the end of one."""
    for secret in secrets:
        body = body.replace(secret, REDACTED)
    kept, at = [], 0
    for stars in _STARS.finditer(body):
        first = _BEFORE.search(body[max(at, stars.start() - _SHOWN) : stars.start()])
        last = _AFTER.match(body, stars.end(), stars.end() + _SHOWN)
        shown = (first.group() if first else b"", last.group() if last else b"")
        if any(shown) and any(secret.startswith(shown[0]) and secret.endswith(shown[1]) for secret in secrets):
            kept += [body[at : stars.start() - len(shown[0])], REDACTED]
            at = stars.end() + len(shown[1])
    return b"".join((*kept, body[at:]))
