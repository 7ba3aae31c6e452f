"""What a client may see of a provider's head."""

from __future__ import annotations

import pytest

from runestone.providers.reply import parse_retry_after, visible_headers


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("Retry-After", "retry-after"),
        ("retry-after-ms", "retry-after-ms"),
        ("OpenAI-Processing-Ms", "openai-processing-ms"),
        ("openai-version", "openai-version"),
        ("x-request-id", "x-provider-request-id"),
        ("request-id", "x-provider-request-id"),
        ("X-RateLimit-Remaining-Requests", "x-provider-ratelimit-remaining-requests"),
        ("anthropic-ratelimit-tokens-reset", "x-provider-anthropic-ratelimit-tokens-reset"),
        ("ratelimit-limit", "x-provider-ratelimit-limit"),
    ],
)
def test_what_clients_use_is_shown(name: str, seen: str) -> None:
    """Under a name that cannot be taken for the gateway's own, in lower case, with the value as it was."""
    assert visible_headers([(name.encode(), b"Value 7")]) == [(seen, "Value 7")]


@pytest.mark.parametrize(
    "name",
    [
        "set-cookie",
        "server",
        "via",
        "cf-ray",
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "openai-organization",
        "openai-project",
        "anthropic-organization-id",
        "www-authenticate",
        "authorization",
        "x-api-key",
        "location",
        "access-control-allow-origin",
        "strict-transport-security",
        "cache-status",
        "age",
        "server-timing",
        "x-runestone-provider",
        "x-provider-request-id",
        "",
    ],
)
def test_everything_else_is_hidden(name: str) -> None:
    """Cookies, the vendor's servers and our account there, and whatever the gateway says itself."""
    assert visible_headers([(name.encode(), b"v")]) == []


def test_what_comes_twice_is_shown_twice_in_order() -> None:
    """Nothing is joined or dropped on the way."""
    raw = [(b"Retry-After", b"1"), (b"Server", b"x"), (b"retry-after", b"2")]
    assert visible_headers(raw) == [("retry-after", "1"), ("retry-after", "2")]


@pytest.mark.parametrize("raw", [b"caf\xc3\xa9", b"caf\xe9", b"a\x01b", b"\x7f", b"key-0123456789abcdef"])
def test_a_value_that_cannot_be_shown_is_left_out(raw: bytes) -> None:
    """No control characters, nothing that is not ASCII, and none of our secrets: the answer itself must not suffer."""
    assert visible_headers([(b"retry-after", raw), (b"x-request-id", b"r1")], [b"0123456789abcdef"]) == [
        ("x-provider-request-id", "r1")
    ]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("99999999999", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_wait_is_seconds_or_not_said(value: str | None, seconds: float | None) -> None:
    """A number of seconds that somebody could wait; everything else counts as nothing said."""
    assert parse_retry_after(value) == seconds
