"""Whether a stream has begun, and where it says that it has failed."""

from __future__ import annotations

import pytest

from runestone.dialects.beginning import find_error, says_something
from runestone.dialects.sse import encode

SAID = encode(b'{"choices":[{"delta":{"content":"an \\"error\\" of mine"}}]}')
OPEN = encode(b'{"type":"content_block_start"}', "content_block_start")


@pytest.mark.parametrize(
    ("before", "error", "message"),
    [
        (SAID, encode(b'{"error":{"message":"overloaded"}}'), "overloaded"),
        (OPEN, encode(b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', "error"), "busy"),
        (b"", encode(b'{"error":"text"}'), "text"),
        (b"", encode(b'{"error":{}}', "error"), "the provider's stream began with an error"),
    ],
)
def test_an_error_event_is_found_and_the_rest_kept(before: bytes, error: bytes, message: str) -> None:
    """In either dialect, with what stands before and behind it."""
    found = find_error(before + error + SAID)
    assert found is not None
    assert (found.before, found.rest, found.message) == (before, error + SAID, message)


@pytest.mark.parametrize("block", [SAID, OPEN, b": ping\n\n", b'data: "error"\n\n', b"data: [DONE]\n\n"])
def test_talk_of_errors_is_none(block: bytes) -> None:
    """A text may speak of an "error"; a chunk with choices is an answer whatever else it holds."""
    assert find_error(block) is None
    assert find_error(encode(b'{"error":null,"choices":[]}')) is None
    assert find_error(encode(b'{"error":{"message":"x"},"choices":[{}]}')) is None


def test_comments_say_nothing() -> None:
    """Servers send them while they think."""
    assert not says_something(b": OPENROUTER PROCESSING\n\n:\n\n")
    assert says_something(b": ping\n\n" + SAID)
