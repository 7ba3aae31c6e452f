"""From an aiohttp request to a Call.

Rule: everything a client can get wrong before the gateway is asked is found here.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from runestone.config.units import parse_duration
from runestone.core.call import ANONYMOUS, MAX_TAG, MAX_TAGS, Call, Caller, Operation
from runestone.core.directives import NO_WISHES, Directives, parse
from runestone.core.json import JsonObject
from runestone.core.recent import LARGEST, Recent
from runestone.core.trace import Context, read_context
from runestone.dialects.body import parse_object
from runestone.dialects.dialect import Dialect
from runestone.dialects.passage import ANTHROPIC, OPENAI, client_dialect
from runestone.errors import BadRequest, TooLarge, Unauthorized


@dataclass(slots=True, eq=False)
class Visit:
    """What the middlewares and the handler have found out about a request."""

    id: str
    started: float
    """Seconds of `time.perf_counter`."""
    caller: Caller = ANONYMOUS
    credential: str | None = None
    """The client's own, for providers with `passthrough`; never a key of ours."""
    call: Call | None = None
    """The call it became, if it became one."""
    body: bytes | None = None
    """What an operator has sent: every worker gets it."""
    refusal: Unauthorized | None = None
    """Why the caller may not come in, where that is told by a close code (edge/websocket/)."""


VISIT = web.RequestKey("visit", Visit)

MOST_KNOWN = 1024
"""Bodies that are remembered as they were understood."""

KEY_PROTOCOL = "runestone.key."
SOCKETS = ("/ws", "/socket", "/socket/websocket")
"""Where WebSockets are; the last as clients of Phoenix channels write it."""

BODY_DEADLINE = 60.0
"""Seconds a client may take to send its body."""

JSON = frozenset({"application/json", "application/octet-stream"})
"""Content types of what is JSON by its name, or by nobody's word."""

_FORWARDED = ("anthropic-version", "anthropic-beta", "openai-beta", "idempotency-key", "http-referer", "x-title")
"""Client headers that change what a provider of the same dialect does, or that providers attribute calls by."""

_ID = re.compile(r"[\x21-\x7e]{1,200}")
_STREAMABLE = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.MESSAGES})


def request_id(headers: Mapping[str, str]) -> str:
    """The client's x-request-id where it is one that can be repeated safely, else a new one."""
    given = headers.get("x-request-id")
    if given is not None and _ID.fullmatch(given):
        return given
    return f"req_{random.getrandbits(96):024x}"


def dialect_of(request: web.BaseRequest) -> Dialect:
    """Whose answers and errors the client of this path reads."""
    return dialect_at(request.path)


def dialect_at(path: str) -> Dialect:
    """The same, of a path alone."""
    return ANTHROPIC if path.startswith("/v1/messages") else OPENAI


def credential(headers: Mapping[str, str]) -> str | None:
    """The key a client presented, in any of the four ways it may."""
    value = headers.get("Authorization", "").strip()
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        value = rest.strip()
    elif rest:  # Basic and the like: another kind of credential, for somebody else
        value = ""
    return value or headers.get("x-api-key") or headers.get("api-key") or None


def socket_credential(headers: Mapping[str, str]) -> str | None:
    """The same of a WebSocket's handshake, where browsers cannot set headers: also as the sub-protocol
    `runestone.key.K`.
    """
    for offered in headers.get("Sec-WebSocket-Protocol", "").split(","):
        name = offered.strip()
        if name.startswith(KEY_PROTOCOL):
            return name.removeprefix(KEY_PROTOCOL) or None
    return credential(headers)


async def read_body(request: web.Request, limit: int, types: frozenset[str] = JSON) -> bytes:
    """The body. Raises TooLarge past `limit` bytes, BadRequest when it is of none of the `types`, nor of another kind
    of JSON, or does not arrive whole.
    """
    headers = request.headers
    if headers.get("Content-Type") != "application/json":  # the usual case needs no reading
        content_type = request.content_type
        if content_type not in types and not content_type.endswith("+json"):
            raise BadRequest(f"the content-type must be application/json, not {content_type[:100]}")
    if "Content-Encoding" in headers and headers["Content-Encoding"].lower() != "identity":
        raise BadRequest("a compressed body is not accepted here; send it as it is", param="content-encoding")
    try:
        if request.content.is_eof():  # the usual case: it came with the head
            body = request.content.read_nowait()
            if len(body) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
            return body
        if (request.content_length or 0) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        async with asyncio.timeout(BODY_DEADLINE):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {limit} bytes") from None
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {BODY_DEADLINE:g} s") from None
    except (HttpProcessingError, RequestPayloadError, ValueError):
        raise BadRequest("the body did not arrive whole") from None


class Head(NamedTuple):
    """What the head of a request says for every call that is made of it."""

    id: str
    caller: Caller
    headers: Mapping[str, str]
    credential: str | None
    started: float
    timeout: float | None
    patience: float
    """Seconds the whole call may take."""
    directives: Directives
    ttl: float | None
    tags: tuple[str, ...]
    context: Context | None

    def part(self, index: int, started: float) -> Head:
        """The same for one of several calls, which begins at `started`: what names a single call names this one."""
        headers, key = self.headers, self.headers.get("idempotency-key")
        if key is not None:  # the calls are different ones, and a provider must not take them for repeats of each other
            headers = {**headers, "idempotency-key": f"{key}-{index}"}
        return self._replace(id=f"{self.id}-{index}", headers=headers, started=started)


def head_of(request: web.Request, total: float) -> Head:
    """The head, of a call that may take `total` seconds. Raises BadRequest for what it cannot mean."""
    headers, visit = request.headers, request[VISIT]
    timeout = _duration(headers, "x-runestone-timeout")
    return Head(
        visit.id,
        visit.caller,
        {name: headers[name] for name in _FORWARDED if name in headers},
        visit.credential,
        visit.started,
        timeout,
        total if timeout is None else min(total, timeout),
        parse(", ".join(headers.getall("Cache-Control"))) if "Cache-Control" in headers else NO_WISHES,
        _duration(headers, "x-runestone-cache-ttl", least=0.0),
        _tags(headers["x-runestone-tags"]) if "x-runestone-tags" in headers else (),
        read_context(headers["traceparent"], headers.get("tracestate", "")) if "traceparent" in headers else None,
    )


def call_of(head: Head, operation: Operation, body: bytes, fields: JsonObject, named: str | None = None) -> Call:
    """The call that `fields`, which stand in `body`, ask for; `named` is the model where the path names it. Raises
    BadRequest.
    """
    model = named or fields.get("model")
    if type(model) is not str or not model:
        problem = "must be a non-empty string" if "model" in fields else "is missing"
        raise BadRequest(f"'model' {problem}", param="model")
    client_dialect(operation).check(operation, fields)
    return make_call(head, operation, body, fields, model)


def make_call(head: Head, operation: Operation, body: bytes, fields: JsonObject, model: str) -> Call:
    """The call of a body that has been checked."""
    return Call(
        id=head.id,
        operation=operation,
        body=body,
        fields=fields,
        model=model,
        stream=fields.get("stream") is True and operation in _STREAMABLE,
        caller=head.caller,
        headers=head.headers,
        credential=head.credential,
        started=head.started,
        timeout=head.timeout,
        deadline=head.started + head.patience,
        directives=head.directives,
        ttl=head.ttl,
        tags=head.tags,
        context=head.context,
    )


class Reader:
    """Reads calls of at most `limit` bytes that may take `total` seconds. Bodies that were answered from memory are
    remembered as they were understood: what is asked again and again is not parsed and checked anew.
    """

    def __init__(self, *, limit: int, total: float) -> None:
        self._limit = limit
        self._total = total
        self._known: Recent[tuple[Operation, bytes], JsonObject] = Recent(MOST_KNOWN)

    async def read(self, request: web.Request, operation: Operation) -> tuple[Call, bool]:
        """The call, and whether its body was remembered. Raises ClientError."""
        body = await read_body(request, self._limit)
        named = request.match_info.get("model")
        head = head_of(request, self._total)
        known = self._known.get((operation, body)) if len(self._known) and len(body) <= LARGEST else None
        if known is not None:
            return make_call(head, operation, body, known, named or str(known["model"])), True
        return call_of(head, operation, body, parse_object(body), named), False

    def remember(self, call: Call) -> None:
        """Takes note of a call that was answered from memory: it may well come again."""
        if len(call.body) <= LARGEST and type(call.fields.get("model")) is str and call.fields["model"]:
            self._known.put((call.operation, call.body), call.fields)


def _duration(headers: Mapping[str, str], name: str, least: float | None = None) -> float | None:
    """Seconds of a header; more than 0, unless `least` is that."""
    value = headers.get(name)
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise BadRequest(f"{name} {error}", param=name) from None
    if seconds <= 0 and least is None:
        raise BadRequest(f"{name} must be more than 0", param=name)
    return seconds


def _tags(value: str) -> tuple[str, ...]:
    tags = tuple(tag for part in value.split(",") if (tag := part.strip()))
    if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in tags):
        raise BadRequest(
            f"x-runestone-tags has at most {MAX_TAGS} tags of {MAX_TAG} characters", param="x-runestone-tags"
        )
    return tags
