"""Token counts: OpenAI's prompt_tokens hold cached ones; Anthropic's input_tokens neither those read nor those written.

Rule: the summary is filled with what the provider said, in OpenAI's sense; where a dialect demands a number, none is 0.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance
"""

from __future__ import annotations

from typing import Any

from runestone.core.summary import Summary


def read_messages(usage: Any, summary: Summary) -> None:
    """Anthropic's usage into the summary; of a stream, message_start's and then message_delta's, which has the last
    word.

    No input tokens there undo no count: some compatible servers fill message_delta's fields with zeros.
    """
    if not isinstance(usage, dict):
        return
    fresh = _count(usage.get("input_tokens"))
    if fresh or (fresh is not None and summary.input_tokens is None):
        cached = _count(usage.get("cache_read_input_tokens"))
        written = _count(usage.get("cache_creation_input_tokens"))
        summary.cached_tokens = cached = summary.cached_tokens if cached is None else cached
        summary.cache_write_tokens = written = summary.cache_write_tokens if written is None else written
        summary.input_tokens = fresh + (cached or 0) + (written or 0)
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


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _later(known: int | None, value: Any) -> int | None:
    count = _count(value)
    return count if known is None else count or known
