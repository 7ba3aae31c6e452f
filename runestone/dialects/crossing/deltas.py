"""What chat providers put into a message or a delta, taken apart: they agree on text, and on little else.

Rule: a reader, no judge: what is absent, null, empty or of another type is simply not there.

- reasoning stands in `reasoning_content` (DeepSeek, vLLM, llama.cpp), `reasoning` (OpenRouter, Groq, Ollama), in
  `reasoning_details` (OpenRouter), or in parts of the content (Mistral); two of the first three repeat each other.
- content is a string, a list of parts (Mistral), or the object a JSON schema asked for (Cloudflare Workers AI).
"""

from __future__ import annotations

from typing import Any

import orjson

from runestone.dialects.crossing.reasoning import is_ours


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
    if isinstance(content, str):
        if content:
            pieces.append(("text", content))
    elif isinstance(content, list):
        pieces += _parts(content)
    elif isinstance(content, dict):
        pieces.append(("text", orjson.dumps(content).decode()))
    return pieces


def sealed_of(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of (signature | redacted_thinking, value): what of the reasoning Anthropic can take back."""
    found: list[tuple[str, str]] = []
    for detail in _details(message):
        if not is_ours(detail):
            continue
        if detail.get("type") == "reasoning.text" and detail.get("signature"):
            found.append(("signature", str(detail["signature"])))
        elif detail.get("type") == "reasoning.encrypted" and detail.get("data") and detail.get("format"):
            found.append(("redacted_thinking", str(detail["data"])))
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
    return "".join(str(detail.get("text") or detail.get("summary") or "") for detail in _details(message))


def _parts(content: list[Any]) -> list[tuple[str, str]]:
    """https://docs.mistral.ai/capabilities/reasoning/"""
    pieces: list[tuple[str, str]] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "text" and part.get("text"):
            pieces.append(("text", str(part["text"])))
        elif part.get("type") == "thinking":
            inner = part.get("thinking")
            texts = [inner] if isinstance(inner, str) else [text for _, text in _parts(inner or [])]
            pieces += [("thinking", text) for text in texts if text]
    return pieces
