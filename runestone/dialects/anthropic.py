"""The Anthropic dialect: messages and count_tokens.

Source: https://docs.anthropic.com/en/api/messages, /errors, /messages-streaming.
Rule: only what is certain is refused; unknown fields are the provider's business.
"""

from __future__ import annotations

from typing import Any

import orjson

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.core.summary import Summary
from runestone.dialects.dialect import NUMBER, Types, check_messages, check_positive, check_types, count, text
from runestone.dialects.usage import read_messages
from runestone.errors import BadRequest, ProviderFailed, ProviderRefused, RunestoneError

TYPES: Types = {
    "max_tokens": (int,),
    "stream": (bool,),
    "system": (str, list),
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": (int,),
    "stop_sequences": (list,),
    "tools": (list,),
    "tool_choice": (dict,),
    "thinking": (dict,),
    "metadata": (dict,),
}
POSITIVE = ("max_tokens",)
"""Fields that are at least 1."""
STATUS_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's types by status; other 4xx are invalid_request_error, other 5xx api_error."""


class Anthropic:
    """See Dialect."""

    name = "anthropic"

    def path(self, operation: Operation) -> str:
        return "/v1/" + operation.value

    def check(self, operation: Operation, fields: JsonObject) -> None:
        check_types(fields, TYPES)
        check_messages(fields)
        if operation is Operation.MESSAGES and fields.get("max_tokens") is None:
            raise BadRequest("'max_tokens' is missing", param="max_tokens")
        check_positive(fields, *POSITIVE)

    def error(self, error: RunestoneError, request_id: str) -> bytes:
        return orjson.dumps(_error_object(error, request_id))

    def error_event(self, error: RunestoneError, request_id: str) -> bytes:
        return b"event: error\ndata: %b\n\n" % orjson.dumps(_error_object(error, request_id))

    def read_error(self, status: int, body: bytes) -> ProviderRefused:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        error = answer.get("error") if type(answer) is dict else None
        error = error if type(error) is dict else {}
        return ProviderRefused(
            text(error.get("message")) or f"the provider refused the call with status {status}",
            status=status,
            type=text(error.get("type")) or type_of(status),
        )

    def summarise(self, operation: Operation, answer: dict[str, Any], summary: Summary) -> None:
        if operation is Operation.COUNT_TOKENS:
            summary.input_tokens = count(answer.get("input_tokens"))
            if summary.input_tokens is None:
                raise ProviderFailed("the provider's answer has no input_tokens")
            return
        if type(answer.get("content")) is not list:
            raise ProviderFailed("the provider's answer is not one of the Anthropic dialect")
        summary.response_id = text(answer.get("id"))
        summary.model = text(answer.get("model"))
        summary.finish_reason = text(answer.get("stop_reason"))
        read_messages(answer.get("usage"), summary)


def type_of(status: int) -> str:
    """Anthropic's error type for an HTTP status."""
    return STATUS_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def _error_object(error: RunestoneError, request_id: str) -> dict[str, object]:
    # The dialect has no `param`: the field is named in the message, as Anthropic itself does.
    named = error.param is None or error.param in error.message
    message = error.message if named else f"{error.param}: {error.message}"
    # The type is named by the status, as the SDKs read it; an Anthropic provider's own refusal passes as bytes.
    described: dict[str, object] = {"type": type_of(error.status), "message": message}
    if isinstance(error, BadRequest) and error.code != BadRequest.code:
        described["details"] = {"error_code": error.code}
    return {"type": "error", "error": described, "request_id": request_id}
