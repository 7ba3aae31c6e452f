"""Tools: their definitions, the choice among them, the calls and their ids, in both directions.

Rule: arguments are text at OpenAI and an object at Anthropic; text that is not a JSON object is nobody's call.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import orjson

from runestone.dialects.crossing.expect import array, flag, mapping, optional, string
from runestone.dialects.crossing.fields import CHAT_FIELDS, MESSAGES_FIELDS, check
from runestone.errors import BadRequest

# Anthropic: ids match ^[a-zA-Z0-9_-]+$; other vendors write "functions.get:0".
_NOT_IN_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")

_CHOICES_TO_MESSAGES: Final = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
_CHOICES_TO_CHAT: Final = {"auto": "auto", "none": "none", "any": "required"}


def made_id(prefix: str, *seed: object) -> str:
    """An id for what the provider gave none: the same seed, the same id."""
    digest = hashlib.blake2s(repr(seed).encode(), digest_size=12).hexdigest()
    return f"{prefix}{digest}"


def messages_id(given: str) -> str:
    """A tool call's id as Anthropic takes it."""
    return _NOT_IN_ID.sub("_", given)


def parsed_arguments(arguments: Any) -> dict[str, Any] | None:
    """The object that arguments say (some servers send it itself), {} of empty ones, None when they say no object."""
    if isinstance(arguments, dict):
        return arguments
    if arguments is None:
        return {}
    if not isinstance(arguments, str):
        return None
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return None
    if value is None:  # Groq's "null", for a function without parameters
        return {}
    return value if isinstance(value, dict) else None


def tools_to_messages(tools: Any) -> list[dict[str, Any]]:
    """Anthropic's tools of OpenAI's. Raises BadRequest for any that is not a function."""
    out = []
    for i, tool in enumerate(array(tools, "tools")):
        path = f"tools[{i}]"
        kind = mapping(tool, path).get("type")
        if kind not in (None, "function"):
            raise BadRequest(f"{path}.type: tools of type {kind} cannot be carried to Anthropic", param=f"{path}.type")
        check(tool, CHAT_FIELDS, "tools[]", path)
        function = mapping(tool.get("function"), f"{path}.function")
        check(function, CHAT_FIELDS, "tools[].function", f"{path}.function")
        carried: dict[str, Any] = {"name": string(function.get("name"), f"{path}.function.name")}
        description = optional(function.get("description"), f"{path}.function.description")
        if description:
            carried["description"] = description
        given = function.get("parameters")
        schema = {} if given is None else mapping(given, f"{path}.function.parameters")
        # Anthropic demands the type; OpenAI lets a function without parameters leave everything out.
        carried["input_schema"] = schema if "type" in schema else {"type": "object", "properties": {}, **schema}
        if flag(function.get("strict"), f"{path}.function.strict"):
            carried["strict"] = True
        if tool.get("cache_control"):
            carried["cache_control"] = tool["cache_control"]
        out.append(carried)
    return out


def choice_to_messages(choice: Any, parallel: Any, *, has_tools: bool) -> dict[str, Any] | None:
    """Anthropic's tool_choice of OpenAI's tool_choice and parallel_tool_calls, None where both leave the default."""
    carried: dict[str, Any] | None = None
    if isinstance(choice, str):
        kind = _CHOICES_TO_MESSAGES.get(choice)
        if kind is None:
            raise BadRequest(f"tool_choice: {choice} is not one of auto, none, required", param="tool_choice")
        if has_tools or kind == "any":
            carried = {"type": kind}
    elif choice is not None:
        given = mapping(choice, "tool_choice")
        if given.get("type") != "function":
            raise BadRequest(f"tool_choice.type: {given.get('type')} cannot be carried", param="tool_choice.type")
        function = mapping(given.get("function"), "tool_choice.function")
        carried = {"type": "tool", "name": string(function.get("name"), "tool_choice.function.name")}
    if not flag(True if parallel is None else parallel, "parallel_tool_calls") and has_tools:
        carried = carried or {"type": "auto"}
        if carried["type"] != "none":
            carried["disable_parallel_tool_use"] = True
    return carried


def calls_to_messages(calls: Any, path: str) -> list[dict[str, Any]]:
    """The tool_use blocks of an assistant message's tool_calls."""
    blocks = []
    for j, call in enumerate(array(calls, f"{path}.tool_calls")):
        where = f"{path}.tool_calls[{j}]"
        kind = mapping(call, where).get("type")
        if kind not in (None, "function"):
            raise BadRequest(f"{where}.type: calls of type {kind} cannot be carried", param=f"{where}.type")
        check(call, CHAT_FIELDS, "tool_calls[]", where)
        function = mapping(call.get("function"), f"{where}.function")
        check(function, CHAT_FIELDS, "tool_calls[].function", f"{where}.function")
        arguments = parsed_arguments(function.get("arguments"))
        if arguments is None:
            at = f"{where}.function.arguments"
            raise BadRequest(f"{at} is not a JSON object", param=at)
        block: dict[str, Any] = {
            "type": "tool_use",
            "id": messages_id(string(call.get("id"), f"{where}.id")),
            "name": string(function.get("name"), f"{where}.function.name"),
            "input": arguments,
        }
        if call.get("cache_control"):
            block["cache_control"] = call["cache_control"]
        blocks.append(block)
    return blocks


def tools_to_chat(tools: Any) -> list[dict[str, Any]]:
    """OpenAI's tools of Anthropic's. Raises BadRequest for any but the client's own."""
    out = []
    for i, tool in enumerate(array(tools, "tools")):
        path = f"tools[{i}]"
        kind = mapping(tool, path).get("type")
        if kind not in (None, "custom"):
            raise BadRequest(
                f"{path}.type: {kind} is Anthropic's own tool and cannot be carried to this provider",
                param=f"{path}.type",
            )
        check(tool, MESSAGES_FIELDS, "tools[]", path)
        function: dict[str, Any] = {"name": string(tool.get("name"), f"{path}.name")}
        description = optional(tool.get("description"), f"{path}.description")
        if description:
            function["description"] = description
        function["parameters"] = mapping(tool.get("input_schema"), f"{path}.input_schema")
        if flag(tool.get("strict"), f"{path}.strict"):
            function["strict"] = True
        out.append({"type": "function", "function": function})
    return out


def choice_to_chat(choice: Any, *, has_tools: bool) -> dict[str, Any]:
    """OpenAI's tool_choice and parallel_tool_calls, as far as they are asked."""
    if choice is None:
        return {}
    given = mapping(choice, "tool_choice")
    check(given, MESSAGES_FIELDS, "tool_choice", "tool_choice")
    kind = given.get("type")
    out: dict[str, Any] = {}
    if kind == "tool":
        name = string(given.get("name"), "tool_choice.name")
        out["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in _CHOICES_TO_CHAT:
        if has_tools or kind == "any":  # OpenAI refuses a choice among no tools, Anthropic does not mind
            out["tool_choice"] = _CHOICES_TO_CHAT[kind]
    else:
        raise BadRequest("tool_choice.type must be one of auto, any, tool, none", param="tool_choice.type")
    alone = flag(given.get("disable_parallel_tool_use"), "tool_choice.disable_parallel_tool_use")
    if alone and has_tools and kind != "none":
        out["parallel_tool_calls"] = False
    return out
