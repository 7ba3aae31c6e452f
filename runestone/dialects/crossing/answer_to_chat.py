"""A Messages answer, written as a Chat Completions answer.

Rule: all text in one string, all calls in one list, thinking in `reasoning_content` (as DeepSeek and vLLM write it)
and, with its signature, in `reasoning_details` (OpenRouter). An answer that is not Anthropic's raises; nothing in it is
made up.
Deliberately absent: server tools' calls and results and citations. Chat has no place for them; their text stays.

https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from typing import Any

from runestone.core.summary import Summary
from runestone.dialects.crossing.failures import raise_if_error, said, written
from runestone.dialects.crossing.reasoning import encrypted_detail, text_detail
from runestone.dialects.crossing.reasons import finish_reason
from runestone.dialects.crossing.tools import made_id
from runestone.dialects.crossing.usage import chat_usage
from runestone.dialects.dialect import text
from runestone.dialects.usage import read_messages
from runestone.errors import ProviderFailed


def answer_to_chat(answer: dict[str, Any], *, created: int, summary: Summary) -> dict[str, Any]:
    """The chat.completion; fills `summary`. `created` is in seconds of Unix time. Raises ProviderFailed."""
    raise_if_error(answer)
    content, stop = answer.get("content"), answer.get("stop_reason")
    if not isinstance(content, list) or not isinstance(stop, str):
        raise ProviderFailed("the provider's answer is not a Messages answer")
    message = _message(content)
    details = answer.get("stop_details")
    if stop == "refusal" and isinstance(details, dict):
        message["refusal"] = text(details.get("explanation"))
    summary.response_id = text(answer.get("id")) or made_id("chatcmpl-", created, written(content))
    summary.model = text(answer.get("model"))
    summary.finish_reason = text(stop)
    read_messages(answer.get("usage"), summary)
    reason = finish_reason(stop, tools="tool_calls" in message)
    return {
        "id": summary.response_id,
        "object": "chat.completion",
        "created": created,
        "model": summary.model or "",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": chat_usage(summary),
    }


def _message(content: list[Any]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(said(block.get("text"), "text"))
        elif kind == "thinking":
            thoughts.append(said(block.get("thinking"), "thinking"))
            details.append(text_detail(thoughts[-1], said(block.get("signature"), "signature"), len(details)))
        elif kind == "redacted_thinking":
            details.append(encrypted_detail(said(block.get("data"), "redacted thinking"), len(details)))
        elif kind == "tool_use":
            calls.append(_call(block, len(calls)))
    content_text = "".join(texts)
    message: dict[str, Any] = {"role": "assistant", "content": content_text or (None if calls else ""), "refusal": None}
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message


def _call(block: dict[str, Any], index: int) -> dict[str, Any]:
    name, given = block.get("name"), block.get("input")
    if not isinstance(name, str) or not isinstance(given, dict):
        raise ProviderFailed("the provider's answer holds a tool call without name or input")
    arguments = written(given)
    made = text(block.get("id")) or made_id("call_", name, arguments, index)
    return {"id": made, "type": "function", "function": {"name": name, "arguments": arguments}}
