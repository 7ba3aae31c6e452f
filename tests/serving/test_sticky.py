"""serving/sticky.py: whose turn a connection is."""

from __future__ import annotations

import pytest

from runestone.serving.sticky import worker_of

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\n%s\r\n\r\n{}"


@pytest.mark.parametrize(
    "line",
    [b"Authorization: Bearer K", b"authorization:K", b"X-API-Key: K", b"api-key: K", b"AUTHORIZATION:  bearer  K "],
)
def test_every_way_to_show_a_key_leads_to_the_same_worker(line: bytes) -> None:
    """However a client writes its key: it is the same one's turn."""
    assert worker_of(HEAD % line, 1000) == worker_of(HEAD % b"x-api-key: K", 1000)


def test_a_key_of_a_browser_counts_too() -> None:
    """WebSockets of pages show it as a sub-protocol."""
    line = b"Sec-WebSocket-Protocol: runestone, runestone.key.K"
    assert worker_of(HEAD % line, 1000) == worker_of(HEAD % b"x-api-key: K", 1000)


@pytest.mark.parametrize("line", [b"Accept: */*", b"Authorization: Basic abc", b"x-api-key:", b"\xff\xfe: \xff"])
def test_without_a_key_nobody_is_preferred(line: bytes) -> None:
    """It stays where it was accepted."""
    assert worker_of(HEAD % line, 4) is None


def test_what_stands_in_the_body_is_no_key() -> None:
    """Only the head counts."""
    assert worker_of(HEAD % b"Accept: */*" + b"\r\nx-api-key: K\r\n", 4) is None


def test_keys_are_spread() -> None:
    """Every worker gets its share."""
    turns = [worker_of(HEAD % b"x-api-key: rs-%d" % number, 4) for number in range(400)]
    assert all(60 < turns.count(worker) < 140 for worker in range(4))


def test_a_key_that_is_not_listed_is_none() -> None:
    """On a gateway that asks for no key every SDK sends something, and often the same."""
    head = HEAD % b"x-api-key: any"
    assert worker_of(head, 4, lambda key: key == "any") is not None
    assert worker_of(head, 4, lambda key: key == "other") is None
