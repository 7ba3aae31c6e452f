"""GET /openapi.json: what the server can be asked, as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1).

Rule: made from the table of routes and from nothing else: a row cannot be without its description, and what is not in
the table is not in the document. HEAD is not listed: every GET answers it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import orjson
from aiohttp import web

from runestone import __version__
from runestone.core.json import JsonObject
from runestone.dialects.passage import ANTHROPIC, OPENAI
from runestone.edge.described.about import JSON_TYPE, About, Answer, Body, Needs, Route
from runestone.edge.described.answers import ANSWERS
from runestone.edge.described.operations import ANY, BY_NEED, REFUSALS, TAGS
from runestone.edge.described.parameters import ALWAYS, HEADERS, LIMITS, PARAMETERS
from runestone.edge.described.requests import REQUESTS
from runestone.edge.described.schemas import ref
from runestone.edge.module import Module
from runestone.edge.request import dialect_at

_PLACE: Final = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_WORD: Final = re.compile(r"\w+")
_RETRY: Final = frozenset({"429", "503"})
_ERRORS: Final = {OPENAI.name: "OpenAIError", ANTHROPIC.name: "AnthropicError"}
_SCHEMES: Final[JsonObject] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Or the key alone: `Authorization: K`."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's SDKs send it."},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's SDKs send it."},
}
_DESCRIPTION: Final = """\
An LLM gateway: one base URL in front of OpenAI, Anthropic and every compatible server.

Calls need a key where the configuration says so (`auth.required`); what is under `/admin` always needs one with \
`admin = true`. Every GET answers HEAD too. Names that are not listed here may stand in a call's body, and go up. Null \
stands for "not given"; whole numbers are written without a fraction. A stream that fails ends with an error event. \
Answers carry the provider's ids and limits as `x-provider-...`."""


class Document:
    """The handler. `table` is read at the first request, when it is complete."""

    def __init__(self, table: Sequence[Route]) -> None:
        self._table = table
        self._made: Module | None = None

    async def show(self, request: web.Request) -> web.Response:
        """The document, or a 304. Any page may load it: it holds nothing of the configuration."""
        if self._made is None:
            self._made = Module(orjson.dumps(document(self._table)), JSON_TYPE)
        return await self._made.show(request)


def document(table: Iterable[Route]) -> JsonObject:
    """The document of the rows. Raises ValueError for a row whose parameters are not those of its path."""
    first: dict[int, str] = {}
    paths: dict[str, JsonObject] = {}
    for route in table:
        path = _PLACE.sub(r"{\1}", route.path)
        same_as = first.setdefault(id(route.about), f"{route.method} {path}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, same_as)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runestone",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": says} for name, says in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {**REQUESTS, **ANSWERS},
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "responses": {
                f"{dialect}_{status}": _refusal(status, schema)
                for dialect, schema in _ERRORS.items()
                for status in REFUSALS
            },
            "securitySchemes": _SCHEMES,
        },
    }


def _operation(route: Route, path: str, same_as: str) -> JsonObject:
    about = route.about
    named = [PARAMETERS[name] for name in about.parameters]
    if {one["name"] for one in named if one["in"] == "path"} != set(_PLACE.findall(route.path)):
        raise ValueError(f"{route.method} {path} and the parameters that are said of it differ")
    here = f"{route.method} {path}"
    details = [f"The same as `{same_as}`."] if here != same_as else []
    details += [about.details] if about.details else []
    written: JsonObject = {
        "operationId": "_".join([route.method.lower(), *_WORD.findall(path)]),
        "summary": about.summary,
        "tags": [about.tag],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in (*about.parameters, "request_id")],
        "responses": _responses(about, path),
        "security": _security(about.needs),
    }
    if details:
        written["description"] = " ".join(details)
    if about.body is not None:
        written["requestBody"] = _sent(about.body)
    return written


def _security(needs: Needs) -> list[JsonObject]:
    """Any one of the schemes; roles stand in them for who must be an administrator (OpenAPI 3.1, 4.8.30)."""
    if needs is Needs.NOTHING:
        return []
    return [{scheme: ["admin"] if needs is Needs.ADMIN else []} for scheme in _SCHEMES]


def _sent(body: Body) -> JsonObject:
    shown = {name: {"value": value} for name, value in body.examples.items()}
    more = {"examples": shown} if shown else {}
    return {
        "required": body.is_required,
        "content": {kind: {"schema": schema, **more} for kind, schema in body.contents.items()},
    }


def _responses(about: About, path: str) -> JsonObject:
    found: JsonObject = {str(answer.status): _answer(answer, about.needs) for answer in about.answers}
    dialect = dialect_at(path).name
    for status in (*ANY, *BY_NEED[about.needs], *about.refusals):
        found.setdefault(status, {"$ref": f"#/components/responses/{dialect}_{status}"})
    return found


def _answer(answer: Answer, needs: Needs) -> JsonObject:
    limits = LIMITS if needs is not Needs.NOTHING else ()
    written: JsonObject = {"description": answer.says, "headers": _headers(*ALWAYS, *answer.headers, *limits)}
    if answer.contents:
        written["content"] = {kind: {"schema": schema} for kind, schema in answer.contents.items()}
    if answer.links:
        written["links"] = answer.links
    return written


def _refusal(status: str, schema: str) -> JsonObject:
    headers = ALWAYS if status != "400" else ()  # what is not valid HTTP has no id
    return {
        "description": REFUSALS[status],
        "headers": _headers(*headers, *(["retry-after"] if status in _RETRY else [])),
        "content": {JSON_TYPE: {"schema": ref(schema)}},
    }


def _headers(*names: str) -> JsonObject:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
