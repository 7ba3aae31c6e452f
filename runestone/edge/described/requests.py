"""What the endpoints take: the JSON schemas of bodies.

Rule: what the code checks, and nothing more. Types and limits are taken from the tables and constants it checks by;
only the texts are written here. Fields that nobody checks may hold anything, for they are the provider's business, and
names that are not listed pass too.
Deliberately absent: what JSON schema cannot say, such as that each `custom_id` of a batch is another one. Answers say
it, with a 400 that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.core.steer import CAPABILITIES, LONGEST_TEXT
from runestone.dialects import anthropic, openai
from runestone.edge.admin import CLEARED_BY
from runestone.edge.batch_lines import CHAT, MAX_CONCURRENCY, MAX_ID, MAX_LINES, OPERATIONS
from runestone.edge.described.schemas import fields, many, maybe, one, record

MODEL: Final = one(
    "string",
    "`provider/model`, a name from [models] or [aliases], or a model's own name.",
    minLength=1,
)
STEERING: Final[JsonObject] = {
    "provider": {
        "description": "Only targets of this provider, by its name in the configuration. An object is OpenRouter's own "
        "field: it goes up, and steers nothing here.",
        "type": ["string", "object", "null"],
        "minLength": 1,
        "maxLength": LONGEST_TEXT,
    },
    "model_family": maybe(
        "string",
        "Only targets whose model's name begins with it, at word borders.",
        minLength=1,
        maxLength=LONGEST_TEXT,
    ),
    "capabilities": maybe(
        "array", "Only targets that have all of them.", items=one("string", enum=sorted(CAPABILITIES))
    ),
    "max_cost_per_token": maybe(
        "number", "US dollars: no target whose output is known to cost more.", minimum=0, exclusiveMaximum=1e300
    ),
    "tenant_id": maybe("string", "For records; steers nothing.", minLength=1, maxLength=LONGEST_TEXT),
}
"""The fields that steer a call (core/steer.py); they are not sent up."""

_MESSAGES: Final = many(
    record(
        "One message, in the vendor's own form.",
        {
            "role": one("string", "system, user, assistant, tool, ..."),
            "content": {"description": "A string, or an array of parts."},
        },
        ("role",),
    ),
    "The conversation so far.",
    minItems=1,
)
_SAID: Final[Mapping[str, str]] = {
    "stream": "true: the answer comes as server-sent events.",
    "stream_options": '{"include_usage": true}: the stream ends with the tokens it took.',
    "temperature": "How freely tokens are chosen; 0 takes the likeliest.",
    "top_p": "Tokens are chosen among the likeliest, of this share together.",
    "top_k": "Tokens are chosen among so many of the likeliest.",
    "n": "How many answers.",
    "stop": "The answer ends before this text, or any of these.",
    "stop_sequences": "The answer ends before any of these.",
    "max_tokens": "The most tokens of the answer.",
    "max_completion_tokens": "The most tokens of the answer, reasoning included.",
    "presence_penalty": "Makes what was said once less likely.",
    "frequency_penalty": "Makes what was said often less likely.",
    "logit_bias": "Makes tokens more or less likely, by their number.",
    "seed": "The same seed asks for the same answer.",
    "user": "Who asks, for the provider's records.",
    "metadata": "Who asks, for the provider's records.",
    "tools": "What the model may call.",
    "tool_choice": "Whether it must, and which.",
    "parallel_tool_calls": "Whether it may call several at once.",
    "response_format": "Text, JSON, or JSON of a schema.",
    "logprobs": "The likelihood of tokens: true for a chat's own, or of a completion how many for each place.",
    "top_logprobs": "So many of the likeliest tokens for each place.",
    "modalities": "What the answer may be, such as text and audio.",
    "prompt": "What to go on from: a text, several, tokens as numbers, or several of those.",
    "suffix": "What comes behind the answer.",
    "echo": "true: the answer begins with the prompt.",
    "input": "What to embed: a text, several, tokens as numbers, or several of those.",
    "dimensions": "How many numbers an embedding has.",
    "encoding_format": "float, or base64.",
    "system": "What the model is told before the conversation: a text, or parts.",
    "thinking": "Whether the model thinks first, and for how many tokens at most.",
}


def _of_openai(operation: Operation) -> tuple[JsonObject, tuple[str, ...]]:
    """Properties, and which of them must be there."""
    required = openai.REQUIRED.get(operation)
    known = fields(openai.TYPES[operation], _SAID, positive=openai.POSITIVE, required=required)
    if operation is Operation.CHAT:
        required, known = "messages", {"messages": _MESSAGES, **known}
    return known, (required,) if required is not None else ()


def _of_anthropic(operation: Operation) -> tuple[JsonObject, tuple[str, ...]]:
    """The same of the other dialect."""
    required = "max_tokens" if operation is Operation.MESSAGES else None
    known = fields(anthropic.TYPES, _SAID, positive=anthropic.POSITIVE, required=required)
    return {"messages": _MESSAGES, **known}, ("messages", required) if required is not None else ("messages",)


def _call(known: JsonObject, required: tuple[str, ...]) -> JsonObject:
    return record("", {"model": MODEL, **known, **STEERING}, ("model", *required))


def _at_deployment(known: JsonObject, required: tuple[str, ...]) -> JsonObject:
    """The same where the path names the model: one in the body is passed over, whatever it is."""
    model = {"description": "Passed over: the path names the model."}
    return record("", {"model": model, **known, **STEERING}, required)


_LINE: Final = record(
    "One call.",
    {
        "custom_id": maybe(
            "string",
            "Its name in the answer, another one in each line; without it the line's place.",
            minLength=1,
            maxLength=MAX_ID,
        ),
        "url": maybe("string", f"{', '.join(OPERATIONS)}; {CHAT} where it is not there.", minLength=1, examples=[CHAT]),
        "method": maybe("string", "POST.", minLength=1, examples=["POST"]),
        "body": {"description": "What the endpoint alone would be sent."},
    },
)
_CLEARED: Final[Mapping[str, str]] = {
    "key": "The name of the client key it was kept for.",
    "model": "The model, as it was asked for.",
    "tag": "One of the tags it was kept with.",
}

REQUESTS: Final[Mapping[str, JsonObject]] = {
    "ChatRequest": _call(*_of_openai(Operation.CHAT)),
    "CompletionRequest": _call(*_of_openai(Operation.COMPLETIONS)),
    "EmbeddingsRequest": _call(*_of_openai(Operation.EMBEDDINGS)),
    "DeploymentChatRequest": _at_deployment(*_of_openai(Operation.CHAT)),
    "DeploymentCompletionRequest": _at_deployment(*_of_openai(Operation.COMPLETIONS)),
    "DeploymentEmbeddingsRequest": _at_deployment(*_of_openai(Operation.EMBEDDINGS)),
    "MessagesRequest": _call(*_of_anthropic(Operation.MESSAGES)),
    "CountTokensRequest": _call(*_of_anthropic(Operation.COUNT_TOKENS)),
    "BatchRequest": record(
        "",
        {
            "requests": many(_LINE, minItems=1, maxItems=MAX_LINES),
            "max_concurrency": maybe(
                "integer",
                "Lines under way at a time; [batch] max_concurrency where it is not there.",
                minimum=1,
                maximum=MAX_CONCURRENCY,
            ),
            "stream": maybe(
                "boolean", "true: events instead of one JSON answer; lines may then be streams themselves."
            ),
        },
        ("requests",),
    ),
    "CacheClearRequest": record(
        "What fits all that is given is forgotten; {} is everything.",
        {name: one("string", _CLEARED[name], minLength=1) for name in CLEARED_BY},
        additionalProperties=False,
    ),
    "CacheLines": one(
        "string", "One line for each question with its answer, as JSON: docs/cache.md says what stands in it."
    ),
}
"""By name among the document's schemas."""
