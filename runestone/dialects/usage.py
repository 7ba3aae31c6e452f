"""Token counts out of both dialects' `usage` objects.

Rule: the summary says what the provider said, in OpenAI's sense: `input_tokens` holds what was read from a cache and
what was written to one. OpenAI's prompt_tokens do, Anthropic's input_tokens hold neither. What is missing or cannot be
a count is not there.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance
"""

from __future__ import annotations

from runestone.core.summary import Summary
from runestone.dialects.dialect import count


def read_chat(usage: object, summary: Summary) -> None:
    """OpenAI's usage into the summary; the last one of a stream is the whole truth."""
    if not isinstance(usage, dict):
        return
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    prompt = prompt if isinstance(prompt, dict) else {}
    summary.input_tokens = count(usage.get("prompt_tokens"))
    summary.output_tokens = count(usage.get("completion_tokens"))
    summary.cached_tokens = count(prompt.get("cached_tokens"))
    if summary.cached_tokens is None:  # https://api-docs.deepseek.com/guides/kv_cache
        summary.cached_tokens = count(usage.get("prompt_cache_hit_tokens"))
    summary.cache_write_tokens = count(prompt.get("cache_write_tokens"))
    if isinstance(completion, dict):
        summary.reasoning_tokens = count(completion.get("reasoning_tokens"))


def read_messages(usage: object, summary: Summary) -> None:
    """Anthropic's usage into the summary; of a stream, message_start's and then message_delta's, the last word.

    Zeros there undo no count: some compatible servers fill message_delta's fields with them.
    """
    if not isinstance(usage, dict):
        return
    fresh, read, written = (
        count(usage.get(name)) for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    known = summary.input_tokens
    if known is not None:
        known -= (summary.cached_tokens or 0) + (summary.cache_write_tokens or 0)
    if fresh or read or written:
        summary.cached_tokens = summary.cached_tokens if read is None else read
        summary.cache_write_tokens = summary.cache_write_tokens if written is None else written
    else:
        summary.cached_tokens = _later(summary.cached_tokens, read)
        summary.cache_write_tokens = _later(summary.cache_write_tokens, written)
    fresh = _later(known, fresh)
    if fresh is not None:
        summary.input_tokens = fresh + (summary.cached_tokens or 0) + (summary.cache_write_tokens or 0)
    summary.output_tokens = _later(summary.output_tokens, count(usage.get("output_tokens")))
    details = usage.get("output_tokens_details")
    if isinstance(details, dict):
        summary.reasoning_tokens = _later(summary.reasoning_tokens, count(details.get("thinking_tokens")))


def _later(known: int | None, told: int | None) -> int | None:
    return told if known is None else told or known
