"""A Chat Completions request, written as a Messages request.

Rule: what OpenAI says in a list of messages Anthropic says in turns: system texts stand apart, tool results belong to
the user and come first in their turn, neighbours with one role are one turn. What cannot be said is refused by name
(fields.py).
Deliberately absent: any knowledge of which models can what, except how they take thinking (reasoning.py).

https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from runestone.dialects.crossing.expect import array, flag, mapping, optional, string, whole
from runestone.dialects.crossing.fields import CHAT_FIELDS, check, check_type
from runestone.dialects.crossing.media import document_block, image_block
from runestone.dialects.crossing.reasoning import asked_thinking, thinking_blocks
from runestone.dialects.crossing.tools import calls_to_messages, choice_to_messages, messages_id, tools_to_messages
from runestone.errors import BadRequest

_SAME_NAME: Final = ("top_p", "top_k")


def request_to_messages(fields: dict[str, Any], *, model: str, default_max_tokens: int) -> dict[str, Any]:
    """The Messages body for `model`. Raises BadRequest with the path of the first field that cannot cross."""
    check(fields, CHAT_FIELDS)
    system, turns = _conversation(array(fields.get("messages"), "messages"))
    if not turns:
        raise BadRequest(
            "messages: Anthropic needs at least one message that is not empty or a system message", param="messages"
        )
    max_tokens = _max_tokens(fields, default_max_tokens)
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "messages": turns}
    if system:
        body["system"] = _plain(system)
    body.update({name: fields[name] for name in _SAME_NAME if fields.get(name) is not None})
    if fields.get("temperature") is not None:
        body["temperature"] = _temperature(fields["temperature"])
    if fields.get("stop") is not None and (stops := _stops(fields["stop"])):
        body["stop_sequences"] = stops
    if fields.get("stream") is not None:
        body["stream"] = fields["stream"]
    if fields.get("stream_options") is not None:
        options = mapping(fields["stream_options"], "stream_options")
        check(options, CHAT_FIELDS, "stream_options", "stream_options")
        flag(options.get("include_usage"), "stream_options.include_usage")
    user = optional(fields.get("user"), "user") or optional(fields.get("safety_identifier"), "safety_identifier")
    if user:
        body["metadata"] = {"user_id": user}
    if fields.get("service_tier") == "default":
        body["service_tier"] = "standard_only"
    body.update(_tools(fields))
    body.update(_output(fields, model=model, max_tokens=max_tokens))
    return body


def _tools(fields: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    tools = tools_to_messages(fields["tools"]) if fields.get("tools") is not None else []
    if tools:
        out["tools"] = tools
    choice = choice_to_messages(fields.get("tool_choice"), fields.get("parallel_tool_calls"), has_tools=bool(tools))
    if choice is not None:
        out["tool_choice"] = choice
    return out


def _output(fields: dict[str, Any], *, model: str, max_tokens: int) -> dict[str, Any]:
    asked = asked_thinking(fields, model=model, max_tokens=max_tokens)
    out: dict[str, Any] = {}
    config: dict[str, Any] = {}
    if "thinking" in asked:
        out["thinking"] = asked["thinking"]
    if "effort" in asked:
        config["effort"] = asked["effort"]
    schema = _schema(fields.get("response_format"))
    if schema is not None:
        config["format"] = {"type": "json_schema", "schema": schema}
    if config:
        out["output_config"] = config
    return out


def _schema(response_format: Any) -> dict[str, Any] | None:
    """The JSON schema a response_format demands, None for plain text."""
    if response_format is None:
        return None
    given = mapping(response_format, "response_format")
    check(given, CHAT_FIELDS, "response_format", "response_format")
    kind = given.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        raise BadRequest(
            "response_format.type: Anthropic has no JSON mode; json_schema is carried", param="response_format.type"
        )
    if kind != "json_schema":
        raise BadRequest(f"response_format.type: {kind} cannot be carried", param="response_format.type")
    where = "response_format.json_schema"
    wrapped = mapping(given.get("json_schema"), where)
    check(wrapped, CHAT_FIELDS, where, where)
    return mapping(wrapped.get("schema"), f"{where}.schema")


def _max_tokens(fields: dict[str, Any], default: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        if fields.get(name) is not None:
            return whole(fields[name], name)
    return default


def _temperature(value: Any) -> Any:
    # Anthropic's own OpenAI endpoint caps it; that is another temperature than the one asked for.
    if isinstance(value, int | float) and value > 1:
        raise BadRequest("temperature: Anthropic takes 0 to 1", param="temperature")
    return value


def _stops(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else array(given, "stop")
    for stop in stops:
        if not string(stop, "stop").strip():
            raise BadRequest("stop: Anthropic takes no blank stop sequence", param="stop")
    return stops


# -- the conversation


def _conversation(messages: list[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system blocks and the turns."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        path = f"messages[{i}]"
        role = mapping(message, path).get("role")
        check(message, CHAT_FIELDS, "messages[]", path)
        write = _ROLES.get(role) if isinstance(role, str) else None
        if write is None:
            raise BadRequest(f"{path}.role: {role} cannot be carried to Anthropic", param=f"{path}.role")
        blocks = write(message, path)
        if blocks and message.get("cache_control"):
            blocks[-1]["cache_control"] = message["cache_control"]
        if role in _SYSTEM:
            system += blocks
        elif blocks:
            _append(turns, "assistant" if role == "assistant" else "user", blocks)
    if turns and turns[-1]["role"] == "assistant":
        _trim(turns)
    for turn in turns:
        turn["content"] = _plain(_results_first(turn["content"]))
    return system, turns


def _append(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    """Adds blocks to the conversation: neighbours of one role are one turn."""
    if not turns or turns[-1]["role"] != role:
        turns.append({"role": role, "content": blocks})
    else:
        turns[-1]["content"] += blocks


def _results_first(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool results go before whatever else the user says in the turn; otherwise the order stays."""
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _trim(turns: list[dict[str, Any]]) -> None:
    """Takes the white space off a prefill's end: Anthropic refuses "final assistant content" that ends with it."""
    last = turns[-1]["content"][-1]
    if last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _plain(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One text block and nothing with it is written as its text."""
    only = blocks[0]
    return only["text"] if len(blocks) == 1 and only.keys() == {"type", "text"} else blocks


def _system(message: dict[str, Any], path: str) -> list[dict[str, Any]]:
    return _content(message.get("content"), f"{path}.content", only=("text",))


def _user(message: dict[str, Any], path: str) -> list[dict[str, Any]]:
    return _content(message.get("content"), f"{path}.content", only=("text", "image_url", "file"))


def _assistant(message: dict[str, Any], path: str) -> list[dict[str, Any]]:
    blocks = thinking_blocks(message, path)
    blocks += _content(message.get("content"), f"{path}.content", only=("text", "refusal"))
    if message.get("refusal") is not None:
        blocks += _text_blocks(message["refusal"], f"{path}.refusal")
    if message.get("tool_calls") is not None:
        blocks += calls_to_messages(message["tool_calls"], path)
    return blocks


def _tool(message: dict[str, Any], path: str) -> list[dict[str, Any]]:
    call = messages_id(string(message.get("tool_call_id"), f"{path}.tool_call_id"))
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": call}
    content = _content(message.get("content"), f"{path}.content", only=("text", "image_url", "file"))
    if content:
        block["content"] = _plain(content)
    return [block]


_SYSTEM: Final = ("system", "developer")

_Write = Callable[[dict[str, Any], str], list[dict[str, Any]]]

_ROLES: Final[dict[str, _Write]] = {
    "system": _system,
    "developer": _system,
    "user": _user,
    "assistant": _assistant,
    "tool": _tool,
}


def _content(content: Any, path: str, *, only: tuple[str, ...]) -> list[dict[str, Any]]:
    """The blocks of a message's content, which may be null, a text or parts."""
    if content is None:
        return []
    if isinstance(content, str):
        return _text_blocks(content, path)
    blocks: list[dict[str, Any]] = []
    for j, part in enumerate(array(content, path)):
        where = f"{path}[{j}]"
        kind = mapping(part, where).get("type")
        if not check_type(kind, CHAT_FIELDS, where):
            continue
        check({name: value for name, value in part.items() if name != "type"}, CHAT_FIELDS, f"content[{kind}]", where)
        if kind not in only:
            raise BadRequest(f"{where}.type: {kind} cannot stand in a message of this role", param=f"{where}.type")
        written = _PARTS[kind](part, where)
        if written and part.get("cache_control"):
            written[-1]["cache_control"] = part["cache_control"]
        blocks += written
    return blocks


def _text_blocks(text: Any, path: str) -> list[dict[str, Any]]:
    # Anthropic: "text content blocks must be non-empty", and "must contain non-whitespace text"
    return [{"type": "text", "text": text}] if string(text, path).strip() else []


_PARTS: Final[dict[str, _Write]] = {
    "text": lambda part, path: _text_blocks(part.get("text"), f"{path}.text"),
    "refusal": lambda part, path: _text_blocks(part.get("refusal"), f"{path}.refusal"),
    "image_url": lambda part, path: [image_block(part, path)],
    "file": lambda part, path: [document_block(part, path)],
}
