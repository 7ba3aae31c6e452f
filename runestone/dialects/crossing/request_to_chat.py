"""A Messages request, written as a Chat Completions request.

Rule: one turn may become several messages: tool results first, each its own message, because OpenAI wants them directly
behind the calls; then what the user said. What cannot be said is refused by name (fields.py).
Deliberately absent: Anthropic's server tools and everything that lies in its files; thinking, unless the provider is
one that must get its own back (`reasoning_field`).

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from runestone.dialects.crossing.expect import array, flag, mapping, optional, string
from runestone.dialects.crossing.fields import MESSAGES_FIELDS, check, check_type
from runestone.dialects.crossing.media import document_parts, image_part
from runestone.dialects.crossing.reasoning import asked_effort
from runestone.dialects.crossing.strict import is_strict
from runestone.dialects.crossing.tools import choice_to_chat, tools_to_chat
from runestone.errors import BadRequest

_SAME_NAME: Final = ("temperature", "top_p")

_LONGEST_USER: Final = 64
"""OpenAI: "Expected a string with maximum length 64"; Claude Code's user_id is longer."""


def request_to_chat(
    fields: dict[str, Any],
    *,
    model: str,
    max_tokens_field: str,
    stream_usage: bool = True,
    reasoning_field: str | None = None,
) -> dict[str, Any]:
    """The Chat Completions body for `model`. Raises BadRequest with the path of the first field that cannot cross.

    `stream_usage` False: the provider takes no stream_options. `reasoning_field` names the message field in which this
    provider wants its own, unsigned thinking back on turns with tool calls (DeepSeek: reasoning_content, else it
    answers 400, https://api-docs.deepseek.com/guides/thinking_mode).
    """
    check(fields, MESSAGES_FIELDS)
    messages = _system(fields.get("system"))
    for i, message in enumerate(array(fields.get("messages"), "messages")):
        messages += _turn(mapping(message, f"messages[{i}]"), f"messages[{i}]", reasoning_field)
    body: dict[str, Any] = {"model": model, "messages": messages}
    if fields.get("max_tokens") is not None:
        body[max_tokens_field] = fields["max_tokens"]
    body.update({name: fields[name] for name in _SAME_NAME if fields.get(name) is not None})
    if fields.get("stop_sequences") is not None and (stops := array(fields["stop_sequences"], "stop_sequences")):
        body["stop"] = stops
    if fields.get("stream") is not None:
        body["stream"] = fields["stream"]
        if fields["stream"] is True and stream_usage:
            body["stream_options"] = {"include_usage": True}
    tools = tools_to_chat(fields["tools"]) if fields.get("tools") is not None else []
    if tools:
        body["tools"] = tools
    body.update(choice_to_chat(fields.get("tool_choice"), has_tools=bool(tools)))
    effort = asked_effort(fields)
    if effort is not None:
        body["reasoning_effort"] = effort
    response_format = _response_format(fields)
    if response_format is not None:
        body["response_format"] = response_format
    user = _user_id(fields.get("metadata"))
    if user is not None:
        body["user"] = user
    if fields.get("service_tier") == "standard_only":
        body["service_tier"] = "default"
    return body


def _user_id(metadata: Any) -> str | None:
    if metadata is None:
        return None
    check(mapping(metadata, "metadata"), MESSAGES_FIELDS, "metadata", "metadata")
    user = optional(metadata.get("user_id"), "metadata.user_id")
    if not user:
        return None
    return user if len(user) <= _LONGEST_USER else hashlib.sha256(user.encode()).hexdigest()


def _response_format(fields: dict[str, Any]) -> dict[str, Any] | None:
    path, given = "output_format", fields.get("output_format")
    config = fields.get("output_config")
    if config is not None:
        check(mapping(config, "output_config"), MESSAGES_FIELDS, "output_config", "output_config")
        if config.get("format") is not None:
            path, given = "output_config.format", config["format"]
    if given is None:
        return None
    check(mapping(given, path), MESSAGES_FIELDS, path, path)
    if given.get("type") != "json_schema":
        raise BadRequest(f"{path}.type: {given.get('type')} cannot be carried", param=f"{path}.type")
    schema = mapping(given.get("schema"), f"{path}.schema")
    name = optional(given.get("name"), f"{path}.name") or "answer"
    wrapped = {"name": name, "schema": schema, "strict": is_strict(schema, f"{path}.schema")}
    return {"type": "json_schema", "json_schema": wrapped}


# -- the conversation


def _system(system: Any) -> list[dict[str, Any]]:
    text = _joined(system, "system", "\n")  # as Anthropic's own OpenAI endpoint joins system messages
    return [{"role": "system", "content": text}] if text else []


def _turn(message: dict[str, Any], path: str, reasoning_field: str | None) -> list[dict[str, Any]]:
    check(message, MESSAGES_FIELDS, "messages[]", path)
    role, content = message.get("role"), message.get("content")
    where = f"{path}.content"
    if role == "system":
        return [{"role": "system", "content": _joined(content, where, "\n")}]
    if role not in ("user", "assistant"):
        raise BadRequest(f"{path}.role: {role} is not one of user, assistant, system", param=f"{path}.role")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    blocks = _checked(content, where)
    return _assistant(blocks, reasoning_field) if role == "assistant" else _user(blocks)


def _checked(content: Any, path: str) -> list[tuple[str, dict[str, Any], str]]:
    """Type, block and path of every block that crosses, and of thinking, which may."""
    blocks = []
    for j, block in enumerate(array(content, path)):
        where = f"{path}[{j}]"
        kind = mapping(block, where).get("type")
        crosses = check_type(kind, MESSAGES_FIELDS, where)
        if crosses:
            given = {name: value for name, value in block.items() if name != "type"}
            check(given, MESSAGES_FIELDS, f"content[{kind}]", where)
        if crosses or kind == "thinking":
            blocks.append((str(kind), block, where))
    return blocks


def _user(blocks: list[tuple[str, dict[str, Any], str]]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for kind, block, path in blocks:
        if kind == "tool_result":
            message, more = _tool_result(block, path)
            results.append(message)
            parts += more
        elif kind in _PARTS:
            parts += _parts(kind, block, path)
        else:
            raise BadRequest(f"{path}.type: {kind} cannot stand in a user turn", param=f"{path}.type")
    if parts or not results:
        results.append({"role": "user", "content": _plain(parts)})
    return results


def _assistant(blocks: list[tuple[str, dict[str, Any], str]], reasoning_field: str | None) -> list[dict[str, Any]]:
    texts, calls, thoughts = [], [], []
    for kind, block, path in blocks:
        if kind == "text":
            texts.append(string(block.get("text"), f"{path}.text"))
        elif kind == "tool_use":
            arguments = orjson.dumps(mapping(block.get("input"), f"{path}.input")).decode()
            function = {"name": string(block.get("name"), f"{path}.name"), "arguments": arguments}
            calls.append({"id": string(block.get("id"), f"{path}.id"), "type": "function", "function": function})
        elif kind == "thinking":
            if not block.get("signature"):  # Anthropic signs; what is unsigned came from a chat provider
                thoughts.append(optional(block.get("thinking"), f"{path}.thinking"))
        else:
            raise BadRequest(f"{path}.type: {kind} cannot stand in an assistant turn", param=f"{path}.type")
    text = "".join(texts)
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
        if reasoning_field is not None and any(thoughts):
            message[reasoning_field] = "".join(thoughts)
    return [message]


def _tool_result(block: dict[str, Any], path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tool message, which OpenAI lets hold text only, and the parts that follow it in a user message."""
    call = string(block.get("tool_use_id"), f"{path}.tool_use_id")
    content = block.get("content")
    texts: list[str] = []
    media: list[dict[str, Any]] = []
    if isinstance(content, str):
        texts.append(content)
    elif content is not None:
        for kind, inner, where in _checked(content, f"{path}.content"):
            if kind not in _PARTS:
                raise BadRequest(f"{where}.type: {kind} cannot stand in a tool result", param=f"{where}.type")
            for part in _parts(kind, inner, where):
                if part["type"] == "text":
                    texts.append(part["text"])
                else:
                    media.append(part)
    text = "\n".join(texts)
    if flag(block.get("is_error"), f"{path}.is_error") and not text.lower().startswith("error"):
        text = f"Error: {text}"
    if media:
        media.insert(0, {"type": "text", "text": f"From the result of tool call {call}:"})
        text = text or "The result follows in the next user message."
    return {"role": "tool", "tool_call_id": call, "content": text}, media


def _parts(kind: str, block: dict[str, Any], path: str) -> list[dict[str, Any]]:
    if kind == "text":
        return [{"type": "text", "text": string(block.get("text"), f"{path}.text")}]
    return [image_part(block, path)] if kind == "image" else document_parts(block, path)


_PARTS: Final = ("text", "image", "document")


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A lone text is a string, which every compatible server takes; nothing at all is an empty one."""
    if not parts:
        return ""
    text: str | None = parts[0].get("text") if len(parts) == 1 else None
    return parts if text is None else text


def _joined(content: Any, path: str, seam: str) -> str:
    """The text of a system prompt, which is a string, text blocks or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts = []
    for kind, block, where in _checked(content, path):
        if kind != "text":
            raise BadRequest(f"{where}.type: {kind} cannot stand in a system prompt", param=f"{where}.type")
        texts.append(string(block.get("text"), f"{where}.text"))
    return seam.join(texts)
