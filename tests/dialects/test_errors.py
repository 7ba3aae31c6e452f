"""Errors in both dialects: as clients read them, and as providers write them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.dialects.dialect import Dialect
from runestone.dialects.passage import ANTHROPIC, OPENAI
from runestone.dialects.sse import Decoder
from runestone.errors import (
    BadRequest,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    NotStored,
    ProviderFailed,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
    RunestoneError,
    StreamBroken,
    TooLarge,
    Unauthorized,
    Unavailable,
)


def refused(status: int, kind: str, code: str | None = None, param: str | None = None) -> ProviderRefused:
    return ProviderRefused("why", status=status, type=kind, code=code, param=param)


# error, status, OpenAI's (type, code, param), Anthropic's type
TABLE: list[tuple[RunestoneError, int, tuple[str, str | None, str | None], str]] = [
    (BadRequest("why", param="n"), 400, ("invalid_request_error", "bad_request", "n"), "invalid_request_error"),
    (Unauthorized("why"), 401, ("invalid_request_error", "invalid_api_key", None), "authentication_error"),
    (
        Unauthorized("why", code="missing_authorization"),
        401,
        ("invalid_request_error", "missing_authorization", None),
        "authentication_error",
    ),
    (
        Unauthorized("why", code="expired_api_key"),
        401,
        ("invalid_request_error", "expired_api_key", None),
        "authentication_error",
    ),
    (Forbidden("why"), 403, ("permission_error", "insufficient_permissions", None), "permission_error"),
    (NotFound("why"), 404, ("invalid_request_error", "not_found", None), "not_found_error"),
    (
        NotFound("why", code="model_not_found", param="model"),
        404,
        ("invalid_request_error", "model_not_found", "model"),
        "not_found_error",
    ),
    (MethodNotAllowed("why"), 405, ("invalid_request_error", "method_not_allowed", None), "invalid_request_error"),
    (NotStored("why"), 504, ("invalid_request_error", "not_stored", None), "timeout_error"),
    (TooLarge("why"), 413, ("invalid_request_error", "request_too_large", None), "request_too_large"),
    (ProviderFailed("why"), 502, ("api_error", "provider_error", None), "api_error"),
    (ProviderUnreachable("why"), 502, ("api_error", "provider_error", None), "api_error"),
    (StreamBroken("why"), 502, ("api_error", "provider_error", None), "api_error"),
    (ProviderTimeout("why"), 504, ("api_error", "timeout", None), "timeout_error"),
    (Unavailable("why"), 503, ("api_error", "service_unavailable", None), "overloaded_error"),
    (RateLimited("why"), 429, ("rate_limit_error", "rate_limit_exceeded", None), "rate_limit_error"),
    (InternalError("why"), 500, ("server_error", "internal_error", None), "api_error"),
    # a provider's own, of either dialect
    (
        refused(400, "invalid_request_error", "context_length_exceeded", "messages"),
        400,
        ("invalid_request_error", "context_length_exceeded", "messages"),
        "invalid_request_error",
    ),
    (
        refused(429, "insufficient_quota", "insufficient_quota"),
        429,
        ("insufficient_quota", "insufficient_quota", None),
        "rate_limit_error",
    ),
    (refused(418, "teapot"), 418, ("teapot", None, None), "invalid_request_error"),
    (
        refused(401, "authentication_error"),
        401,
        ("invalid_request_error", "invalid_api_key", None),
        "authentication_error",
    ),
    (refused(402, "billing_error"), 402, ("insufficient_quota", "insufficient_quota", None), "billing_error"),
    (
        refused(403, "permission_error"),
        403,
        ("permission_error", "insufficient_permissions", None),
        "permission_error",
    ),
    (refused(404, "not_found_error"), 404, ("invalid_request_error", "not_found", None), "not_found_error"),
    (
        refused(413, "request_too_large"),
        413,
        ("invalid_request_error", "request_too_large", None),
        "request_too_large",
    ),
    (
        refused(429, "rate_limit_error"),
        429,
        ("rate_limit_error", "rate_limit_exceeded", None),
        "rate_limit_error",
    ),
    (refused(408, "timeout_error"), 408, ("api_error", "timeout", None), "timeout_error"),
]
every_error = pytest.mark.parametrize(
    ("error", "status", "openai", "anthropic"),
    TABLE,
    ids=[f"{type(row[0]).__name__} {row[0].type} {row[0].code}" for row in TABLE],
)


@every_error
def test_an_openai_client_reads_an_error(
    error: RunestoneError, status: int, openai: tuple[str, str | None, str | None], anthropic: str
) -> None:
    """Four fields, always there, as OpenAI's SDKs look for them."""
    kind, code, param = openai
    told = {"error": {"message": "why", "type": kind, "param": param, "code": code}}
    assert error.status == status
    assert orjson.loads(OPENAI.error(error, "req-1")) == told
    (event,) = Decoder().feed(OPENAI.error_event(error, "req-1"))
    assert (event.name, orjson.loads(event.data)) == ("", told)


@every_error
def test_an_anthropic_client_reads_an_error(
    error: RunestoneError, status: int, openai: tuple[str, str | None, str | None], anthropic: str
) -> None:
    """A type the SDKs know, the message (which names the field: the dialect has no `param`), the request's id."""
    message = f"{error.param}: why" if error.param else "why"
    told = {"type": "error", "error": {"type": anthropic, "message": message}, "request_id": "req-1"}
    assert orjson.loads(ANTHROPIC.error(error, "req-1")) == told
    (event,) = Decoder().feed(ANTHROPIC.error_event(error, "req-1"))
    assert (event.name, orjson.loads(event.data)) == ("error", told)


def test_a_field_the_message_names_is_not_named_twice() -> None:
    """Most of our own messages begin with the field."""
    told = orjson.loads(ANTHROPIC.error(BadRequest("'n' must be at least 1", param="n"), "r"))
    assert told["error"]["message"] == "'n' must be at least 1"


def test_every_class_of_the_tree_is_in_the_table() -> None:
    """A new error comes with its answers."""

    def leaves(kind: type[RunestoneError]) -> set[type[RunestoneError]]:
        below = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind}

    shown = {type(row[0]) for row in TABLE}
    assert {kind.__name__ for kind in leaves(RunestoneError) - shown} == {"ConfigurationError"}


@pytest.mark.parametrize("text", ["line\nbreak", "\r\ndata: x\n\n", 'quo"te', "日本", "\u2028"])
@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=lambda dialect: dialect.name)
def test_a_message_cannot_break_out_of_its_event(dialect: Dialect, text: str) -> None:
    """Whatever a provider's message holds, it stays one event."""
    (event,) = Decoder().feed(dialect.error_event(ProviderFailed(text), "r"))
    assert text in orjson.loads(event.data)["error"]["message"]


def said(error: ProviderRefused) -> tuple[str, str, str | None, str | None]:
    return error.message, error.type, error.code, error.param


@pytest.mark.parametrize(
    ("status", "body", "understood"),
    [
        (
            400,
            {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
            ("m", "t", "c", "p"),
        ),
        (429, {"error": {"message": "m", "type": None, "code": None}}, ("m", "rate_limit_error", None, None)),
        (400, {"error": {"message": "m", "code": 400}}, ("m", "invalid_request_error", "400", None)),
        (400, {"error": "m"}, ("m", "invalid_request_error", None, None)),
        (400, {"error": "m", "type": "t", "code": "c"}, ("m", "t", "c", None)),
        (404, {"detail": "Not Found"}, ("Not Found", "invalid_request_error", None, None)),
        (
            400,
            [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}],
            ("m", "invalid_request_error", "400", None),
        ),
        (
            400,
            {"object": "error", "message": "m", "type": "t", "param": None, "code": "1500"},
            ("m", "t", "1500", None),
        ),
        (403, {"message": "m"}, ("m", "permission_error", None, None)),
        (402, {"error": None, "message": "m"}, ("m", "insufficient_quota", None, None)),
    ],
)
def test_an_error_of_the_openai_dialect_is_understood(
    status: int, body: object, understood: tuple[str, str, str | None, str | None]
) -> None:
    """OpenAI's object, and what compatible servers write in its place."""
    error = OPENAI.read_error(status, orjson.dumps(body))
    assert said(error) == understood
    assert (error.status, error.provider_status) == (status, status)


def test_what_a_validator_lists_is_told() -> None:
    """FastAPI's servers list what is wrong with a request: a client of the other dialect learns it too."""
    detail = [
        {"loc": ["body", "messages"], "msg": "Field required", "type": "missing"},
        {"loc": ["body", "n"], "msg": "Input should be a valid integer", "type": "int_type"},
    ]
    error = OPENAI.read_error(422, orjson.dumps({"detail": detail}))
    assert "Field required" in error.message
    assert error.type == "invalid_request_error"


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"\xff",
        b"null",
        b"5",
        b"[]",
        b"[5]",
        b"{}",
        b'{"error":5}',
        b'{"error":[]}',
        b'{"error":{}}',
        b'{"error":{"message":{"a":1},"type":5.5,"code":[1],"param":{}}}',
        b'{"detail":[]}',
        b'{"detail":{"a":1}}',
        b'{"detail":[5,{"msg":5}]}',
        b"[" * 2000,
    ],
)
def test_what_is_no_error_object_is_told_by_its_status(dialect: Dialect, body: bytes) -> None:
    """The client learns the status, and nothing of a page that was not made for it."""
    error = dialect.read_error(418, body)
    assert error.message == "the provider refused the call with status 418"
    assert (error.status, error.type, error.param) == (418, "invalid_request_error", None)


@pytest.mark.parametrize(
    ("status", "body", "understood"),
    [
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
            ("m", "invalid_request_error", None, None),
        ),
        (
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "r"},
            ("m", "overloaded_error", None, None),
        ),
        (429, {"type": "error", "error": {"message": "m"}}, ("m", "rate_limit_error", None, None)),
        (404, {"error": {"type": "not_found_error"}}, (None, "not_found_error", None, None)),
    ],
)
def test_an_error_of_the_anthropic_dialect_is_understood(
    status: int, body: dict[str, Any], understood: tuple[str | None, str, str | None, str | None]
) -> None:
    """Its type and message; where the type is missing, the one its status has."""
    message, *rest = said(ANTHROPIC.read_error(status, orjson.dumps(body)))
    assert (message, *rest) == (understood[0] or f"the provider refused the call with status {status}", *understood[1:])


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (401, False), (404, False), (408, True), (413, False), (429, True)]
)
def test_a_refusal_is_tried_elsewhere_only_where_that_may_help(status: int, retryable: bool) -> None:
    """Too many calls, and too slow: another target may have room. The rest is the client's to mend."""
    assert OPENAI.read_error(status, b"{}").retryable is retryable
    assert ANTHROPIC.read_error(status, b"{}").retryable is retryable


@pytest.mark.parametrize(
    ("body", "openai"),
    [
        (
            {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
            {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"},
        ),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
            {"message": "no", "type": "invalid_request_error", "param": None, "code": None},
        ),
    ],
)
def test_an_anthropic_providers_error_reaches_an_openai_client(body: dict[str, Any], openai: dict[str, Any]) -> None:
    """In words its SDK knows."""
    error = ANTHROPIC.read_error(429, orjson.dumps(body))
    assert orjson.loads(OPENAI.error(error, "r")) == {"error": openai}


@pytest.mark.parametrize(
    ("status", "kind", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "invalid_request_error", "authentication_error"),
        (402, "insufficient_quota", "billing_error"),
        (403, "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "insufficient_quota", "rate_limit_error"),
        (429, "tokens", "rate_limit_error"),
    ],
)
def test_an_openai_providers_error_reaches_an_anthropic_client(status: int, kind: str, anthropic: str) -> None:
    """By its status: the SDK raises the class the status stands for, and the type must not contradict it."""
    error = OPENAI.read_error(status, orjson.dumps({"error": {"message": "m", "type": kind, "code": "c"}}))
    assert orjson.loads(ANTHROPIC.error(error, "r"))["error"] == {"type": anthropic, "message": "m"}
