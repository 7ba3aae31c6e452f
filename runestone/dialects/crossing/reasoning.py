"""Thinking: how much is asked for, and the blocks that must come back as they were.

Rule: Anthropic signs its thinking and takes back only what it signed, so signed and encrypted blocks travel through a
chat client in `reasoning_details`, OpenRouter's form; unsigned reasoning stays behind.

How much: OpenAI's effort words go to `output_config.effort` with adaptive thinking. Models from before that know only a
budget in tokens; there an effort is a share of max_tokens, the shares being OpenRouter's.

https://platform.claude.com/docs/en/build-with-claude/effort
https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks
https://openrouter.ai/docs/use-cases/reasoning-tokens
"""

from __future__ import annotations

import re
from typing import Any, Final

from runestone.dialects.crossing.expect import array, flag, mapping, optional, string, whole
from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS, check
from runestone.errors import BadRequest

FORMAT: Final = "anthropic-claude-v1"
"""OpenRouter's name for details that hold Anthropic's signature."""

_LEAST_BUDGET: Final = 1024
_SHARES: Final = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}
_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}

# Models without adaptive thinking; every later one has it, and from Opus 4.7 on a budget is refused.
_BUDGET_ONLY: Final = re.compile(r"claude-(instant|[23]|(opus|sonnet|haiku)-4(?!\d)(?![-.][6-9](?!\d)))")

_TO_EFFORT: Final = ((4096, "low"), (16384, "medium"))
"""Budgets below these; above is high."""


def asked_thinking(fields: dict[str, Any], *, model: str, max_tokens: int) -> dict[str, Any]:
    """The `thinking` and `output_config.effort` of a Messages request, as {"thinking": ..., "effort": ...}, or {}."""
    thinking = fields.get("thinking")
    if thinking is not None:
        return _given_thinking(mapping(thinking, "thinking"), model=model, max_tokens=max_tokens)
    reasoning = fields.get("reasoning")
    if reasoning is not None:
        return _openrouter(mapping(reasoning, "reasoning"), model=model, max_tokens=max_tokens)
    effort = fields.get("reasoning_effort")
    return {} if effort is None else _by_effort(effort, "reasoning_effort", model=model, max_tokens=max_tokens)


def _given_thinking(thinking: dict[str, Any], *, model: str, max_tokens: int) -> dict[str, Any]:
    check(thinking, CHAT_FIELDS, "thinking", "thinking")
    if thinking.get("type") == "enabled" and thinking.get("budget_tokens") is None:
        return _by_effort("medium", "thinking", model=model, max_tokens=max_tokens)
    return {"thinking": {name: value for name, value in thinking.items() if value is not None}}


def _openrouter(reasoning: dict[str, Any], *, model: str, max_tokens: int) -> dict[str, Any]:
    check(reasoning, CHAT_FIELDS, "reasoning", "reasoning")
    budget, effort = reasoning.get("max_tokens"), reasoning.get("effort")
    enabled = flag(reasoning.get("enabled"), "reasoning.enabled")
    exclude = flag(reasoning.get("exclude"), "reasoning.exclude")
    if reasoning.get("enabled") is False:
        effort, budget = "none", None
    asked: dict[str, Any]
    if budget is not None:
        asked = {"thinking": {"type": "enabled", "budget_tokens": whole(budget, "reasoning.max_tokens")}}
    elif effort is not None or enabled:
        asked = _by_effort(
            "medium" if effort is None else effort, "reasoning.effort", model=model, max_tokens=max_tokens
        )
    else:
        return {}
    if exclude and asked["thinking"]["type"] != "disabled":
        asked["thinking"]["display"] = "omitted"
    return asked


def _by_effort(effort: Any, path: str, *, model: str, max_tokens: int) -> dict[str, Any]:
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise BadRequest(f"{path} must be none or one of {', '.join(_EFFORTS)}", param=path)
    if not _BUDGET_ONLY.search(model):
        return {"thinking": {"type": "adaptive"}, "effort": _EFFORTS[effort]}
    if max_tokens <= _LEAST_BUDGET:
        raise BadRequest(f"{path} needs more than {_LEAST_BUDGET} max_tokens on {model}: thinking counts", param=path)
    budget = max(_LEAST_BUDGET, int(max_tokens * _SHARES[effort]))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def asked_effort(fields: dict[str, Any]) -> str | None:
    """The `reasoning_effort` of a chat request, None where nothing is asked. An effort wins over a budget."""
    config = fields.get("output_config")
    if config is not None:
        effort = mapping(config, "output_config").get("effort")
        if effort is not None:
            return string(effort, "output_config.effort")
    thinking = fields.get("thinking")
    if thinking is None:
        return None
    check(mapping(thinking, "thinking"), MESSAGES_FIELDS, "thinking", "thinking")
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or budget is None:
        return None
    tokens = whole(budget, "thinking.budget_tokens")
    return next((effort for below, effort in _TO_EFFORT if tokens < below), "high")


def text_detail(text: str, signature: str, index: int) -> dict[str, Any]:
    """The reasoning_details entry of a thinking block."""
    detail: dict[str, Any] = {"type": "reasoning.text", "text": text, "format": FORMAT, "index": index}
    return {**detail, "signature": signature} if signature else detail


def encrypted_detail(data: str, index: int) -> dict[str, Any]:
    """The reasoning_details entry of a redacted_thinking block."""
    return {"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": index}


def is_ours(detail: dict[str, Any]) -> bool:
    """Whether a detail can be Anthropic's. A stream names the format once a block, and some clients drop it."""
    given = detail.get("format")
    return given is None or (isinstance(given, str) and given.startswith("anthropic"))


def thinking_blocks(message: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """The signed blocks a client echoes, whole or as the pieces of a stream it only collected."""
    details = message.get("reasoning_details")
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []
    index: Any = None
    for i, detail in enumerate(array(details, f"{path}.reasoning_details") if details is not None else []):
        where = f"{path}.reasoning_details[{i}]"
        if not is_ours(mapping(detail, where)):
            continue
        kind = detail.get("type")
        if kind == "reasoning.encrypted" and detail.get("format"):
            data = optional(detail.get("data"), f"{where}.data")
            blocks += [{"type": "redacted_thinking", "data": data}] if data else []
        if kind != "reasoning.text":
            continue
        if detail.get("index") != index:
            pieces, index = [], detail.get("index")
        pieces.append(optional(detail.get("text"), f"{where}.text"))
        signature = optional(detail.get("signature"), f"{where}.signature")
        if signature:
            blocks.append({"type": "thinking", "thinking": "".join(pieces), "signature": signature})
            pieces = []
    return blocks
