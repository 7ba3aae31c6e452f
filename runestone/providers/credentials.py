"""Our credentials for a provider, and keeping them out of what the provider says about them.

Rule: vendors repeat a refused key in their errors, whole or with its middle starred out; neither reaches a client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

REDACTED = b"[redacted]"

_STARS = re.compile(rb"\*{2,}")
_BEFORE = re.compile(rb"[A-Za-z0-9_-]*\Z")
_AFTER = re.compile(rb"[A-Za-z0-9_-]*")
_SHOWN = 100
"""Characters of a key that a vendor might show on one side of the stars, and then some."""


def redact(body: bytes, secrets: Iterable[bytes]) -> bytes:
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
