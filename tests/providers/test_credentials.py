"""Keeping our credentials out of what providers say about them."""

import time

import pytest

from runestone.providers.credentials import redact

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
