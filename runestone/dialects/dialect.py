"""What every dialect offers to the gateway, and the checks of field types they share.

Rule: a dialect is pure: bytes and objects in, bytes and objects out.
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from runestone.core.call import Operation
from runestone.core.json import JsonObject
from runestone.core.summary import Summary
from runestone.errors import BadRequest, ProviderError, ProviderRefused, RunestoneError


class Dialect(Protocol):
    """How a vendor writes calls, answers, streams and errors."""

    name: str

    def path(self, operation: Operation) -> str:
        """The path behind a provider's base URL."""

    def check(self, operation: Operation, fields: JsonObject) -> None:
        """Raises BadRequest (with `param`) for a field no provider of this dialect could accept; unknown fields
        pass.
        """

    def error(self, error: RunestoneError, request_id: str) -> bytes:
        """The body of an error answer."""

    def error_event(self, error: RunestoneError, request_id: str) -> bytes:
        """The event that ends a stream that failed."""

    def read_error(self, status: int, body: bytes) -> ProviderRefused:
        """A provider's error answer, understood as far as it can be."""

    def summarise(self, operation: Operation, answer: dict[str, Any], summary: Summary) -> None:
        """Fills `summary` from a whole answer. Raises ProviderFailed when it is none of this dialect."""


class Passage(Protocol):
    """How one call's bytes get from the client's dialect to the provider's, and the answer's back. Used once."""

    @property
    def summary(self) -> Summary:
        """What the answer said of itself, as far as it has come."""

    @property
    def failure(self) -> ProviderError | None:
        """The error the provider reported inside its stream."""

    @property
    def started(self) -> bool:
        """Whether content has come."""

    @property
    def complete(self) -> bool:
        """Whether the stream's own end marker has come: nothing that matters can follow."""

    def request(self) -> bytes:
        """The body to send. Raises BadRequest for what cannot be carried over."""

    def answer(self, body: bytes) -> bytes:
        """The whole answer for the client. Raises ProviderFailed when the provider's is not one."""

    def feed(self, block: bytes) -> bytes:
        """A block of whole events for the client; b"" when there is nothing to say yet."""

    def finish(self) -> bytes:
        """What is owed at the provider's clean end. Raises ProviderError when the stream was not complete."""


Types = dict[str, tuple[type, ...]]

_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    list: "an array",
    dict: "an object",
}
NUMBER = (int, float)


def check_types(fields: JsonObject, types: Types) -> None:
    """Raises BadRequest for the first field whose value has none of its types; null stands for "not given"."""
    for name, value in fields.items():
        expected = types.get(name)
        if expected is None or value is None or type(value) in expected:
            continue
        wanted = " or ".join(_NAMES[kind] for kind in expected if not (kind is int and float in expected))
        raise BadRequest(f"{name!r} must be {wanted}", param=name)


def check_messages(fields: JsonObject) -> None:
    """Raises BadRequest unless `messages` is a non-empty array of objects that each have a role."""
    messages = fields.get("messages")
    if messages is None:
        raise BadRequest("'messages' is missing", param="messages")
    if type(messages) is not list or not messages:
        raise BadRequest("'messages' must be a non-empty array", param="messages")
    for index, message in enumerate(messages):
        if type(message) is not dict:
            raise BadRequest(f"'messages[{index}]' must be an object", param=f"messages[{index}]")
        if type(message.get("role")) is not str:
            raise BadRequest(f"'messages[{index}].role' must be a string", param=f"messages[{index}].role")


def check_positive(fields: JsonObject, *names: str) -> None:
    """Raises BadRequest for a number below one."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and value < 1:
            raise BadRequest(f"{name!r} must be at least 1", param=name)


def load_object(data: bytes) -> dict[str, Any]:
    """The JSON object in an event or an answer; {} for anything else, which is left to whoever reads it."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


def text(value: object) -> str | None:
    """A non-empty string of a provider, None for anything else."""
    return value if type(value) is str and value else None


def count(value: object) -> int | None:
    """A count of a provider that can be one, None for anything else."""
    return value if type(value) is int and 0 <= value < 2**53 else None
