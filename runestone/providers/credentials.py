"""Our credentials for a provider, and keeping them out of what the provider says about them.

Rule: vendors repeat a refused key in their errors, whole or with its middle starred out; neither reaches a client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

REDACTED = b"[redacted]"

_STARRED = re.compile(rb"([A-Za-z0-9_-]*)\*{2,}([A-Za-z0-9_-]*)")


def redact(body: bytes, secrets: Iterable[bytes]) -> bytes:
    """`body` without any of `secrets`, and without starred forms that show the beginning or the end of one."""
    for secret in secrets:
        body = body.replace(secret, REDACTED)
    if b"**" not in body:
        return body

    def hide(match: re.Match[bytes]) -> bytes:
        first, last = match.groups()
        for secret in secrets:
            if (first or last) and secret.startswith(first) and secret.endswith(last):
                return REDACTED
        return match.group()

    return _STARRED.sub(hide, body)
