"""What the simulated model may be asked, read strictly from an OpenAI body.

Rule: every field that is understood is checked, and the BadRequest names it as OpenAI does (`messages[0].role`).
Fields that are not known are let through: vendors add some every month. Deliberately absent: custom (grammar) tools,
the old `functions`, `logprobs`; they are refused, because an answer without what was asked for would mislead.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

from runestone.core.json import JsonObject
from runestone.core.tokens import estimate_messages, estimate_tokens, pieces
from runestone.errors import BadRequest

MAX_CHOICES = 128
MAX_STOPS = 4
MAX_TOOLS = 128
MAX_INPUTS = 2_048
MAX_NUMBERS = 2_000_000
"""Numbers of all embeddings of one answer: more than any vendor's largest answer, and half a second of work."""
MAX_SCHEMA = 64 * 1024
"""Bytes of a JSON schema that is filled in."""
MAX_INPUT_IDS = 131_072

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_NOT_PROMPT = frozenset({"stream", "stream_options"})  # how an answer travels does not change what it is


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is its JSON schema."""

    index: int  # its place in `tools`
    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Sampling:
    """What chat and text completions have in common. `limit` is in tokens; `identity` names the request."""

    model: str
    n: int
    limit: int | None
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    identity: str  # hex: the same for the same request
    dice: bytes  # what the words depend on besides the prompt
    greedy: bool  # temperature 0: all choices are the same


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request. `tool_choice` is auto, none, required, or "=" and the name of the one tool to call."""

    sampling: Sampling
    prompt: str  # the last user message
    results: str  # what tools have answered since, "" when none has
    prompt_tokens: int
    tools: tuple[Tool, ...]
    tool_choice: str
    parallel: bool
    json_mode: bool
    schema: JsonObject | None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A text completion request: every prompt is answered `n` times."""

    sampling: Sampling
    prompts: tuple[str, ...]
    prompt_tokens: int
    echo: bool


def read_chat(fields: JsonObject) -> ChatRequest:
    """Raises BadRequest with the path of the first wrong field."""
    messages = _messages(fields)
    for name in ("functions", "function_call"):
        if fields.get(name) is not None:
            raise BadRequest(f"'{name}' is not supported, use 'tools'.", param=name)
    tools = _tools(fields)
    last_user = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=-1)
    prompt = text_of(messages[last_user].get("content"))
    results = [text_of(m.get("content")) for m in messages[last_user + 1 :] if m["role"] in ("tool", "function")]
    json_mode, schema = _response_format(fields)
    return ChatRequest(
        sampling=_sampling(fields, "messages"),
        prompt=prompt,
        results=" ".join(results) if last_user >= 0 else "",
        prompt_tokens=estimate_messages(fields),
        tools=tools,
        tool_choice=_tool_choice(fields, tools),
        parallel=_boolean(fields, "parallel_tool_calls", default=True),
        json_mode=json_mode,
        schema=schema,
    )


def read_completion(fields: JsonObject) -> CompletionRequest:
    """Raises BadRequest with the path of the first wrong field."""
    texts = read_texts(fields, "prompt") if fields.get("prompt") is not None else [("", 1)]
    integer(fields, "best_of", 1, 20)
    sampling = _sampling(fields, "prompt")
    if sampling.n * len(texts) > MAX_CHOICES:
        raise BadRequest(f"'prompt' times 'n' must be at most {MAX_CHOICES} choices.", param="n")
    return CompletionRequest(
        sampling=sampling,
        prompts=tuple(text for text, _ in texts),
        prompt_tokens=sum(tokens for _, tokens in texts),
        echo=_boolean(fields, "echo", default=False),
    )


def without_beginning(fields: JsonObject) -> tuple[JsonObject, str]:
    """A request that ends with the assistant's own words, without them; its limit is one of what follows them."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        return fields, ""
    last = messages[-1]
    begun = last.get("content") if isinstance(last, dict) and last.get("role") == "assistant" else None
    if not isinstance(begun, str) or not begun or last.get("tool_calls"):
        return fields, ""
    longer = {
        name: value + len(pieces(begun))
        for name in ("max_tokens", "max_completion_tokens")
        if type(value := fields.get(name)) is int
    }
    return {**fields, **longer, "messages": messages[:-1]}, begun


def read_model(fields: JsonObject) -> str:
    """The model's name. Raises BadRequest when there is none."""
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", param="model")
    return model


def read_texts(fields: JsonObject, name: str) -> list[tuple[str, int]]:
    """The texts of `name` with their tokens: a string, strings, token ids, or lists of token ids (written as words)."""
    value = fields.get(name)
    if isinstance(value, str):
        return [(value, estimate_tokens(value))]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_INPUT_IDS:
        raise BadRequest(f"'{name}' must be a string, or a list of strings, token ids or lists of them.", param=name)
    if _is_ids(value):
        return [_ids_text(value)]
    if len(value) > MAX_INPUTS:
        raise BadRequest(f"'{name}' must have at most {MAX_INPUTS} items.", param=name)
    texts = []
    for index, item in enumerate(value):
        if isinstance(item, str):
            texts.append((item, estimate_tokens(item)))
        elif isinstance(item, list) and _is_ids(item):
            texts.append(_ids_text(item))
        else:
            raise BadRequest(f"'{name}[{index}]' must be a string or a list of token ids.", param=f"{name}[{index}]")
    return texts


def _is_ids(value: list[object]) -> bool:
    return bool(value) and all(type(item) is int and item >= 0 for item in value)


def _ids_text(ids: list[object]) -> tuple[str, int]:
    return " ".join(map(str, ids)), len(ids)


def integer(fields: JsonObject, name: str, low: int, high: int) -> int | None:
    """The whole number `name`, None when it is absent or null."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest(f"'{name}' must be an integer.", param=name)
    if not low <= value <= high:
        raise BadRequest(f"'{name}' must be between {low} and {high}.", param=name)
    return value


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return " ".join(text for text in texts if isinstance(text, str))


def _boolean(fields: JsonObject, name: str, *, default: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be a boolean.", param=name)
    return value


def _sampling(fields: JsonObject, asked: str) -> Sampling:
    for name, (low, high) in _RANGES.items():
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise BadRequest(f"'{name}' must be a number between {low} and {high}.", param=name)
    if fields.get("logprobs") not in (None, False) or fields.get("top_logprobs") is not None:
        raise BadRequest("The simulated model has no log probabilities.", param="logprobs")
    limit = integer(fields, "max_tokens", 1, 1_000_000)
    completion_limit = integer(fields, "max_completion_tokens", 1, 1_000_000)
    seed = integer(fields, "seed", -(2**63), 2**63 - 1)
    stream = _boolean(fields, "stream", default=False)
    model = read_model(fields)
    greedy = fields.get("temperature") == 0
    dice = None if greedy else (seed, fields.get("temperature"), fields.get("top_p"))
    return Sampling(
        model=model,
        n=integer(fields, "n", 1, MAX_CHOICES) or 1,
        limit=limit if completion_limit is None else completion_limit,
        stops=_stops(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream=stream),
        identity=_digest({key: value for key, value in fields.items() if key not in _NOT_PROMPT}).hex()[:32],
        dice=_digest([model, fields.get(asked), dice]),
        greedy=greedy,
    )


def _digest(value: object) -> bytes:
    try:
        return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()
    except orjson.JSONEncodeError:  # deeper than it writes, or a lone surrogate
        raise BadRequest("The request cannot be written as JSON again: it is nested too deeply.") from None


def _stops(fields: JsonObject) -> tuple[str, ...]:
    stop = fields.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(item, str) for item in stops):
        raise BadRequest("'stop' must be a string or a list of strings.", param="stop")
    if len(stops) > MAX_STOPS:
        raise BadRequest(f"'stop' must have at most {MAX_STOPS} items.", param="stop")
    return tuple(item for item in stops if item)


def _include_usage(fields: JsonObject, *, stream: bool) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    if not stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is enabled.", param="stream_options")
    value = options.get("include_usage")
    if value is not None and not isinstance(value, bool):
        raise BadRequest("'include_usage' must be a boolean.", param="stream_options.include_usage")
    return bool(value)


def _messages(fields: JsonObject) -> list[JsonObject]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.", param="messages")
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise BadRequest(f"'{path}' must be an object.", param=path)
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in _ROLES:
            raise BadRequest(f"'{path}.role' must be one of {', '.join(sorted(_ROLES))}.", param=f"{path}.role")
        if isinstance(content, list):
            if not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
                raise BadRequest(f"'{path}.content' must hold parts with a type.", param=f"{path}.content")
        elif not isinstance(content, str) and not (content is None and role == "assistant"):
            raise BadRequest(f"'{path}.content' must be a string or a list of parts.", param=f"{path}.content")
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise BadRequest(f"'{path}.tool_call_id' is required.", param=f"{path}.tool_call_id")
    return messages


def _tools(fields: JsonObject) -> tuple[Tool, ...]:
    tools = fields.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise BadRequest(f"'tools' must be a list of at most {MAX_TOOLS} tools.", param="tools")
    return tuple(_tool(tool, index) for index, tool in enumerate(tools))


def _tool(tool: object, index: int) -> Tool:
    path = f"tools[{index}]"
    if not isinstance(tool, dict):
        raise BadRequest(f"'{path}' must be an object.", param=path)
    if tool.get("type") != "function":
        raise BadRequest(f"'{path}.type' must be 'function'.", param=f"{path}.type")
    function = tool.get("function")
    if not isinstance(function, dict):
        raise BadRequest(f"'{path}.function' must be an object.", param=f"{path}.function")
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not name:
        raise BadRequest(f"'{path}.function.name' must be a string.", param=f"{path}.function.name")
    if not isinstance(description, str):
        raise BadRequest(f"'{path}.function.description' must be a string.", param=f"{path}.function.description")
    if isinstance(parameters := function.get("parameters"), dict):
        bounded_schema(parameters, f"{path}.function.parameters")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"'{path}.function.parameters' must be an object.", param=f"{path}.function.parameters")
    return Tool(index, name, description, parameters)


def _tool_choice(fields: JsonObject, tools: tuple[Tool, ...]) -> str:
    choice = fields.get("tool_choice")
    if choice is None:
        return "auto"
    if not tools:
        raise BadRequest("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise BadRequest("'tool_choice' must be auto, none, required or name a function.", param="tool_choice")
    if all(tool.name != name for tool in tools):
        raise BadRequest(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
    return "=" + name


def _response_format(fields: JsonObject) -> tuple[bool, JsonObject | None]:
    form = fields.get("response_format")
    if form is None:
        return False, None
    kind = form.get("type") if isinstance(form, dict) else None
    if not isinstance(form, dict) or not isinstance(kind, str):
        raise BadRequest("'response_format.type' must be a string.", param="response_format.type")
    if kind == "text":
        return False, None
    if kind == "json_object":
        return True, None
    if kind != "json_schema":
        raise BadRequest(
            "'response_format.type' must be text, json_object or json_schema.", param="response_format.type"
        )
    outer = form.get("json_schema")
    schema = outer.get("schema") if isinstance(outer, dict) else None
    if not isinstance(schema, dict):
        path = "response_format.json_schema.schema"
        raise BadRequest(f"'{path}' must be an object.", param=path)
    bounded_schema(schema, "response_format.json_schema.schema")
    return True, schema


def bounded_schema(schema: JsonObject, path: str) -> None:
    """Raises BadRequest for a schema that would take long to fill in."""
    if len(orjson.dumps(schema)) > MAX_SCHEMA:
        raise BadRequest(f"'{path}' must be at most {MAX_SCHEMA} bytes.", param=path)
