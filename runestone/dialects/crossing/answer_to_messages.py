"""A Chat Completions answer, written as a Messages answer.

Rule: thinking, then text, then calls, as Anthropic orders them; a refusal is its text and the stop_reason. The first
choice is the answer (several cannot be asked for). An answer that is not OpenAI's raises; nothing in it is made up.
Deliberately absent: log probabilities, annotations, audio; Messages has no place for them.

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from typing import Any

from runestone.core.summary import Summary
from runestone.dialects.crossing.deltas import calls_of, message_of, sealed_of, texts_of
from runestone.dialects.crossing.failures import raise_if_error, written
from runestone.dialects.crossing.reasons import said_finish, stop_reason
from runestone.dialects.crossing.tools import made_id, parsed_arguments
from runestone.dialects.crossing.usage import messages_usage
from runestone.dialects.dialect import text
from runestone.dialects.usage import read_chat
from runestone.errors import ProviderFailed


def answer_to_messages(answer: dict[str, Any], *, summary: Summary) -> dict[str, Any]:
    """The message; fills `summary`. Raises ProviderFailed."""
    raise_if_error(answer)
    choice = _first_choice(answer)
    finish = said_finish(choice)
    message = choice.get("message") if isinstance(choice.get("message"), dict) else message_of(choice)
    if not isinstance(message, dict) or finish is None:
        raise ProviderFailed("the provider's answer is not a Chat Completions answer")
    if finish == "error":  # OpenRouter and Mistral
        raise ProviderFailed("the provider's answer ended in an error")
    summary.response_id = text(answer.get("id")) or made_id("msg_", written(answer))
    summary.model = text(answer.get("model"))
    summary.finish_reason = finish
    read_chat(answer.get("usage"), summary)
    calls = _calls(message, str(summary.response_id), cut=finish == "length")
    refusal = text(message.get("refusal"))
    sequence = choice.get("stop_reason")  # vLLM: the stop sequence, or a token's number
    reason = stop_reason(
        finish,
        tools=bool(calls),
        refused=bool(refusal),
        stop_sequence=sequence if isinstance(sequence, str) else None,
    )
    return {
        "id": summary.response_id,
        "type": "message",
        "role": "assistant",
        "model": summary.model or "",
        "content": _content(message) + calls,
        "stop_reason": reason,
        "stop_sequence": sequence if reason == "stop_sequence" else None,
        "usage": messages_usage(summary),
    }


def _first_choice(answer: Any) -> dict[str, Any]:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ProviderFailed("the provider's answer has no choices")
    first: dict[str, Any] = choices[0]
    raise_if_error(first)
    return first


def _content(message: dict[str, Any]) -> list[dict[str, Any]]:
    texts = texts_of(message)
    thought = "".join(piece for kind, piece in texts if kind == "thinking")
    spoken = "".join(piece for kind, piece in texts if kind == "text")
    sealed = sealed_of(message)
    signature = next((value for kind, value in sealed if kind == "signature"), "")
    content: list[dict[str, Any]] = []
    if thought or signature:
        content.append({"type": "thinking", "thinking": thought, "signature": signature})
    content += [{"type": kind, "data": value} for kind, value in sealed if kind == "redacted_thinking"]
    spoken += text(message.get("refusal")) or ""
    if spoken:
        content.append({"type": "text", "text": spoken, "citations": None})
    return content


def _calls(message: dict[str, Any], response_id: str, *, cut: bool) -> list[dict[str, Any]]:
    blocks = []
    for n, call in enumerate(calls_of(message)):
        function = call.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            raise ProviderFailed("the provider's answer holds a tool call without a function name")
        arguments = parsed_arguments(function.get("arguments"))
        if arguments is None:
            if cut:  # the token limit fell into the arguments: there is no call to make
                continue
            raise ProviderFailed(f"the provider's answer calls {name} with arguments that are not a JSON object")
        made = text(call.get("id")) or made_id("call_", response_id, n)
        blocks.append({"type": "tool_use", "id": made, "name": name, "input": arguments})
    return blocks
