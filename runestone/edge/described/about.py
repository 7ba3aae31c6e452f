"""A row of the table of routes, and what it says of itself to whoever reads /openapi.json instead of the code.

Rule: plain values that never change; nothing here knows aiohttp's requests, or any endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from aiohttp.typedefs import Handler

from runestone.core.json import JsonObject

JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream"


class Needs(Enum):
    """What a caller must present."""

    NOTHING = "nothing"
    KEY = "key"
    """A key of the configuration, where `auth.required`."""
    ADMIN = "admin"
    """A key with `admin = true`, always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is sent: by content type the JSON schema, and examples by name, that a fresh gateway answers."""

    contents: Mapping[str, JsonObject]
    examples: Mapping[str, object] = field(default_factory=dict)
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What comes back with a status: by content type the JSON schema, and the headers (parameters.HEADERS) beside those
    of every answer. `links` are OpenAPI's: what of this answer another endpoint takes.
    """

    status: int
    says: str
    contents: Mapping[str, JsonObject] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    links: Mapping[str, JsonObject] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an endpoint does. `parameters` are names of parameters.PARAMETERS, those of the path among them. `refusals`
    are the statuses of operations.REFUSALS that it answers with, beside those that what it needs, and any request, can
    lead to.
    """

    summary: str
    details: str = ""
    tag: str
    needs: Needs = Needs.KEY
    parameters: tuple[str, ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...]
    refusals: tuple[str, ...] = ()

    @property
    def is_streamed(self) -> bool:
        """Whether it can answer with server-sent events."""
        return any(EVENTS_TYPE in answer.contents for answer in self.answers)


class Route(NamedTuple):
    """One row: `path` as aiohttp writes it. Rows with the same `about` do the same; the first is the one to use."""

    method: str
    path: str
    handler: Handler
    about: About
