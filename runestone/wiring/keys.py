"""The client keys of a configuration, and what they may spend."""

from __future__ import annotations

from collections.abc import Callable

from runestone.config.front import Auth, Key
from runestone.core.call import ANONYMOUS, Caller
from runestone.core.keys import KeyRing, ListedKey, digest
from runestone.core.quota import Limits
from runestone.gateway.limits import Limited, LimitKeys


def key_ring_of(auth: Auth) -> KeyRing:
    """Who is who."""
    return KeyRing(map(_listed, auth.keys), required=auth.required)


def digests_of(auth: Auth) -> frozenset[str]:
    """Of the keys that are listed."""
    return frozenset(_listed(key).sha256.lower() for key in auth.keys)


def limits_of(auth: Auth, before: LimitKeys | None = None) -> LimitKeys:
    """The keys that have limits. What a key has used `before` stays used, unless its limits have changed."""
    known = before.keys if before is not None else {}
    keys = {}
    for key in auth.keys:
        limits = _limits(key)
        if limits != Limits():
            kept = known.get(key.name)
            is_same = kept is not None and (kept.limits, kept.queue) == (limits, key.queue)
            keys[key.name] = kept if kept is not None and is_same else Limited(limits, key.queue)
    return LimitKeys(keys)


def revoked_by(before: Auth, after: Auth) -> Callable[[Caller], bool]:
    """Who may not go on as before: keys that are gone, or are not what they were, and callers without one where one is
    required now.
    """
    listed = {_listed(key) for key in after.keys}
    gone = {key.name for key in before.keys if _listed(key) not in listed}
    is_closed = after.required and not before.required

    def is_revoked(caller: Caller) -> bool:
        return is_closed if caller is ANONYMOUS else caller.name in gone

    return is_revoked


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
