"""Client keys: who is calling."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from runestone.core.call import ANONYMOUS, Caller
from runestone.core.keys import PREFIX, KeyRing, ListedKey, digest, new_key
from runestone.errors import Unauthorized

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ALICE, OLD, GONE = Caller(name="alice"), Caller(name="old"), Caller(name="gone")
KEYS = [
    ListedKey(digest("rs-alice"), ALICE, expires=NOW + timedelta(seconds=1)),
    ListedKey(digest("rs-old"), OLD, expires=NOW),
    ListedKey(digest("rs-gone").upper(), GONE, active=False),
]


@pytest.mark.parametrize("required", [True, False])
def test_a_listed_key_is_its_caller(required: bool) -> None:
    """Whether keys are required or not, a listed one is known."""
    assert KeyRing(KEYS, required=required).identify("rs-alice", NOW) is ALICE


@pytest.mark.parametrize(
    ("presented", "code"),
    [
        (None, "missing_authorization"),
        ("", "missing_authorization"),
        ("rs-bob", "invalid_api_key"),
        ("RS-ALICE", "invalid_api_key"),
        (digest("rs-alice"), "invalid_api_key"),
        ("rs-gone", "invalid_api_key"),
        ("rs-old", "expired_api_key"),
        ("\udcff-not-utf-8", "invalid_api_key"),
    ],
)
def test_a_required_key_that_does_not_open_is_a_401(presented: str | None, code: str) -> None:
    """The code says why, the message never repeats what was presented."""
    with pytest.raises(Unauthorized) as caught:
        KeyRing(KEYS, required=True).identify(presented, NOW)
    assert (caught.value.status, caught.value.code) == (401, code)
    assert not presented or presented not in caught.value.message


@pytest.mark.parametrize("presented", [None, "", "sk-of-somebody-else"])
def test_an_unlisted_key_is_ignored_where_none_is_required(presented: str | None) -> None:
    """Clients send their vendor's key by habit; that is never an error."""
    assert KeyRing(KEYS, required=False).identify(presented, NOW) is ANONYMOUS


@pytest.mark.parametrize(("presented", "code"), [("rs-gone", "invalid_api_key"), ("rs-old", "expired_api_key")])
def test_a_refused_key_is_refused_also_where_none_is_required(presented: str, code: str) -> None:
    """Somebody took that key away: it does not become an anonymous one."""
    with pytest.raises(Unauthorized) as caught:
        KeyRing(KEYS, required=False).identify(presented, NOW)
    assert caught.value.code == code


def test_an_empty_ring_lets_everybody_in() -> None:
    """Without keys and without the requirement, nobody is asked."""
    assert KeyRing([], required=False).identify("anything", NOW) is ANONYMOUS


def test_an_empty_ring_that_requires_a_key_lets_nobody_in() -> None:
    """The requirement does not lapse with the last key."""
    with pytest.raises(Unauthorized):
        KeyRing([], required=True).identify("anything", NOW)


@pytest.mark.parametrize("key", ["rs-alice", "kéy", "\udcff"])
def test_a_digest_is_sha256_of_the_bytes(key: str) -> None:
    """As `sha256sum` would print it; bytes that are no UTF-8 come in by surrogates and go out as they were."""
    assert digest(key) == hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def test_new_keys_are_long_and_different() -> None:
    """256 bits behind a prefix, and nothing that a header, a shell or TOML would have to escape."""
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in keys)
    assert all(key.replace("-", "").replace("_", "").isalnum() and key.isascii() for key in keys)


def test_a_ring_holds_no_key() -> None:
    """Only digests are kept: what memory holds cannot be presented."""
    ring = KeyRing(KEYS, required=True)
    ring.identify("rs-alice", NOW)
    assert "rs-alice" not in repr(vars(ring))
