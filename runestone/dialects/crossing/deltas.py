"""What chat providers put into a message or a delta, taken apart: they agree on text, and on little else.

Rule: what is absent, null or empty is simply not there. Content of a type nobody sends raises ProviderFailed: an answer
without it would be another one. Around the content, what is of another type is not there either.

- reasoning stands in `reasoning_content` (DeepSeek, vLLM, llama.cpp), `reasoning` (OpenRouter, Groq, Ollama), in
  `reasoning_details` (OpenRouter), or in parts of the content (Mistral); two of the first three repeat each other.
- content is a string, a list of parts (Mistral), or the object a JSON schema asked for (Cloudflare Workers AI).
"""

from __future__ import annotations

from typing import Any

from runestone.dialects.crossing.failures import said, written
from runestone.dialects.crossing.reasoning import is_ours
from runestone.dialects.dialect import text


def message_of(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice's delta; the whole message of servers that send one instead; {} where there is neither."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        delta = choice.get("message")
    return delta if isinstance(delta, dict) else {}


def texts_of(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of (thinking | text, piece), in order, none empty."""
    pieces: list[tuple[str, str]] = []
    thought = message.get("reasoning_content") or message.get("reasoning") or _detailed(message)
    if isinstance(thought, str) and thought:
        pieces.append(("thinking", thought))
    content = message.get("content")
    if isinstance(content, list):
        return pieces + _parts(content)
    whole = written(content) if isinstance(content, dict) else said(content, "content")
    return [*pieces, ("text", whole)] if whole else pieces


def sealed_of(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of (signature | redacted_thinking, value): what of the reasoning Anthropic can take back."""
    found: list[tuple[str, str]] = []
    for detail in _details(message):
        if not is_ours(detail):
            continue
        signature, data = text(detail.get("signature")), text(detail.get("data"))
        if detail.get("type") == "reasoning.text" and signature:
            found.append(("signature", signature))
        elif detail.get("type") == "reasoning.encrypted" and data and detail.get("format"):
            found.append(("redacted_thinking", data))
    return found


def calls_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls, the deprecated function_call among them."""
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        found = [call for call in calls if isinstance(call, dict)]
        if found:
            return found
    function = message.get("function_call")
    return [{"index": 0, "function": function}] if isinstance(function, dict) else []


def _details(message: dict[str, Any]) -> list[dict[str, Any]]:
    details = message.get("reasoning_details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _detailed(message: dict[str, Any]) -> str:
    return "".join(text(detail.get("text")) or text(detail.get("summary")) or "" for detail in _details(message))


def _parts(content: list[Any]) -> list[tuple[str, str]]:
    """https://docs.mistral.ai/capabilities/reasoning/"""
    pieces: list[tuple[str, str]] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "text":
            pieces.append(("text", said(part.get("text"), "text")))
        elif part.get("type") == "thinking":
            inner = part.get("thinking")
            thoughts = inner if isinstance(inner, list) else [{"type": "text", "text": said(inner, "thinking")}]
            pieces += [("thinking", said(thought.get("text"), "thinking")) for thought in thoughts if _is_text(thought)]
    return [piece for piece in pieces if piece[1]]


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"
