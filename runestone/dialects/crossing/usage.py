"""Token counts as both dialects write them: OpenAI's prompt_tokens hold cached ones; Anthropic's input_tokens neither
those read nor those written.

Rule: where a dialect demands a number, none is 0. How they are read is in dialects/usage.py.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance
"""

from __future__ import annotations

from typing import Any

from runestone.core.summary import Summary


def chat_usage(summary: Summary) -> dict[str, Any]:
    """OpenAI's usage object."""
    prompt, completion = summary.input_tokens or 0, summary.output_tokens or 0
    details: dict[str, Any] = {"cached_tokens": summary.cached_tokens or 0}
    if summary.cache_write_tokens:
        details["cache_write_tokens"] = summary.cache_write_tokens
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }
    if summary.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": summary.reasoning_tokens}
    return usage


def messages_usage(summary: Summary) -> dict[str, Any]:
    """Anthropic's usage object."""
    prompt = summary.input_tokens or 0
    cached = min(summary.cached_tokens or 0, prompt)  # some count cached tokens that prompt_tokens leave out
    prompt -= cached
    written = min(summary.cache_write_tokens or 0, prompt)  # OpenRouter counts what it reads and renews in both
    usage: dict[str, Any] = {
        "input_tokens": prompt - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": summary.output_tokens or 0,
    }
    if summary.reasoning_tokens is not None:
        usage["output_tokens_details"] = {"thinking_tokens": summary.reasoning_tokens}
    return usage
