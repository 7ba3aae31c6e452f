"""Why an answer ended, in both dialects' words.

Rule: a reason neither table knows is an ordinary end; both vendors say that new ones may come. None is never made up.

https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from typing import Any, Final

_TO_CHAT: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",  # only Anthropic's server tools pause, and those cannot be asked for in chat
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

_TO_MESSAGES: Final = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "model_length": "model_context_window_exceeded",  # Mistral
    "content_filter": "refusal",
}


# OpenRouter's native_finish_reason, in its upstreams' words; it writes tool_calls over a call that was cut.
_CUT: Final = ("length", "max_tokens", "max_output_tokens", "MAX_TOKENS")


def said_finish(choice: dict[str, Any]) -> str | None:
    """The finish_reason a choice gives: null and "" are none, and a native one that says "cut" is believed."""
    given = choice.get("finish_reason")
    if not isinstance(given, str) or not given:
        return None
    return "length" if choice.get("native_finish_reason") in _CUT else given


def finish_reason(stop_reason: str, *, tools: bool) -> str:
    """OpenAI's finish_reason; `tools` says whether tool calls are in the answer, since clients act on the reason."""
    reason = _TO_CHAT.get(stop_reason, "stop")
    return "stop" if reason == "tool_calls" and not tools else reason


def stop_reason(finish_reason: str, *, tools: bool, refused: bool, stop_sequence: str | None = None) -> str:
    """Anthropic's stop_reason. `refused`: the answer is an OpenAI refusal, which finishes with "stop".

    OpenAI finishes a forced call with "stop", and so do many servers any call: calls in the answer make it tool_use.
    """
    reason = _TO_MESSAGES.get(finish_reason, "end_turn")
    if reason == "end_turn":
        if tools:
            return "tool_use"
        if refused:
            return "refusal"
        return "stop_sequence" if stop_sequence is not None else reason
    return "end_turn" if reason == "tool_use" and not tools else reason
