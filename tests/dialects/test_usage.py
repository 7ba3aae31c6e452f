"""Token counts read out of both dialects, whole and over a stream."""

from __future__ import annotations

from typing import Any

import pytest

from runestone.core.summary import Summary
from runestone.dialects.usage import read_chat, read_messages


def chat(*given: Any) -> Summary:
    summary = Summary()
    for usage in given:
        read_chat(usage, summary)
    return summary


def messages(*given: Any) -> Summary:
    summary = Summary()
    for usage in given:
        read_messages(usage, summary)
    return summary


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3}, Summary(input_tokens=10, output_tokens=3)),
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 4}, Summary(input_tokens=10, cached_tokens=4)),
        (
            {"prompt_tokens": 10, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}},
            Summary(input_tokens=10, cached_tokens=5),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 2}},
            Summary(cached_tokens=0, cache_write_tokens=2),
        ),
        ({"completion_tokens_details": {"reasoning_tokens": 2}}, Summary(reasoning_tokens=2)),
        ({"prompt_tokens_details": [], "completion_tokens_details": "x"}, Summary()),
        (None, Summary()),
        ([], Summary()),
    ],
)
def test_a_chat_usage(usage: Any, read: Summary) -> None:
    """DeepSeek's own field counts where OpenAI's is absent; what is odd is not there."""
    assert chat(usage) == read


def test_the_last_chat_usage_of_a_stream_counts() -> None:
    """Some servers send one with every chunk."""
    last = {"prompt_tokens": 10, "completion_tokens": 3}
    assert chat({"prompt_tokens": 10, "completion_tokens": 1}, last) == Summary(input_tokens=10, output_tokens=3)


START = {"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 100, "output_tokens": 1}


@pytest.mark.parametrize(
    ("later", "counts"),
    [
        ({"output_tokens": 9}, (123, 20, 100, 9)),
        ({"input_tokens": 0, "output_tokens": 9}, (123, 20, 100, 9)),
        (dict.fromkeys(START, 0), (123, 20, 100, 1)),
        ({"input_tokens": 50, "output_tokens": 9}, (170, 20, 100, 9)),
        (START | {"input_tokens": 5, "cache_read_input_tokens": 0, "output_tokens": 9}, (105, 0, 100, 9)),
        (START | {"input_tokens": 0, "output_tokens": 9}, (123, 20, 100, 9)),
        ({"cache_read_input_tokens": 30}, (133, 30, 100, 1)),
        (None, (123, 20, 100, 1)),
    ],
)
def test_what_message_delta_says_of_message_starts_counts(later: Any, counts: tuple[int, ...]) -> None:
    """It has the last word, but zeros undo nothing; input tokens always hold the cached ones."""
    summary = messages(START, later)
    assert counts == (
        summary.input_tokens,
        summary.cached_tokens,
        summary.cache_write_tokens,
        summary.output_tokens,
    )


def test_a_messages_usage_that_comes_late_counts() -> None:
    """Some compatible servers begin with zeros."""
    thought = {"output_tokens_details": {"thinking_tokens": 2}}
    assert messages({"input_tokens": 0, "output_tokens": 0}, START | thought) == Summary(
        input_tokens=123, output_tokens=1, cached_tokens=20, cache_write_tokens=100, reasoning_tokens=2
    )
    assert messages({"cache_read_input_tokens": 20}) == Summary(cached_tokens=20)


@pytest.mark.parametrize("wrong", [-5, True, 1.5, "5", 2**53, 2**64, [], {}])
def test_what_cannot_be_a_count_is_none(wrong: Any) -> None:
    """A negative count above all: prices and limits are reckoned from these."""
    assert messages(dict.fromkeys(START, wrong) | {"output_tokens_details": {"thinking_tokens": wrong}}) == Summary()
    details = {"cached_tokens": wrong, "cache_write_tokens": wrong, "reasoning_tokens": wrong}
    names = ("prompt_tokens", "completion_tokens", "prompt_cache_hit_tokens")
    given = dict.fromkeys(names, wrong) | {"prompt_tokens_details": details, "completion_tokens_details": details}
    assert chat(given) == Summary()
