"""The client keys of a configuration, and what they may spend."""

from __future__ import annotations

from runestone.config.schema import Auth, Key
from runestone.core.call import Caller
from runestone.core.keys import KeyRing, ListedKey, digest
from runestone.core.quota import Limits
from runestone.gateway.limits import Limited, LimitKeys


def key_ring_of(auth: Auth) -> KeyRing:
    """Who is who."""
    return KeyRing(map(_listed, auth.keys), required=auth.required)


def limits_of(auth: Auth) -> LimitKeys:
    """The keys that have limits."""
    return LimitKeys({key.name: Limited(_limits(key), key.queue) for key in auth.keys if _limits(key) != Limits()})


def _listed(key: Key) -> ListedKey:
    sha256 = key.sha256 or digest(key.key.value if key.key else "")
    caller = Caller(name=key.name, admin=key.admin, models=key.models, tenant=key.tenant)
    return ListedKey(sha256, caller, active=key.active, expires=key.expires)


def _limits(key: Key) -> Limits:
    return Limits(
        requests_per_minute=key.requests_per_minute,
        requests_per_hour=key.requests_per_hour,
        tokens_per_minute=key.tokens_per_minute,
        concurrent_requests=key.concurrent_requests,
    )
