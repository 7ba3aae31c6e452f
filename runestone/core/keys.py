"""Client keys: who is calling, from the SHA-256 of what was presented.

Rule: keys are kept as digests only; a presented key is hashed at once and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from runestone.core.call import ANONYMOUS, Caller
from runestone.errors import Unauthorized

PREFIX = "rs-"


def digest(key: str) -> str:
    """Hex SHA-256, as the configuration holds it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key() -> str:
    """A fresh key: 256 bits from the system, recognisable by its prefix."""
    return PREFIX + secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key of the configuration."""

    sha256: str
    caller: Caller
    active: bool = True
    expires: datetime | None = None


class KeyRing:
    """All listed keys. With `required` False a key that is not listed is ignored, never an error."""

    def __init__(self, keys: Iterable[ListedKey], *, required: bool) -> None:
        self._keys = {key.sha256.lower(): key for key in keys}
        self._required = required

    def identify(self, presented: str | None, now: datetime) -> Caller:
        """The caller. Raises Unauthorized: missing_authorization, invalid_api_key or expired_api_key."""
        if not self._keys and not self._required:
            return ANONYMOUS
        if not presented:
            if self._required:
                raise Unauthorized(
                    "no API key: send 'Authorization: Bearer KEY', 'x-api-key: KEY' or 'api-key: KEY'",
                    code="missing_authorization",
                )
            return ANONYMOUS
        presented_digest = digest(presented)
        listed = self._keys.get(presented_digest)
        # The look-up reveals at most which digests exist, never a key; the compare keeps even that free of an early
        # exit.
        if listed is None or not hmac.compare_digest(listed.sha256.lower(), presented_digest):
            if self._required:
                raise Unauthorized("the API key is not known here")
            return ANONYMOUS
        if not listed.active:
            raise Unauthorized("the API key is disabled")
        if listed.expires is not None and now >= listed.expires:
            raise Unauthorized("the API key has expired", code="expired_api_key")
        return listed.caller
