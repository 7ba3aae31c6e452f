"""A line of a warm-up: a question and its answer, as JSON.

    {"request": {...}, "response": {...}}            and, where the defaults will not do:
    "endpoint"  "/v1/chat/completions"               "stream"      the events as text, instead of "response"
    "key"       the name of the client's key         "tenant"      whose the answer is, where tenants share
    "headers"   those that are part of a question    "ttl", "tags" as the headers of a call have them

Rules: strict, because a wrong line would lie there and never be found: an unknown member, a question its endpoint would
refuse, an answer of another dialect, a caller there is not. A fault names the field, never contents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import orjson

from runestone.core.call import ANONYMOUS, ANTHROPIC_OPERATIONS, MAX_TAG, MAX_TAGS, Caller, Operation
from runestone.core.fingerprint import HEADERS
from runestone.core.json import JsonObject
from runestone.core.names import Names
from runestone.core.summary import Summary
from runestone.dialects import embeddings
from runestone.dialects.body import parse_object
from runestone.dialects.passage import ANTHROPIC, OPENAI, client_dialect
from runestone.dialects.relay import AnthropicRelay, OpenAIRelay
from runestone.dialects.sse import Decoder
from runestone.errors import BadRequest, ProviderError, RunestoneError

MAX_LINE = 16 * 1024 * 1024
"""Bytes of a line."""
"""As of the header (edge/request.py)."""

CHAT = "/v1/chat/completions"
ENDPOINTS = {
    CHAT: Operation.CHAT,
    "/v1/completions": Operation.COMPLETIONS,
    "/v1/messages": Operation.MESSAGES,
    "/v1/embeddings": Operation.EMBEDDINGS,
}
_KINDS = {
    Operation.CHAT: ("object", "chat.completion"),
    Operation.COMPLETIONS: ("object", "text_completion"),
    Operation.MESSAGES: ("type", "message"),
    Operation.EMBEDDINGS: ("object", "list"),
}
"""What an answer says it is. Some servers say nothing, or something of their own; another's word is a mistake."""
_MEMBERS = ("endpoint", "request", "response", "stream", "key", "tenant", "headers", "ttl", "tags")
_VERSION = "anthropic-version"
_USUAL_VERSION = "2023-06-01"
"""What every Anthropic SDK sends; plain clients send it or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Who may ask. `keys`: the callers by name; `is_open`: whether callers without a key are answered."""

    keys: Mapping[str, Caller]
    scope: Literal["key", "tenant", "global"]
    is_open: bool

    def caller(self, line: JsonObject) -> Caller:
        """Whose call the answer of `line` is for. Raises BadRequest when nobody could ever make it."""
        name, tenant = _text(line, "key"), _text(line, "tenant")
        if name is not None:
            caller = self.keys.get(name)
            if caller is None:
                raise BadRequest("no key of this name is configured", param="key")
            if tenant not in (None, caller.tenant):
                raise BadRequest("is not the tenant of the key", param="tenant")
            return caller
        if tenant is not None:
            if self.scope == "key":
                raise BadRequest('shares nothing unless cache.scope is "tenant": name a key', param="tenant")
            if all(caller.tenant != tenant for caller in self.keys.values()):
                raise BadRequest("no key of this tenant is configured", param="tenant")
            return Caller(name="", tenant=tenant)
        if self.scope != "global" and not self.is_open:
            raise BadRequest("is missing: calls without a key are refused (auth.required)", param="key")
        return ANONYMOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that has been understood. `headers`: one set for each way in which clients ask this."""

    operation: Operation
    fields: JsonObject
    caller: Caller
    headers: tuple[Mapping[str, str], ...]
    ttl: float | None
    tags: tuple[str, ...]
    sent: bytes
    is_stream: bool
    summary: Summary


class Reader:
    """Understands lines. `private`: providers that see the client's own credential; `max_entry` in bytes; `duration`
    reads one (config/units.py).
    """

    def __init__(
        self, *, names: Names, private: frozenset[str], who: Who, max_entry: int, duration: Callable[[object], float]
    ) -> None:
        self._names = names
        self._private = private
        self._who = who
        self._max_entry = max_entry
        self._duration = duration

    def __call__(self, text: bytes) -> Line:
        """Raises RunestoneError, with the field as `param`."""
        line = _members(text)
        endpoint = _text(line, "endpoint") or CHAT
        operation = ENDPOINTS.get(endpoint)
        if operation is None:
            raise BadRequest(f"must be one of {', '.join(ENDPOINTS)}", param="endpoint")
        fields = self._question(line, operation)
        sent, is_stream, summary = _answer(line, operation)
        largest = self._max_entry
        if operation is Operation.EMBEDDINGS:
            asked = embeddings.items(fields)
            if asked is None:
                raise BadRequest("must be texts, or lists of token ids", param="request.input")
            if embeddings.split(sent, asked) is None:
                raise BadRequest("does not hold one embedding for each input", param="response.data")
            largest *= len(asked)
        if len(sent) > largest:
            raise BadRequest("is larger than cache.max_entry", param="stream" if is_stream else "response")
        return Line(
            operation=operation,
            fields=fields,
            caller=self._who.caller(line),
            headers=_headers(line, operation),
            ttl=self._ttl(line),
            tags=_tags(line),
            sent=sent,
            is_stream=is_stream,
            summary=summary,
        )

    def _question(self, line: JsonObject, operation: Operation) -> JsonObject:
        fields = line.get("request")
        if not isinstance(fields, dict):
            raise BadRequest("must be an object" if "request" in line else "is missing", param="request")
        model = fields.get("model")
        try:
            if not isinstance(model, str) or not model:
                raise BadRequest("must be a non-empty string" if "model" in fields else "is missing", param="model")
            client_dialect(operation).check(operation, fields)
            targets = self._names.resolve(model)
        except RunestoneError as error:
            error.param = f"request.{error.param}" if error.param else "request"
            raise
        if any(target.provider in self._private for target in targets):
            raise BadRequest("its provider sees each client's own credential: nothing is shared", param="request.model")
        if fields.get("store") is True:
            raise BadRequest("such a call is never answered from the cache", param="request.store")
        return fields

    def _ttl(self, line: JsonObject) -> float | None:
        value = line.get("ttl")
        if value is None:
            return None
        try:
            seconds = self._duration(value)
        except ValueError as error:
            raise BadRequest(str(error), param="ttl") from None
        if seconds <= 0:
            raise BadRequest("must be more than 0", param="ttl")
        return seconds


def _members(text: bytes) -> JsonObject:
    if len(text) > MAX_LINE:
        raise BadRequest(f"it is longer than {MAX_LINE} bytes")
    try:
        line = parse_object(text.removeprefix(b"\xef\xbb\xbf"))
    except BadRequest as error:
        raise BadRequest(error.message.replace("the body", "it", 1)) from None
    for name in line:
        if name not in _MEMBERS:
            raise BadRequest(f"is unknown; a line has {', '.join(_MEMBERS)}", param=ascii(name[:100])[1:-1])
    return line


def _text(line: JsonObject, name: str) -> str | None:
    value = line.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise BadRequest("must be a non-empty string", param=name)
    return value


def _headers(line: JsonObject, operation: Operation) -> tuple[Mapping[str, str], ...]:
    value = line.get("headers")
    if value is None:
        return ({}, {_VERSION: _USUAL_VERSION}) if operation is Operation.MESSAGES else ({},)
    if not isinstance(value, dict):
        raise BadRequest("must be an object", param="headers")
    headers = {}
    for name, text in value.items():
        if name.lower() not in HEADERS:
            raise BadRequest(f"{', '.join(HEADERS)} are part of a question, and no others", param="headers")
        if not isinstance(text, str):
            raise BadRequest("must be a string", param=f"headers.{name.lower()}")
        headers[name.lower()] = text
    return (headers,)


def _tags(line: JsonObject) -> tuple[str, ...]:
    value = line.get("tags")
    if value is None:
        return ()
    if (
        not isinstance(value, list)
        or len(value) > MAX_TAGS
        or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in value)
    ):
        raise BadRequest(f"must be at most {MAX_TAGS} strings of 1 to {MAX_TAG} characters", param="tags")
    return tuple(value)


def _answer(line: JsonObject, operation: Operation) -> tuple[bytes, bool, Summary]:
    """What is sent, whether as a stream, and what it says of itself."""
    response, stream = line.get("response"), _text(line, "stream")
    if (response is None) == (stream is None):
        raise BadRequest("give a response or a stream, and one of them", param="response")
    if stream is not None:
        if operation is Operation.EMBEDDINGS:
            raise BadRequest("embeddings are never streamed", param="stream")
        sent = stream.encode()
        return sent, True, _whole_stream(operation, sent)
    if not isinstance(response, dict):
        raise BadRequest("must be an object", param="response")
    member, own = _KINDS[operation]
    said = response.get(member)
    if said != own and (member, said) in _KINDS.values():
        raise BadRequest(f"is a {said}, and not what this endpoint answers", param=f"response.{member}")
    summary = Summary()
    try:
        client_dialect(operation).summarise(operation, response, summary)
    except ProviderError:
        raise BadRequest("is not what this endpoint answers", param="response") from None
    return orjson.dumps(response), False, summary


def _whole_stream(operation: Operation, sent: bytes) -> Summary:
    """What the stream says of itself. Raises BadRequest unless it is one from its first event to its end marker."""
    is_anthropic = operation in ANTHROPIC_OPERATIONS
    relay = (
        AnthropicRelay(ANTHROPIC, operation, b"")
        if is_anthropic
        else OpenAIRelay(OPENAI, operation, b"", ends_with_done=True)
    )
    decoder = Decoder()
    try:
        events = decoder.feed(sent)
        if decoder.finish():
            raise BadRequest("its last event does not end with an empty line", param="stream")
        for number, event in enumerate(events):
            said = _load(event.data)
            if said is None and event.data != b"[DONE]":
                raise BadRequest(f"its event {number + 1} is not JSON", param="stream")
            if not number and not _begins(said or {}, is_anthropic=is_anthropic):
                raise BadRequest("is not what this endpoint answers", param="stream")
            if said and said.get("error"):
                raise BadRequest("holds an error", param="stream")
        relay.feed(sent)
        relay.finish()
    except ProviderError:
        raise BadRequest("does not end as it must", param="stream") from None
    return relay.summary


def _begins(said: JsonObject, *, is_anthropic: bool) -> bool:
    return said.get("type") == "message_start" if is_anthropic else isinstance(said.get("choices"), list)


def _load(data: bytes) -> JsonObject | None:
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None
