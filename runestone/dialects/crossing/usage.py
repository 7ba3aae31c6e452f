"""Token counts. OpenAI's prompt_tokens hold cached ones; Anthropic's input_tokens hold neither those read nor those
written.

Rule: the summary is filled with what the provider said, in OpenAI's sense; a client whose dialect demands a number gets
0.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance
"""

from __future__ import annotations

from typing import Any

from runestone.core.summary import Summary


def read_messages(usage: Any, summary: Summary) -> None:
    """Anthropic's usage into the summary. Its stream counts are cumulative, so the larger of two is the later."""
    if not isinstance(usage, dict):
        return
    cached = _later(summary.cached_tokens, usage.get("cache_read_input_tokens"))
    written = _later(summary.cache_write_tokens, usage.get("cache_creation_input_tokens"))
    fresh = _count(usage.get("input_tokens"))
    if fresh is not None:
        summary.input_tokens = _later(summary.input_tokens, fresh + (cached or 0) + (written or 0))
    summary.cached_tokens = cached
    summary.cache_write_tokens = written
    summary.output_tokens = _later(summary.output_tokens, usage.get("output_tokens"))
    details = usage.get("output_tokens_details")
    if isinstance(details, dict):
        summary.reasoning_tokens = _later(summary.reasoning_tokens, details.get("thinking_tokens"))


def read_chat(usage: Any, summary: Summary) -> None:
    """OpenAI's usage into the summary; the last one of a stream is the whole truth."""
    if not isinstance(usage, dict):
        return
    summary.input_tokens = _count(usage.get("prompt_tokens"))
    summary.output_tokens = _count(usage.get("completion_tokens"))
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    if not isinstance(prompt, dict):
        prompt = {}
    summary.cached_tokens = _count(prompt.get("cached_tokens"))
    if summary.cached_tokens is None:  # https://api-docs.deepseek.com/guides/kv_cache
        summary.cached_tokens = _count(usage.get("prompt_cache_hit_tokens"))
    summary.cache_write_tokens = _count(prompt.get("cache_write_tokens"))
    if isinstance(completion, dict):
        summary.reasoning_tokens = _count(completion.get("reasoning_tokens"))


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
    cached, written = summary.cached_tokens or 0, summary.cache_write_tokens or 0
    usage: dict[str, Any] = {
        "input_tokens": max((summary.input_tokens or 0) - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": summary.output_tokens or 0,
    }
    if summary.reasoning_tokens is not None:
        usage["output_tokens_details"] = {"thinking_tokens": summary.reasoning_tokens}
    return usage


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _later(known: int | None, value: Any) -> int | None:
    count = _count(value)
    if known is None or count is None:
        return count if known is None else known
    return max(known, count)
