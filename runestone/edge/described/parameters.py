"""What requests may carry beside a body, and what answers carry beside theirs.

Rule: data. A pattern lets through a part of what the code accepts, never more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runestone.core.call import MAX_TAG, MAX_TAGS
from runestone.core.json import JsonObject
from runestone.edge.admin import VERBS
from runestone.edge.described.schemas import one
from runestone.edge.request import KEY_PROTOCOL
from runestone.edge.state import MOST_LISTED

_DURATION: Final = r"^([1-9][0-9]{0,8}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9])(ms|s|m|h|d)$"
"""More than nothing, with a unit (config/units.py)."""
_DURATION_OR_ZERO: Final = _DURATION.replace("^(", "^(0|")

_TAG: Final = rf"[^, \t]([^,]{{0,{MAX_TAG - 2}}}[^, \t])?"


def _header(name: str, says: str, example: str | None = None, **schema: object) -> JsonObject:
    told: JsonObject = {"name": name, "in": "header", "description": says, "schema": {"type": "string", **schema}}
    return told if example is None else {**told, "example": example}


def _path(name: str, says: str, example: str, **schema: object) -> JsonObject:
    told = {"type": "string", "minLength": 1, **schema}
    return {"name": name, "in": "path", "required": True, "description": says, "schema": told, "example": example}


PARAMETERS: Final[Mapping[str, JsonObject]] = {
    # paths
    "model_in_path": _path("id", "A model's name; it may hold slashes, written as they are.", "simulated"),
    "deployment": _path("model", "The deployment: a model's name.", "simulated"),
    "stream_in_path": _path("id", "The x-runestone-stream-id of the answer that began the stream.", "stream_0"),
    "provider_in_path": _path("name", "A provider's name in the configuration.", "openai"),
    "verb": _path(
        "verb",
        "drain: finishes what runs, takes nothing new. resume: takes calls again. reset: closes breakers, and wakes "
        "resting credentials.",
        VERBS[0],
        enum=list(VERBS),
    ),
    # queries
    "api_version": {
        "name": "api-version",
        "in": "query",
        "description": "Azure's; passed over.",
        "schema": one("string"),
    },
    "calls": {
        "name": "calls",
        "in": "query",
        "description": f"How many of the calls in flight are listed, the oldest first; {MOST_LISTED} at most.",
        "schema": one("integer", minimum=0, maximum=999_999_999, default=MOST_LISTED),
    },
    # headers
    "request_id": _header(
        "x-request-id",
        "The request's id in answer, log and trace; printable ASCII without blanks, 200 characters at most. Of what is "
        "none, or missing, a new one is made.",
        "my-request-1",
    ),
    "timeout": _header("x-runestone-timeout", "Lowers the time a call may take in all.", "30s", pattern=_DURATION),
    "cache_control": _header(
        "Cache-Control",
        "What the cache may do (RFC 9111, 5861): no-cache, no-store, max-age=N, min-fresh=N, max-stale[=N], "
        "only-if-cached, stale-while-revalidate=N, stale-if-error=N.",
        "no-cache",
    ),
    "cache_ttl": _header(
        "x-runestone-cache-ttl",
        "How long this call's answer is true; 0s keeps nothing.",
        "90s",
        pattern=_DURATION_OR_ZERO,
    ),
    "tags": _header(
        "x-runestone-tags",
        f"Names to clear the kept answer by: at most {MAX_TAGS}, of {MAX_TAG} characters each.",
        "faq,en",
        pattern=f"^[ \\t,]*({_TAG}([ \\t]*,[ \\t,]*{_TAG}){{0,{MAX_TAGS - 1}}}[ \\t,]*)?$",
    ),
    "resumable": _header(
        "x-runestone-resumable",
        "true: a stream of this call can be rejoined after a lost connection (GET /v1/streams/{id}).",
        "true",
    ),
    "last_event_id": _header(
        "Last-Event-ID",
        "The id of the last event that arrived; the stream goes on behind it. Without it, or empty, from the first.",
        "0",
        pattern="^[0-9]{0,18}$",
    ),
    "traceparent": _header("traceparent", "The trace this call belongs to (W3C Trace Context)."),
    "tracestate": _header("tracestate", "What the trace's systems say of it (W3C Trace Context)."),
    "idempotency_key": _header("idempotency-key", "Passed on to providers of the same dialect."),
    "openai_beta": _header("openai-beta", "Passed on to providers of the same dialect."),
    "anthropic_version": _header("anthropic-version", "Passed on to providers of the same dialect.", "2023-06-01"),
    "anthropic_beta": _header("anthropic-beta", "Passed on to providers of the same dialect."),
    "none_match": _header("If-None-Match", "The ETag that is known; a 304 says that it has not changed."),
    "socket_protocol": _header(
        "Sec-WebSocket-Protocol", f"{KEY_PROTOCOL}K: the key, where a browser cannot set headers."
    ),
}
"""Parameter objects, by names of our own."""


def _told(says: str, *, required: bool = False, kind: str = "string") -> JsonObject:
    return {"description": says, "schema": one(kind), **({"required": True} if required else {})}


HEADERS: Final[Mapping[str, JsonObject]] = {
    "x-request-id": _told("The request's id, as OpenAI's SDK reads it.", required=True),
    "request-id": _told("The same, as Anthropic's SDK reads it.", required=True),
    "retry-after": _told("Seconds to wait, where they are known.", kind="integer"),
    "server-timing": _told(
        "Milliseconds to the answer's head: gateway;dur=0.31, upstream;dur=412.0 (waiting for providers).",
        required=True,
    ),
    "cache-status": _told("What the cache did (RFC 9211): runestone; hit; ttl=271, runestone; fwd=miss; stored, ..."),
    "age": _told("Seconds since the answer was kept; of hits.", kind="integer"),
    "x-runestone-provider": _told("Who answered."),
    "x-runestone-model": _told("By which model."),
    "x-runestone-attempts": _told("How many attempts it took.", kind="integer"),
    "x-runestone-estimate": _told("true: tokens were counted here, by estimate; the provider cannot."),
    "x-runestone-stream-id": _told("Of a resumable stream: where it can be rejoined (GET /v1/streams/{id})."),
    "etag": _told("Changes when the content does.", required=True),
    **{
        f"x-ratelimit-{what}-{of}": _told(says.format(of), kind=kind)
        for of in ("requests", "requests-hour", "tokens")
        for what, says, kind in (
            ("limit", "Of a limited key: {} it may have.", "integer"),
            ("remaining", "Of a limited key: {} that are left.", "integer"),
            ("reset", "Of a limited key: until all {} are back, such as 1s or 6m0s.", "string"),
        )
    },
}
"""Header objects of answers, by the header's name."""

ALWAYS: Final = ("x-request-id", "request-id")
"""On every answer to what is valid HTTP."""
LIMITS: Final = tuple(name for name in HEADERS if name.startswith("x-ratelimit-"))
"""On answers to a limited key."""
