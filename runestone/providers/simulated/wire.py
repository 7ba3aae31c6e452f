"""How the simulated model's answers are written: OpenAI's JSON and server-sent events, as bytes.

Rule: a request in, bytes out, and never an exception: a wrong request is a 400 with OpenAI's error object.
An event is three pieces of bytes put together (head, the token, tail), because this is the upstream of load tests.
Deliberately absent: time. `created` comes in, and the caller paces the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import orjson

from runestone.core.json import JsonObject
from runestone.errors import BadRequest
from runestone.providers.simulated.embeddings import embed
from runestone.providers.simulated.model import Said, chat, complete, rest_of
from runestone.providers.simulated.request import Sampling, read_chat, read_completion, without_beginning

FINGERPRINT = "simulated"

_DONE = b"data: [DONE]\n\n"
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request was rejected by the simulated provider."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("permission_error", "insufficient_permissions", "You have insufficient permissions for this operation."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    408: ("timeout", "timeout", "The request took too long to arrive."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    422: ("invalid_request_error", None, "The request could not be processed."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    502: ("server_error", "bad_gateway", "Bad gateway."),
    503: ("server_error", "service_unavailable", "The engine is currently overloaded, please try again later."),
    504: ("server_error", "gateway_timeout", "The server did not answer in time."),
    529: ("server_error", "overloaded", "The server is overloaded, please try again later."),
}


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """An answer as bytes; `events` only of a stream, whose `body` is empty. `tokens` of output are for pacing."""

    status: int
    body: bytes
    events: Sequence[bytes] | None
    tokens: int


def answer(operation: str, fields: JsonObject, *, created: int) -> SimulatedAnswer:
    """The answer to `operation`: chat/completions, completions or embeddings; any other is a 404.

    `created` is in Unix seconds. The same arguments give the same bytes.
    """
    try:
        if operation == "chat/completions":
            return _chat(fields, created)
        if operation == "completions":
            return _completion(fields, created)
        if operation == "embeddings":
            return SimulatedAnswer(200, embed(fields), None, 0)
    except BadRequest as error:
        return _error(400, "invalid_request_error", None, error.message, error.param)
    return _error(404, "invalid_request_error", "not_found", "Unknown operation of the simulated provider.", None)


def error_answer(status: int) -> SimulatedAnswer:
    """OpenAI's error object as it comes with `status`; a status without a usual one gets its family's."""
    kind, code, message = _ERRORS.get(status) or _ERRORS[400 if 400 <= status < 500 else 500]
    return _error(status, kind, code, message, None)


def _error(status: int, kind: str, code: str | None, message: str, param: str | None) -> SimulatedAnswer:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return SimulatedAnswer(status, orjson.dumps(body), None, 0)


def _chat(fields: JsonObject, created: int) -> SimulatedAnswer:
    fields, begun = without_beginning(fields)
    request = read_chat(fields)
    said = [rest_of(choice, begun) for choice in chat(request)]
    tokens = sum(choice.cost for choice in said)
    usage = _usage(request.prompt_tokens, tokens)
    head = _head(request.sampling, "chatcmpl-", "chat.completion", created)
    if request.sampling.stream:
        head["object"] = "chat.completion.chunk"
        frame = _Frame(head, include_usage=request.sampling.include_usage)
        return _stream(frame, [_chat_events(frame, index, choice) for index, choice in enumerate(said)], usage, tokens)
    choices = [
        {"index": index, "message": _message(choice), "logprobs": None, "finish_reason": choice.finish_reason}
        for index, choice in enumerate(said)
    ]
    body = {**head, "choices": choices, "usage": usage, "service_tier": "default"}
    return SimulatedAnswer(200, orjson.dumps(body), None, tokens)


def _message(choice: Said) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if not choice.calls:
        message["content"] = "".join(choice.tokens)
        return message
    message["tool_calls"] = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
        for call in choice.calls
    ]
    return message


def _completion(fields: JsonObject, created: int) -> SimulatedAnswer:
    request = read_completion(fields)
    said = complete(request)
    tokens = sum(choice.cost for choice in said)
    usage = _usage(request.prompt_tokens, tokens)
    head = _head(request.sampling, "cmpl-", "text_completion", created)
    if request.sampling.stream:
        frame = _Frame(head, include_usage=request.sampling.include_usage)
        events = [_completion_events(frame, index, choice) for index, choice in enumerate(said)]
        return _stream(frame, events, usage, tokens)
    choices = [
        {"text": "".join(choice.tokens), "index": index, "logprobs": None, "finish_reason": choice.finish_reason}
        for index, choice in enumerate(said)
    ]
    return SimulatedAnswer(200, orjson.dumps({**head, "choices": choices, "usage": usage}), None, tokens)


def _head(sampling: Sampling, prefix: str, kind: str, created: int) -> JsonObject:
    return {
        "id": prefix + sampling.identity,
        "object": kind,
        "created": created,
        "model": sampling.model,
        "system_fingerprint": FINGERPRINT,
    }


def _usage(prompt_tokens: int, completion_tokens: int) -> JsonObject:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class _Frame:
    """What all events of a stream share, written once: the bytes before the choice and behind it."""

    __slots__ = ("after", "before", "include_usage")

    def __init__(self, head: JsonObject, *, include_usage: bool) -> None:
        self.include_usage = include_usage
        self.before = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self.after = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def event(self, choice: bytes) -> bytes:
        return self.before + choice + self.after

    def last(self, usage: JsonObject) -> bytes:
        return self.before + b'],"usage":' + orjson.dumps(usage) + b"}\n\n"


def _stream(frame: _Frame, choices: list[list[bytes]], usage: JsonObject, tokens: int) -> SimulatedAnswer:
    """The events of all choices taken in turn, as OpenAI interleaves them, the usage and the end."""
    events = choices[0] if len(choices) == 1 else [e for e in _in_turn(choices) if e is not None]
    if frame.include_usage:
        events.append(frame.last(usage))
    events.append(_DONE)
    return SimulatedAnswer(200, b"", events, tokens)


def _in_turn(choices: list[list[bytes]]) -> Iterable[bytes | None]:
    return chain.from_iterable(zip_longest(*choices))


def _chat_events(frame: _Frame, index: int, choice: Said) -> list[bytes]:
    opening = b'{"index":%d,"delta":' % index
    before, after = frame.before + opening, b',"logprobs":null,"finish_reason":null}' + frame.after
    content = b"null" if choice.calls else b'""'
    events = [before + b'{"role":"assistant","content":' + content + b',"refusal":null}' + after]
    token_before, token_after = before + b'{"content":', b"}" + after
    events += [token_before + orjson.dumps(token) + token_after for token in choice.tokens]
    for number, call in enumerate(choice.calls):
        first = orjson.dumps(
            {"index": number, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        )
        events.append(before + b'{"tool_calls":[' + first + b"]}" + after)
        token_before = before + b'{"tool_calls":[{"index":%d,"function":{"arguments":' % number
        token_after = b"}}]}" + after
        events += [token_before + orjson.dumps(token) + token_after for token in call.arguments]
    reason = choice.finish_reason.encode()
    events.append(frame.event(opening + b'{},"logprobs":null,"finish_reason":"' + reason + b'"}'))
    return events


def _completion_events(frame: _Frame, index: int, choice: Said) -> list[bytes]:
    before = frame.before + b'{"text":'
    after = b',"index":%d,"logprobs":null,"finish_reason":null}' % index + frame.after
    events = [before + orjson.dumps(token) + after for token in choice.tokens]
    reason = choice.finish_reason.encode()
    events.append(frame.event(b'{"text":"","index":%d,"logprobs":null,"finish_reason":"%b"}' % (index, reason)))
    return events
