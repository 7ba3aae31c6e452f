"""The OpenAI dialect: chat completions, completions, embeddings.

Source: https://platform.openai.com/docs/api-reference. Compatible servers write errors in their own ways; what was seen
of that in real traffic is read here too.
Rule: only what is certain is refused; unknown fields are the provider's business.
"""

from __future__ import annotations

from typing import Any

import orjson

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.core.summary import Summary
from runestone.dialects.dialect import NUMBER, Types, check_messages, check_positive, check_types
from runestone.dialects.usage import read_chat
from runestone.errors import BadRequest, ProviderFailed, ProviderRefused, RunestoneError

_SHARED: Types = {
    "stream": (bool,),
    "stream_options": (dict,),
    "temperature": NUMBER,
    "top_p": NUMBER,
    "n": (int,),
    "stop": (str, list),
    "max_tokens": (int,),
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "logit_bias": (dict,),
    "seed": (int,),
    "user": (str,),
}
TYPES: dict[Operation, Types] = {
    Operation.CHAT: {
        **_SHARED,
        "max_completion_tokens": (int,),
        "tools": (list,),
        "tool_choice": (str, dict),
        "parallel_tool_calls": (bool,),
        "response_format": (dict,),
        "logprobs": (bool,),
        "top_logprobs": (int,),
        "modalities": (list,),
    },
    Operation.COMPLETIONS: {
        **_SHARED,
        "prompt": (str, list),
        "suffix": (str,),
        "echo": (bool,),
        "logprobs": (int, bool),
    },
    Operation.EMBEDDINGS: {"input": (str, list), "dimensions": (int,), "encoding_format": (str,), "user": (str,)},
}
REQUIRED = {Operation.COMPLETIONS: "prompt", Operation.EMBEDDINGS: "input"}
POSITIVE = ("n", "max_tokens", "max_completion_tokens", "dimensions")
"""Fields that are at least 1."""
_ANSWERS = {Operation.CHAT: "choices", Operation.COMPLETIONS: "choices", Operation.EMBEDDINGS: "data"}

STATUS_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}

_FROM_ANTHROPIC: dict[str, tuple[str, str | None]] = {
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("permission_error", "insufficient_permissions"),
    "not_found_error": ("invalid_request_error", "not_found"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "timeout_error": ("api_error", "timeout"),
    "overloaded_error": ("api_error", "service_unavailable"),
}
"""An Anthropic provider's error types as an OpenAI client reads them: (type, code)."""


class OpenAI:
    """See Dialect."""

    name = "openai"

    def path(self, operation: Operation) -> str:
        return "/" + operation.value

    def check(self, operation: Operation, fields: JsonObject) -> None:
        check_types(fields, TYPES[operation])
        if operation is Operation.CHAT:
            check_messages(fields)
        else:
            required = REQUIRED[operation]
            if fields.get(required) is None:
                raise BadRequest(f"{required!r} is missing", param=required)
        check_positive(fields, *POSITIVE)

    def error(self, error: RunestoneError, request_id: str) -> bytes:
        return orjson.dumps({"error": _error_object(error)})

    def error_event(self, error: RunestoneError, request_id: str) -> bytes:
        return b"data: %b\n\n" % orjson.dumps({"error": _error_object(error)})

    def read_error(self, status: int, body: bytes) -> ProviderRefused:
        found = _find_error(body)
        return ProviderRefused(
            _text(found.get("message"))
            or _detail(found.get("detail"))
            or f"the provider refused the call with status {status}",
            status=status,
            type=_text(found.get("type")) or STATUS_TYPES.get(status, "invalid_request_error"),
            code=_text(found.get("code")),
            param=_text(found.get("param")),
        )

    def summarise(self, operation: Operation, answer: dict[str, Any], summary: Summary) -> None:
        choices = answer.get(_ANSWERS[operation])
        if type(choices) is not list:
            error = _find_error_in(answer)
            raise ProviderFailed(
                "the provider answered 200 with an error: " + (_text(error.get("message")) or "no message")
                if error
                else "the provider's answer is not one of the OpenAI dialect"
            )
        summary.response_id = _text(answer.get("id"))
        summary.model = _text(answer.get("model"))
        read_chat(answer.get("usage"), summary)
        if choices and type(choices[0]) is dict:
            summary.finish_reason = _text(choices[0].get("finish_reason"))


def _error_object(error: RunestoneError) -> dict[str, object]:
    kind, code = _FROM_ANTHROPIC.get(error.type, (error.type, error.code))
    return {"message": error.message, "type": kind, "param": error.param, "code": error.code or code}


def _find_error(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if type(answer) is list and answer:  # Gemini's OpenAI endpoint wraps its errors in an array
        answer = answer[0]
    return _find_error_in(answer) if type(answer) is dict else {}


def _find_error_in(answer: dict[str, Any]) -> dict[str, Any]:
    """The error object, wherever a server puts it: {"error": {...}}, {"error": "text"}, or the answer itself."""
    error = answer.get("error")
    if type(error) is dict:
        return error
    if type(error) is str:
        return {**answer, "message": error}
    return answer if {"message", "detail"} & answer.keys() else {}


def _detail(value: object) -> str | None:
    """FastAPI's `detail`: a text, or a list of what is wrong with which field."""
    if type(value) is list:
        said = [item.get("msg") for item in value if type(item) is dict]
        return "; ".join(text for text in said if type(text) is str) or None
    return _text(value)


def _text(value: object) -> str | None:
    if type(value) is str:
        return value or None
    return str(value) if type(value) is int else None
