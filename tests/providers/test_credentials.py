"""Keeping our credentials out of what providers say about them."""

import time

import pytest

from runestone.errors import Unavailable
from runestone.providers.credentials import Credentials, redact

SECRETS = (b"sk-proj-abcdefghijklmnop1234", b"gsk_other5678")


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"Incorrect API key provided: sk-proj-abcdefghijklmnop1234.", b"Incorrect API key provided: [redacted]."),
        (b"Incorrect API key provided: sk-proj-********1234. You", b"Incorrect API key provided: [redacted]. You"),
        (b"key ****5678 is wrong", b"key [redacted] is wrong"),
        (b"key gsk_**** is wrong", b"key [redacted] is wrong"),
        (b"this is **bold** and ***", b"this is **bold** and ***"),
        (b"key sk-****9999 of somebody else", b"key sk-****9999 of somebody else"),
        (b"nothing", b"nothing"),
    ],
)
def test_a_credential_is_hidden_whole_or_starred(said: bytes, heard: bytes) -> None:
    """A key of ours is hidden in full and in the starred forms vendors write; everything else stays byte for byte."""
    assert redact(said, SECRETS) == heard


def test_long_runs_cost_no_more_than_their_length() -> None:
    """An error that repeats a picture does not stop the loop."""
    body = b"a" * 2_000_000 + b" ** " + b"*" * 2_000_000 + b"a" * 2_000_000
    before = time.process_time()
    assert redact(body, SECRETS) == body
    assert time.process_time() - before < 1.0


def test_credentials_take_turns() -> None:
    """Calls are spread over all of them; with none there is nothing to choose."""
    ring = Credentials(["a", "b", "c"])
    assert [chosen.value for chosen in (ring.choose(0.0) for _ in range(4)) if chosen] == ["a", "b", "c", "a"]
    assert Credentials([]).choose(0.0) is None


@pytest.mark.parametrize(
    ("status", "retry_after", "rests"), [(401, None, 60.0), (403, 5.0, 60.0), (429, 7.0, 7.0), (429, None, 1.0)]
)
def test_a_refused_credential_rests_alone(status: int, retry_after: float | None, rests: float) -> None:
    """401 and 403 put a credential aside for a minute, 429 until its retry-after; the others go on."""
    ring = Credentials(["a", "b"])
    first = ring.choose(0.0)
    assert first is not None
    assert ring.judge(first, status, retry_after, 0.0)
    assert {chosen.value for chosen in (ring.choose(rests - 0.1) for _ in range(4)) if chosen} == {"b"}
    assert {chosen.value for chosen in (ring.choose(rests) for _ in range(4)) if chosen} == {"a", "b"}


def test_when_all_rest_the_wait_is_told() -> None:
    """Nobody can take the call until the first of them may be used again."""
    ring = Credentials(["a", "b"])
    for retry_after in (9.0, 4.0):
        chosen = ring.choose(0.0)
        assert chosen is not None
        ring.judge(chosen, 429, retry_after, 0.0)
    with pytest.raises(Unavailable) as caught:
        ring.choose(1.0)
    assert caught.value.retry_after == 3.0
    ring.reset()
    assert ring.choose(1.0) is not None


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_other_answers_say_nothing_of_a_credential(status: int) -> None:
    """A caller's mistake or a provider's failure leaves it in use."""
    ring = Credentials(["a", "b"])
    chosen = ring.choose(0.0)
    assert chosen is not None
    assert not ring.judge(chosen, status, None, 0.0)
    assert {again.value for again in (ring.choose(0.0) for _ in range(2)) if again} == {"a", "b"}


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_sole_credential_never_rests(status: int) -> None:
    """One refusal must not become everybody's: the provider's own answer passes, and the next call asks again."""
    ring = Credentials(["a"])
    chosen = ring.choose(0.0)
    assert chosen is not None
    assert not ring.judge(chosen, status, 60.0, 0.0)
    assert ring.choose(0.0) is chosen
