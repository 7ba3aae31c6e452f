"""Every field of both request dialects, and what becomes of it when a call crosses.

docs/crossing.md is this table for people.

Rule: a field is carried, or dropped for a reason that stands here, or refused by name. A field that is not in the table
is refused; null is as if absent. "Dropped" is only for advice: the answer is as right without it.
Deliberately absent: how a value is rewritten; that is in request_to_messages.py and request_to_chat.py.

Paths: `messages[].name`; `content[text].cache_control` is a field of content parts or blocks of that type, wherever
they stand; `content[text]` alone is the type itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from runestone.dialects.crossing.expect import string
from runestone.errors import BadRequest

Fate: TypeAlias = Literal["crosses", "dropped", "refused"]

# The vendors' pages the fates rest on.
CHAT = "https://platform.openai.com/docs/api-reference/chat/create"
MESSAGES = "https://platform.claude.com/docs/en/api/messages"
COMPATIBLE = "https://platform.claude.com/docs/en/api/openai-sdk"
EFFORT = "https://platform.claude.com/docs/en/build-with-claude/effort"
THINKING = "https://platform.claude.com/docs/en/build-with-claude/extended-thinking"
TOOL_USE = "https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview"
SCHEMA = "https://platform.claude.com/docs/en/build-with-claude/structured-outputs"
CACHING = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching"
CITATIONS = "https://platform.claude.com/docs/en/build-with-claude/citations"
PDF = "https://platform.openai.com/docs/guides/pdf-files"
REASONING = "https://openrouter.ai/docs/use-cases/reasoning-tokens"
DEEPSEEK = "https://api-docs.deepseek.com/guides/thinking_mode"


@dataclass(frozen=True, slots=True)
class Field:
    """`note` says what it becomes (crosses) or why not; `harmless` values of a refused field say nothing and pass."""

    fate: Fate
    note: str
    page: str
    harmless: tuple[Any, ...] = ()
    code: str | None = None


Table: TypeAlias = dict[str, Field]


def _crosses(note: str, page: str = MESSAGES) -> Field:
    return Field("crosses", note, page)


def _dropped(note: str, page: str = COMPATIBLE) -> Field:
    return Field("dropped", note, page)


def _refused(note: str, page: str, *harmless: Any) -> Field:
    return Field("refused", note, page, harmless)


CHAT_FIELDS: Final[Table] = {
    "model": _crosses("model: the name the target has at the provider"),
    "messages": _crosses("messages and system"),
    "stream": _crosses("stream"),
    "stream_options": _crosses("include_usage decides about the usage chunk of the crossed stream", CHAT),
    "stream_options.include_usage": _crosses("the usage chunk of the crossed stream", CHAT),
    "stream_options.include_obfuscation": _dropped("padding of OpenAI's own streams", CHAT),
    "max_tokens": _crosses("max_tokens; where neither is given, the configured default, for Anthropic needs one"),
    "max_completion_tokens": _crosses("max_tokens; it wins over max_tokens"),
    "temperature": _crosses("temperature; above 1 it is refused, Anthropic's scale ends there"),
    "top_p": _crosses("top_p"),
    "top_k": _crosses("top_k (a field of compatible servers, and of Anthropic)"),
    "stop": _crosses("stop_sequences; a blank one is refused, Anthropic takes none", COMPATIBLE),
    "tools": _crosses("tools", TOOL_USE),
    "tools[].type": _crosses("only function is taken; custom and vendor tools are refused by name", TOOL_USE),
    "tools[].function": _crosses("the tool", TOOL_USE),
    "tools[].function.name": _crosses("tools[].name", TOOL_USE),
    "tools[].function.description": _crosses("tools[].description", TOOL_USE),
    "tools[].function.parameters": _crosses("tools[].input_schema; absent is an object without properties", TOOL_USE),
    "tools[].function.strict": _crosses("tools[].strict", SCHEMA),
    "tools[].cache_control": _crosses("tools[].cache_control", CACHING),
    "tool_choice": _crosses("auto, none; required (Mistral: any) is any, a named function is tool", TOOL_USE),
    "parallel_tool_calls": _crosses("false is tool_choice.disable_parallel_tool_use", TOOL_USE),
    "reasoning_effort": _crosses(
        "adaptive thinking with output_config.effort; on older models a thinking budget", EFFORT
    ),
    "reasoning": _crosses("the same, in OpenRouter's form", REASONING),
    "reasoning.effort": _crosses("as reasoning_effort", REASONING),
    "reasoning.max_tokens": _crosses("thinking.budget_tokens", REASONING),
    "reasoning.enabled": _crosses("true: as effort medium; false: as effort none", REASONING),
    "reasoning.exclude": _crosses("true: thinking.display is omitted", REASONING),
    "include_reasoning": _refused("OpenRouter's older switch: use reasoning.exclude", REASONING, True),
    "thinking": _crosses("thinking, as Anthropic's own OpenAI endpoint and DeepSeek take it", COMPATIBLE),
    "thinking.type": _crosses("enabled without a budget is as effort medium", DEEPSEEK),
    "thinking.budget_tokens": _crosses("thinking.budget_tokens", THINKING),
    "thinking.display": _crosses("thinking.display", THINKING),
    "response_format": _crosses("output_config.format", SCHEMA),
    "response_format.type": _crosses(
        "text and json_schema; json_object is refused: Anthropic has no JSON mode", SCHEMA
    ),
    "response_format.json_schema": _crosses("output_config.format", SCHEMA),
    "response_format.json_schema.schema": _crosses("output_config.format.schema", SCHEMA),
    "response_format.json_schema.name": _dropped("a label; Anthropic's format has none", SCHEMA),
    "response_format.json_schema.description": _dropped("a label; Anthropic's format has none", SCHEMA),
    "response_format.json_schema.strict": _dropped("Anthropic's format is always strict", SCHEMA),
    "user": _crosses("metadata.user_id"),
    "safety_identifier": _crosses("metadata.user_id, where user is not given", CHAT),
    "service_tier": _crosses("default is standard_only; every other is OpenAI's own price class and dropped"),
    "seed": _dropped("best effort even at OpenAI, which promises no determinism", CHAT),
    "random_seed": _dropped("Mistral's name of seed", CHAT),
    "metadata": _dropped("tags in the vendor's dashboard", CHAT),
    "prediction": _dropped("makes the answer faster, not other", CHAT),
    "prompt_cache_key": _dropped("steers OpenAI's own cache", CHAT),
    "prompt_cache_retention": _dropped("steers OpenAI's own cache", CHAT),
    "prompt_cache_options": _dropped("steers OpenAI's own cache", CHAT),
    "usage": _dropped("OpenRouter's switch for usage in answers; it is always there", REASONING),
    "n": _refused("Anthropic gives one answer a call", COMPATIBLE, 1),
    "logprobs": _refused("Anthropic gives no log probabilities", COMPATIBLE, False),
    "top_logprobs": _refused("Anthropic gives no log probabilities", COMPATIBLE, 0),
    "logit_bias": _refused("Anthropic has no such control", COMPATIBLE, {}),
    "frequency_penalty": _refused("Anthropic has no such control", COMPATIBLE, 0),
    "presence_penalty": _refused("Anthropic has no such control", COMPATIBLE, 0),
    "verbosity": _refused("Anthropic has no such control: say it in the prompt", CHAT, "medium"),
    "store": _refused("the answer cannot be stored at OpenAI", COMPATIBLE, False),
    "modalities": _refused("Anthropic answers in text only", COMPATIBLE, ["text"]),
    "audio": _refused("Anthropic answers in text only", COMPATIBLE),
    "web_search_options": _refused("OpenAI's own search", CHAT),
    "moderation": _refused("OpenAI's own moderation", CHAT),
    "functions": _refused("deprecated since 2023: use tools", CHAT, []),
    "function_call": _refused("deprecated since 2023: use tool_choice", CHAT, "none"),
    "messages[].role": _crosses(
        "system and developer become system, wherever they stand; tool a tool_result; function is refused"
    ),
    "messages[].content": _crosses("content; empty and blank texts are left out, Anthropic refuses them"),
    "messages[].name": _dropped("Anthropic ignores it too"),
    "messages[].tool_calls": _crosses("tool_use blocks", TOOL_USE),
    "messages[].tool_call_id": _crosses("tool_result.tool_use_id; signs Anthropic does not take become _", TOOL_USE),
    "messages[].refusal": _crosses("a text block"),
    "messages[].reasoning_details": _crosses("signed thinking blocks; unsigned reasoning is dropped", THINKING),
    "messages[].reasoning_content": _dropped("unsigned, and Anthropic takes only signed thinking", THINKING),
    "messages[].reasoning": _dropped("unsigned, and Anthropic takes only signed thinking", THINKING),
    "messages[].annotations": _dropped("part of an answer, echoed by clients", CHAT),
    "messages[].prefix": _dropped("an assistant message at the end is continued anyway", DEEPSEEK),
    "messages[].cache_control": _crosses("cache_control of the message's last block", CACHING),
    "messages[].audio": _refused("Anthropic has no audio", COMPATIBLE),
    "messages[].function_call": _refused("deprecated since 2023: use tool_calls", CHAT),
    "tool_calls[].id": _crosses("tool_use.id", TOOL_USE),
    "tool_calls[].type": _crosses("only function is taken", TOOL_USE),
    "tool_calls[].index": _dropped("a stream's numbering, echoed by clients", CHAT),
    "tool_calls[].function": _crosses("the tool_use block", TOOL_USE),
    "tool_calls[].function.name": _crosses("tool_use.name", TOOL_USE),
    "tool_calls[].function.arguments": _crosses("tool_use.input; text that is not a JSON object is refused", TOOL_USE),
    "tool_calls[].cache_control": _crosses("tool_use.cache_control", CACHING),
    "content[text]": _crosses("a text block"),
    "content[text].text": _crosses("text"),
    "content[text].cache_control": _crosses("cache_control", CACHING),
    "content[text].prompt_cache_breakpoint": _dropped("steers OpenAI's own cache", CHAT),
    "content[refusal]": _crosses("a text block"),
    "content[refusal].refusal": _crosses("text"),
    "content[image_url]": _crosses("an image block"),
    "content[image_url].image_url": _crosses("source"),
    "content[image_url].image_url.url": _crosses("source: base64 of a data: URL, url of an http one"),
    "content[image_url].image_url.detail": _dropped("Anthropic sizes images itself"),
    "content[image_url].cache_control": _crosses("cache_control", CACHING),
    "content[file]": _crosses("a document block"),
    "content[file].file": _crosses("source"),
    "content[file].file.file_data": _crosses("source: PDF as base64, plain text as text"),
    "content[file].file.filename": _crosses("title"),
    "content[file].file.file_id": _refused("the file is at OpenAI", COMPATIBLE),
    "content[file].cache_control": _crosses("cache_control", CACHING),
    "content[thinking]": _dropped("Mistral's form of unsigned reasoning", THINKING),
    "content[input_audio]": _refused("Anthropic has no audio", COMPATIBLE),
}
"""A client wrote Chat Completions, the provider speaks Messages."""


MESSAGES_FIELDS: Final[Table] = {
    "model": _crosses("model: the name the target has at the provider", CHAT),
    "messages": _crosses("messages", CHAT),
    "system": _crosses("a first message with role system; several blocks are joined by a line break", CHAT),
    "stream": _crosses("stream, with stream_options.include_usage", CHAT),
    "max_tokens": _crosses("max_completion_tokens, or max_tokens where the provider wants that", CHAT),
    "temperature": _crosses("temperature", CHAT),
    "top_p": _crosses("top_p", CHAT),
    "top_k": _refused("Chat Completions has no such field", CHAT),
    "stop_sequences": _crosses("stop", CHAT),
    "tools": _crosses("tools", CHAT),
    "tools[].type": _crosses("only custom is taken; Anthropic's own server and client tools are refused by name", CHAT),
    "tools[].name": _crosses("tools[].function.name", CHAT),
    "tools[].description": _crosses("tools[].function.description", CHAT),
    "tools[].input_schema": _crosses("tools[].function.parameters", CHAT),
    "tools[].strict": _crosses("tools[].function.strict", CHAT),
    "tools[].cache_control": _dropped("chat providers cache by themselves", CACHING),
    "tools[].eager_input_streaming": _dropped("when pieces of the input are sent, not what is in them", TOOL_USE),
    "tools[].allowed_callers": _refused("Anthropic's code execution", TOOL_USE, ["direct"], []),
    "tools[].defer_loading": _refused("Anthropic's tool search", TOOL_USE, False),
    "tools[].input_examples": _refused("Chat Completions has no place for them: use the description", TOOL_USE, []),
    "tool_choice": _crosses("auto, none; any is required, tool a named function", CHAT),
    "tool_choice.type": _crosses("tool_choice", CHAT),
    "tool_choice.name": _crosses("tool_choice.function.name", CHAT),
    "tool_choice.disable_parallel_tool_use": _crosses("true is parallel_tool_calls false", CHAT),
    "thinking": _crosses(
        "reasoning_effort by its budget; adaptive and disabled send nothing: the model's default", THINKING
    ),
    "thinking.type": _crosses("see thinking", THINKING),
    "thinking.budget_tokens": _crosses(
        "reasoning_effort: below 4096 low, below 16384 medium, from there high", THINKING
    ),
    "thinking.display": _dropped("how much of the thinking is shown", THINKING),
    "output_config": _crosses("reasoning_effort and response_format", EFFORT),
    "output_config.effort": _crosses("reasoning_effort, by the same name; it wins over a budget", EFFORT),
    "output_config.format": _crosses("response_format", SCHEMA),
    "output_config.format.type": _crosses("json_schema", SCHEMA),
    "output_config.format.schema": _crosses("json_schema.schema; strict where it is in OpenAI's strict subset", SCHEMA),
    "output_config.format.name": _crosses("json_schema.name", SCHEMA),
    "output_config.task_budget": _refused("Chat Completions has no such field", MESSAGES),
    "output_format": _crosses("response_format: the beta's name of output_config.format", SCHEMA),
    "output_format.type": _crosses("json_schema", SCHEMA),
    "output_format.schema": _crosses("as output_config.format.schema", SCHEMA),
    "output_format.name": _crosses("json_schema.name", SCHEMA),
    "metadata": _crosses("user", CHAT),
    # The SDK's tool runner tries this first, and sends the whole history when it is refused with this code.
    "thread": Field("refused", "the conversation is kept at Anthropic", MESSAGES, code="thread_unsupported_request"),
    "metadata.user_id": _crosses("user; over 64 signs, OpenAI's limit, its SHA-256", CHAT),
    "service_tier": _crosses("standard_only is default; auto is dropped, it is what both do unasked", CHAT),
    "cache_control": _dropped("chat providers cache by themselves", CACHING),
    "diagnostics": _dropped("remarks beside the answer", MESSAGES),
    "speed": _refused("Anthropic's own", MESSAGES, "standard"),
    "inference_geo": _refused("where the data may go cannot be promised of another provider", MESSAGES),
    "context_management": _refused("Anthropic edits the conversation at its side", MESSAGES),
    "compaction": _refused("Anthropic edits the conversation at its side", MESSAGES),
    "container": _refused("Anthropic's code execution", MESSAGES),
    "mcp_servers": _refused("Anthropic calls these at its side", MESSAGES, []),
    "fallbacks": _refused("Anthropic's own", MESSAGES, []),
    "user_profile_id": _refused("Anthropic's own", MESSAGES),
    "workspace_id": _refused("Anthropic's own", MESSAGES),
    "betas": _dropped("names of Anthropic's betas; what they allow is judged field by field", MESSAGES),
    "messages[].role": _crosses("user, assistant, system", CHAT),
    "messages[].content": _crosses("content, tool_calls, messages with role tool", CHAT),
    "content[text]": _crosses("a text part; texts of one assistant turn are joined", CHAT),
    "content[text].text": _crosses("text", CHAT),
    "content[text].cache_control": _dropped("chat providers cache by themselves", CACHING),
    "content[text].citations": _dropped("notes on a past answer", CITATIONS),
    "content[image]": _crosses("an image_url part", CHAT),
    "content[image].source": _crosses("a data: URL of base64, the URL itself; files at Anthropic are refused", CHAT),
    "content[image].cache_control": _dropped("chat providers cache by themselves", CACHING),
    "content[document]": _crosses("a file part (PDF), text parts (plain text, content)", PDF),
    "content[document].source": _crosses(
        "file.file_data; URLs and files at Anthropic are refused: OpenAI fetches none", PDF
    ),
    "content[document].title": _crosses("file.filename; the line before a plain text", PDF),
    "content[document].context": _crosses("a text before the document", PDF),
    "content[document].citations": _refused("nobody would cite", CITATIONS, {"enabled": False}),
    "content[document].cache_control": _dropped("chat providers cache by themselves", CACHING),
    "content[tool_use]": _crosses("tool_calls[]", CHAT),
    "content[tool_use].id": _crosses("tool_calls[].id", CHAT),
    "content[tool_use].name": _crosses("tool_calls[].function.name", CHAT),
    "content[tool_use].input": _crosses("tool_calls[].function.arguments", CHAT),
    "content[tool_use].cache_control": _dropped("chat providers cache by themselves", CACHING),
    "content[tool_use].caller": _refused("called by Anthropic's code execution", TOOL_USE, {"type": "direct"}),
    "content[tool_result]": _crosses("a message with role tool", CHAT),
    "content[tool_result].tool_use_id": _crosses("tool_call_id", CHAT),
    "content[tool_result].content": _crosses(
        "text; images and PDFs follow in a user message that names the call", CHAT
    ),
    "content[tool_result].is_error": _crosses("true: the text begins with Error:", CHAT),
    "content[tool_result].cache_control": _dropped("chat providers cache by themselves", CACHING),
    "content[thinking]": _dropped(
        "another vendor's thinking; DeepSeek gets its own back, where so configured", DEEPSEEK
    ),
    "content[redacted_thinking]": _dropped("only Anthropic can read it", THINKING),
    "content[search_result]": _refused("its use is to be cited", CITATIONS),
    "content[server_tool_use]": _refused("Anthropic's own tool", TOOL_USE),
    "content[container_upload]": _refused("the file is at Anthropic", TOOL_USE),
}
"""A client wrote Messages, the provider speaks Chat Completions."""


def check(given: dict[str, Any], table: Table, at: str = "", path: str = "") -> None:
    """Raises BadRequest for the first field of `given` that does not cross: `at` in the table is `path` here."""
    for name, value in given.items():
        if value is None:
            continue
        field = table.get(f"{at}.{name}" if at else name)
        where = f"{path}.{name}" if path else name
        if field is None:
            raise BadRequest(f"{where} is not known here and cannot be carried to this provider", param=where)
        if field.fate == "refused" and value not in field.harmless:
            raise BadRequest(f"{where} cannot be carried to this provider: {field.note}", param=where, code=field.code)


def check_type(kind: object, table: Table, path: str) -> bool:
    """Whether content of type `kind` crosses (False: it is dropped). Raises BadRequest naming `path`.type otherwise."""
    kind = string(kind, f"{path}.type")
    field = table.get(f"content[{kind}]")
    if field is None or field.fate == "refused":
        why = f": {field.note}" if field else ""
        raise BadRequest(
            f"{path}.type: content of type {kind} cannot be carried to this provider{why}", param=f"{path}.type"
        )
    return field.fate == "crosses"
