"""What schemathesis is told of this server, in its own process: which models there are, how to write what it cannot,
and three promises that a schema does not hold.
"""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

MODELS = ("simulated", "crossed")
ROLES = ("system", "developer", "user", "assistant")
BEYOND_A_SCHEMA = (
    "no target of this model is left by",
    "does not offer",
    "this is a WebSocket endpoint",
    "has no connections to",
    ".custom_id' is that of",
    "needs a batch that streams itself",
)
"""Refusals of what is well formed: what is wrong with it lies in the configuration, or between two fields."""
SEEN: Counter[str] = Counter()
"""Answers, by operation and status."""


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def lines(ctx: Any, value: Any) -> bytes:
    """JSON lines are text."""
    return str(value).encode()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Most bodies ask for a model that is there, and streams can be rejoined; what is meant well says something."""
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = "crossed"
    body = case.body
    if not isinstance(body, dict):
        return
    model = body.get("model")
    if isinstance(model, str) and len(model) > 1:
        body["model"] = MODELS[len(repr(body)) % len(MODELS)] if "messages" in body else MODELS[0]
    if body.get("stream") is True and "requests" not in body:
        case.headers["x-runestone-resumable"] = "true"
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for name, value in body.items():  # to a schema 1.0 is a whole number too; the document says how to write one
        if isinstance(value, float) and value.is_integer():
            body[name] = int(value)
    for message in body.get("messages") or ():
        if message.get("role") not in ROLES:
            message["role"] = "user"
        if not isinstance(message.get("content"), str):
            message["content"] = repr(message.get("content"))


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Counts."""
    SEEN[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def write() -> None:
    """Tells the test what was answered."""
    Path(os.environ["RUNESTONE_SEEN"]).write_text(json.dumps(SEEN))


@schemathesis.check
def what_is_well_formed_is_not_refused(ctx: Any, response: Any, case: Any) -> None:
    """A 400 to what the document allows is a provider's, or says what a schema cannot."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 413, 422):
        return
    said = response.text
    if "x-runestone-provider" not in response.headers and not any(text in said for text in BEYOND_A_SCHEMA):
        raise AssertionError(f"what the document allows is refused: {said[:500]}")


@schemathesis.check
def what_is_malformed_is_refused_here(ctx: Any, response: Any, case: Any) -> None:
    """A body that the document forbids reaches no provider, not even one that refuses it too."""
    part = case.meta.components.get(ParameterLocation.BODY) if case.meta is not None else None
    if part is not None and part.mode.is_negative and "x-runestone-provider" in response.headers:
        raise AssertionError(f"what the document forbids was sent on, and answered with {response.status_code}")


@schemathesis.check
def nothing_is_our_fault(ctx: Any, response: Any, case: Any) -> None:
    """No answer, no event of a stream, no line of a batch says that the fault is ours."""
    if case.operation.path == "/metrics":  # where the code of the error is a label
        return
    if "internal_error" in response.text or '"server_error"' in response.text:
        raise AssertionError(f"our own fault: {response.text[:500]}")
