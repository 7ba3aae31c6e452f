"""From an aiohttp request to a Call.

Rule: everything a client can get wrong before the gateway is asked is found here.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from runestone.config.units import parse_duration
from runestone.core.call import Call, Caller, Operation
from runestone.dialects.body import parse_object
from runestone.dialects.dialect import Dialect
from runestone.dialects.passage import ANTHROPIC, OPENAI, client_dialect
from runestone.errors import BadRequest, TooLarge

REQUEST_ID = web.RequestKey("request_id", str)
STARTED = web.RequestKey("started", float)
CALLER = web.RequestKey("caller", Caller)
CREDENTIAL = web.RequestKey("credential", str)
CALL = web.RequestKey("call", Call)

BODY_DEADLINE = 60.0
"""Seconds a client may take to send its body."""

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
    return ANTHROPIC if request.path.startswith("/v1/messages") else OPENAI


def credential(headers: Mapping[str, str]) -> str | None:
    """The key a client presented, in any of the four ways it may."""
    value = headers.get("Authorization", "").strip()
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        value = rest.strip()
    elif rest:  # Basic and the like: another kind of credential, for somebody else
        value = ""
    return value or headers.get("x-api-key") or headers.get("api-key") or None


async def read_body(request: web.Request, limit: int) -> bytes:
    """The body. Raises TooLarge past `limit` bytes, BadRequest when it is not JSON by its type or does not arrive
    whole.
    """
    content_type = request.content_type
    if content_type not in ("application/json", "application/octet-stream") and not content_type.endswith("+json"):
        raise BadRequest(f"the content-type must be application/json, not {content_type[:100]}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadRequest("a compressed body is not accepted here; send it as it is", param="content-encoding")
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    try:
        if request.content.is_eof():  # the usual case: it came with the head
            body = request.content.read_nowait()
            if len(body) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes")
            return body
        async with asyncio.timeout(BODY_DEADLINE):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {limit} bytes") from None
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {BODY_DEADLINE:g} s") from None
    except (HttpProcessingError, RequestPayloadError, ValueError):
        raise BadRequest("the body did not arrive whole") from None


async def read_call(request: web.Request, operation: Operation, limit: int) -> Call:
    """The call. Raises ClientError."""
    body = await read_body(request, limit)
    fields = parse_object(body)
    model = request.match_info.get("model") or fields.get("model")
    if type(model) is not str or not model:
        problem = "must be a non-empty string" if "model" in fields else "is missing"
        raise BadRequest(f"'model' {problem}", param="model")
    client_dialect(operation).check(operation, fields)
    headers = request.headers
    return Call(
        id=request[REQUEST_ID],
        operation=operation,
        body=body,
        fields=fields,
        model=model,
        stream=fields.get("stream") is True and operation in _STREAMABLE,
        caller=request[CALLER],
        headers={name: headers[name] for name in _FORWARDED if name in headers},
        credential=request.get(CREDENTIAL),
        started=request[STARTED],
        timeout=_timeout(headers.get("x-runestone-timeout")),
    )


def _timeout(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise BadRequest(f"x-runestone-timeout {error}", param="x-runestone-timeout") from None
    if seconds <= 0:
        raise BadRequest("x-runestone-timeout must be more than 0", param="x-runestone-timeout")
    return seconds
