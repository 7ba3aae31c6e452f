"""GET /openapi.json says what the server is: every route, what it needs, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from runestone.core import steer
from runestone.core.call import Operation
from runestone.dialects import anthropic, openai
from runestone.edge.described import operations
from runestone.edge.described.about import Route
from runestone.edge.described.parameters import HEADERS, PARAMETERS
from runestone.edge.described.requests import STEERING
from runestone.edge.openapi import document
from tests.conftest import StartGateway

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = "[providers.simulated]\nsimulated.tokens_per_second = 0\n"
KEYS = "[auth]\nrequired = true\n" + "".join(
    f'[[auth.keys]]\nname = "{name}"\nsha256 = "{sha256(name.encode()).hexdigest()}"\nadmin = {admin}\n'
    for name, admin in (("plain", "false"), ("chief", "true"))
)
METHODS = {"GET", "POST", "DELETE"}
PLACE = re.compile(r"\{(\w+)\}")
Asked = tuple[str, str]


async def read(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url + "/openapi.json") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        found: dict[str, Any] = await response.json()
        return found


def asked(described: dict[str, Any]) -> dict[Asked, dict[str, Any]]:
    """The operations, by method and path."""
    return {
        (method.upper(), path): operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
    }


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_the_document_is_valid(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """It is an OpenAPI 3.1 document, and defines nothing that it does not use."""
    gate = await gateway(SIMULATED)
    described = await read(http, gate.url)
    OpenAPIV31SpecValidator(described).validate()
    used = set(references(described))
    assert described["openapi"] == "3.1.0"
    for kind in ("schemas", "parameters", "headers"):
        defined = {f"#/components/{kind}/{name}" for name in described["components"][kind]}
        assert defined <= used, f"nothing refers to {sorted(defined - used)}"
    tags = {tag for operation in asked(described).values() for tag in operation["tags"]}
    assert tags == {tag["name"] for tag in described["tags"]}


@pytest.mark.parametrize("more", ["", "[websocket]\nenabled = false\n"])
async def test_it_lists_every_route_and_nothing_else(
    more: str, gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """What is served and what is described are the same, whatever the configuration turns off."""
    gate = await gateway(SIMULATED + more)
    served = {
        (route.method, route.resource.canonical)
        for route in gate.app.web.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = set(asked(await read(http, gate.url)))
    assert described == served
    assert (("GET", "/ws") in described) == (not more)


def listed(text: str) -> Iterator[Asked]:
    """What the tables of a page name: methods, then paths in backticks, or only the last part of one."""
    for row in re.findall(r"^\| (.*?) \|", re.sub(r"`([A-Z]{3,}) /", r"\1 `/", text), re.MULTILINE):
        methods: list[str] = []
        path, is_open = "", False
        for word in re.findall(r"[A-Z]{3,}|`[^`]+`", row):
            if word in METHODS:
                methods, is_open = ([*methods, word] if is_open else [word]), True
                continue
            is_open = False
            part = word.strip("`")
            path = part if part.startswith("/") else path.rpartition("/")[0] + "/" + part
            yield from ((method, path) for method in methods)


def plainly(operation: Asked) -> set[Asked]:
    """An operation as a person writes it: each verb by itself."""
    method, path = operation
    verbs = PARAMETERS["verb"]["schema"]
    assert isinstance(verbs, dict)
    return {(method, path.replace("{verb}", verb)) for verb in verbs["enum"]}


async def test_the_readme_lists_the_same(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Its table of endpoints names what there is and nothing else; beside it stand only other paths to the same."""
    gate = await gateway(SIMULATED)
    described = asked(await read(http, gate.url))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = set(listed(text.partition("\n## Endpoints\n")[2].partition("\n## ")[0]))
    assert "also without `/v1`, and as `/openai/deployments/{model}/...`" in text
    there = {plain: operation for operation in described for plain in plainly(operation)}
    assert table <= there.keys(), f"the README lists what is not there: {sorted(table - there.keys())}"
    for plain in there.keys() - table:
        operation = described[there[plain]]
        same = re.match(r"The same as `(\w+) (\S+)`", operation.get("description", ""))
        is_azure = plain[1].startswith("/openai/deployments/{model}/")
        assert is_azure or (same and same.groups() in table), f"the README does not list {plain}"


async def test_other_pages_list_what_there_is(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """The tables of docs/ name no endpoint that is not there; what administrators can do stands in operations.md."""
    gate = await gateway(SIMULATED)
    described = asked(await read(http, gate.url))
    there = {plain for operation in described for plain in plainly(operation)}
    admin = {plain for plain in there if plain[1].startswith("/admin/")}
    pages = {page.name: set(listed(page.read_text(encoding="utf-8"))) for page in ROOT.glob("docs/*.md")}
    for name, told in pages.items():
        named = {operation for operation in told if operation[1].startswith(("/v1/", "/admin/"))}
        assert named <= there, f"{name} lists what is not there: {sorted(named - there)}"
    assert admin <= pages["operations.md"], f"operations.md lacks {sorted(admin - pages['operations.md'])}"


async def test_who_may_ask_is_as_it_says(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """Where keys are required: what needs none is open, what needs one is a 401 without, and what needs an
    administrator's is a 403 with any other.
    """
    gate = await gateway(SIMULATED + KEYS)
    for (method, path), operation in asked(await read(http, gate.url)).items():
        filled = PLACE.sub(lambda place: "drain" if place[1] == "verb" else "none", path)
        said = {tuple(roles) for scheme in operation["security"] for roles in scheme.values()}
        for key, refused in ((None, {()} | {("admin",)}), ("plain", {("admin",)})):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with http.request(method, gate.url + filled, headers=headers) as response:
                status, body = response.status, await response.read()
            expected = 401 if key is None else 403
            assert (status == expected) == bool(said & refused), (method, path, key, status, body)
            assert str(status) in operation["responses"], (method, path, status)


async def test_it_is_asked_for_anew_only_when_it_has_changed(
    gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """It has an ETag that answers 304, any page may read it, and HEAD is answered."""
    gate = await gateway(SIMULATED + KEYS)
    url = gate.url + "/openapi.json"
    async with http.get(url, headers={"Origin": "https://anywhere.example"}) as response:
        tag, size = response.headers["ETag"], len(await response.read())
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    async with http.head(url) as response:
        assert (response.headers["ETag"], int(response.headers["Content-Length"])) == (tag, size)
    async with http.get(url, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")


async def test_two_gateways_say_the_same(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """The document holds nothing of the configuration: no model, provider, key or address."""
    plain = await gateway(SIMULATED)
    other = await gateway('[providers.secret]\nkind = "simulated"\n' + KEYS)
    assert await read(http, plain.url) == await read(http, other.url)


async def test_examples_are_answered(gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    """What the document shows as a body works as it stands, with the types of content it says."""
    gate = await gateway(SIMULATED + KEYS + "[cache]\nenabled = true\n")
    shown = 0
    for (method, path), operation in asked(await read(http, gate.url)).items():
        for kind, content in operation.get("requestBody", {"content": {}})["content"].items():
            for name, example in content["examples"].items():
                value = example["value"]
                data = value.encode() if isinstance(value, str) else orjson.dumps(value)
                headers = {"Authorization": "Bearer chief", "Content-Type": kind}
                asking = http.request(method, gate.url + PLACE.sub("simulated", path), data=data, headers=headers)
                async with asking as response:
                    body = await response.read()
                assert response.status == 200, (path, name, body)
                assert response.content_type in operation["responses"]["200"]["content"], (path, name)
                assert b"internal_error" not in body
                shown += 1
    assert shown > 20


def test_every_field_that_is_checked_is_explained() -> None:
    """A field in a table the code checks by has a line of text; a field that steers has its schema."""
    described = document([])
    schemas = described["components"]["schemas"]  # type: ignore[index]
    for name, types in (
        ("ChatRequest", openai.TYPES[Operation.CHAT]),
        ("CompletionRequest", openai.TYPES[Operation.COMPLETIONS]),
        ("EmbeddingsRequest", openai.TYPES[Operation.EMBEDDINGS]),
        ("MessagesRequest", anthropic.TYPES),
        ("CountTokensRequest", anthropic.TYPES),
    ):
        properties = schemas[name]["properties"]
        silent = [field for field in (*types, *steer.FIELDS) if not properties.get(field, {}).get("description")]
        assert not silent, f"{name}: say what they are in described/requests.py: {silent}"
    assert STEERING.keys() == steer.FIELDS


def test_names_that_are_not_there_are_refused() -> None:
    """A row whose path has other parameters than are said of it is a fault, not a wrong document."""

    async def handler(request: Any) -> Any:
        return None

    with pytest.raises(ValueError, match="differ"):
        document([Route("GET", "/v1/models/{name}", handler, operations.MODEL)])
    assert document([Route("GET", "/v1/models/{id:.+}", handler, operations.MODEL)])["paths"]


def test_every_name_is_used() -> None:
    """No parameter, header or refusal is written down that no endpoint has."""
    said = [value for value in vars(operations).values() if isinstance(value, operations.About)]
    parameters = {name for about in said for name in (*about.parameters, "request_id")}
    headers = {name for about in said for answer in about.answers for name in answer.headers}
    assert parameters == PARAMETERS.keys()
    assert {
        name for name in HEADERS if not name.startswith(("x-ratelimit-", "x-request", "request", "retry"))
    } == headers
    refusals = {*operations.ANY, *(status for about in said for status in about.refusals)}
    assert refusals | {"401", "403"} == operations.REFUSALS.keys()
