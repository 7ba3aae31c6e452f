"""Stages of others: the examples of docs/middleware.md, what a failure means, and what is refused at the start."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import aiohttp
import orjson
import pytest

from runestone.app import build
from runestone.config.load import load
from runestone.errors import ConfigurationError
from runestone.middleware import Call, Next, Reply, guard, observer
from runestone.wiring import pipelines
from tests.conftest import StartGateway, StartProvider
from tests.flows.drill import ADMIN, ENVIRON, answer
from tests.gateway import relay
from tests.provider import FakeProvider

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
PIPELINE = '[pipelines]\ndefault = ["meter", "access", "limits", "{}", "..."]\n'


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are found beside a configuration."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@observer
async def stumbles_before(call: Call, next: Next) -> Reply:
    raise KeyError("before")


@observer
async def stumbles_behind(call: Call, next: Next) -> Reply:
    await next(call)
    raise KeyError("behind")


@observer
async def passes(call: Call, next: Next) -> Reply:
    return await next(call)


@guard
async def breaks(call: Call, next: Next) -> Reply:
    raise KeyError("a secret of the middleware")


async def undeclared(call: Call, next: Next) -> Reply:
    raise KeyError("a secret of the middleware")


async def wrong(call: Call, next: Next) -> None:
    return None


async def asked(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, name: str, body: dict[str, object]
) -> tuple[int, aiohttp.ClientResponse, bytes, FakeProvider]:
    up = await provider(answer)
    gate = await gateway(relay(up.url, extra=PIPELINE.format(name) + ADMIN), {"UP_KEY": "k", **ENVIRON})
    async with http.post(f"{gate.url}/v1/chat/completions", json={"model": "m", **body}) as reply:
        return reply.status, reply, await reply.read(), up


HI = {"messages": [{"role": "user", "content": "I am jo@example.org, card 4111 1111 1111 1111"}]}


async def test_redact_changes_the_question(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """What is private does not go up."""
    status, _, _, up = await asked(gateway, provider, http, "redact:redact", HI)
    assert status == 200
    assert up.requests[0].json["messages"][0]["content"] == "I am [redacted], card [redacted]"


async def test_house_rules_stand_in_front_and_the_answer_says_so(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A prompt is put in front; a header is put on the answer."""
    status, reply, _, up = await asked(gateway, provider, http, "house_rules:house_rules", HI)
    assert (status, reply.headers["x-house-rules"]) == (200, "1")
    assert [message["role"] for message in up.requests[0].json["messages"]] == ["system", "user"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_list_of_models_answers_itself(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, stream: bool
) -> None:
    """The provider is not asked; the client reads an answer of its dialect, whole or streamed."""
    status, _, body, up = await asked(gateway, provider, http, "only_small:only_small", {**HI, "stream": stream})
    assert status == 200
    assert not up.requests
    if stream:
        assert body.endswith(b"data: [DONE]\n\n")
        deltas = [orjson.loads(line)["choices"][0]["delta"] for line in re.findall(rb"data: (\{.*\})", body)]
        text = "".join(delta.get("content") or "" for delta in deltas)
    else:
        text = orjson.loads(body)["choices"][0]["message"]["content"]
    assert text.startswith("The model m is not available here")


async def test_a_list_of_models_refuses_what_is_no_chat(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """A refusal of a middleware is one like our own."""
    up = await provider(answer)
    gate = await gateway(relay(up.url, extra=PIPELINE.format("only_small:only_small")), {"UP_KEY": "k"})
    async with http.post(f"{gate.url}/v1/embeddings", json={"model": "m", "input": "hi"}) as reply:
        assert reply.status == 403
        assert (await reply.json())["error"]["param"] == "model"


@pytest.mark.parametrize(
    "name", ["loudest:Loudest", f"{__name__}:stumbles_before", f"{__name__}:stumbles_behind", f"{__name__}:passes"]
)
async def test_an_observer_never_fails_a_call(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, name: str
) -> None:
    """It fails before or behind the rest, and the client has its answer; the provider is asked once."""
    status, _, _, up = await asked(gateway, provider, http, name, HI)
    assert status == 200
    assert len(up.requests) == 1


async def test_an_observers_failure_is_counted(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """By name."""
    up = await provider(answer)
    name = f"{__name__}:stumbles_behind"
    gate = await gateway(relay(up.url, extra=PIPELINE.format(name)), {"UP_KEY": "k"})
    async with http.post(f"{gate.url}/v1/chat/completions", json={"model": "m", **HI}) as reply:
        assert reply.status == 200
    async with http.get(f"{gate.url}/metrics") as scraped:
        assert f'runestone_middleware_failures_total{{middleware="{name}"}} 1.0' in await scraped.text()


async def test_an_observer_does_not_hide_what_failed_further_in(
    gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    """The provider's failure stays the provider's, and is not counted as the observer's."""
    gate = await gateway(relay("http://127.0.0.1:9", extra=PIPELINE.format(f"{__name__}:passes")), {"UP_KEY": "k"})
    async with http.post(f"{gate.url}/v1/chat/completions", json={"model": "m", **HI}) as reply:
        assert reply.status == 502
    async with http.get(f"{gate.url}/metrics") as scraped:
        assert "runestone_middleware_failures_total{" not in await scraped.text()


@pytest.mark.parametrize("name", ["breaks", "undeclared", "wrong"])
async def test_a_guards_failure_is_the_calls_and_says_nothing(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, name: str
) -> None:
    """A 500 with the request's id and nothing else; nobody is asked."""
    status, reply, body, up = await asked(gateway, provider, http, f"{__name__}:{name}", HI)
    assert status == 500
    assert not up.requests
    told = orjson.loads(body)["error"]
    assert told["message"] == f"internal error; the request id is {reply.headers['x-request-id']}"
    assert b"secret" not in body


async def test_streams_may_have_a_pipeline_of_their_own(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Only streams pass what stands in `streaming` alone."""
    up = await provider(answer)
    extra = '[pipelines]\nstreaming = ["meter", "house_rules:house_rules", "..."]\n'
    gate = await gateway(relay(up.url, extra=extra), {"UP_KEY": "k"})
    url = f"{gate.url}/v1/chat/completions"
    async with http.post(url, json={"model": "m", **HI}) as whole:
        assert "x-house-rules" not in whole.headers
    async with http.post(url, json={"model": "m", "stream": True, **HI}) as stream:
        assert stream.headers["x-house-rules"] == "1"
        assert (await stream.read()).endswith(b"[DONE]\n\n")


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ('["access", "..."]', "'meter' must be the first"),
        ('["meter", "route", "fallback", "guard"]', "'access' is missing"),
        ('["meter", "route", "access", "limits", "fallback", "guard"]', "'access' must stand before 'route'"),
        ('["meter", "store", "cache", "..."]', "the built-in stages keep their order: meter, cache"),
        ('["meter", "meter", "..."]', "'meter' stands there more than once"),
        ('["meter", "cach", "..."]', "there is no stage 'cach', did you mean 'cache'?"),
        ('["meter", "no_such_module:x", "..."]', "'no_such_module:x' cannot be found"),
        ('["meter", "redact:nothing", "..."]', "'redact:nothing' cannot be found"),
        ('["meter", "redact:PRIVATE", "..."]', "'redact:PRIVATE' is no function"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(told: str, fault: str, tmp_path: Path) -> None:
    """With the list it stands in."""
    file = tmp_path / "runestone.toml"
    file.write_text(f"[pipelines]\ndefault = {told}\n")
    with pytest.raises(ConfigurationError) as refused:
        build(load(file, {}))
    assert any(line.startswith("configuration:pipelines.default: ") and fault in line for line in refused.value.faults)


def test_an_entry_point_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the group `runestone.middlewares`, as an installed package declares it."""
    point = EntryPoint("rules", "house_rules:house_rules", "runestone.middlewares")
    monkeypatch.setattr(pipelines, "entry_points", lambda group: [point] if group == point.group else [])
    file = tmp_path / "runestone.toml"
    file.write_text('[pipelines]\ndefault = ["meter", "rules", "..."]\n')
    build(load(file, {}))
    file.write_text('[pipelines]\ndefault = ["meter", "rule", "..."]\n')
    with pytest.raises(ConfigurationError, match="did you mean 'rules'"):
        build(load(file, {}))


def test_the_admin_key_cannot_be_left_out(tmp_path: Path) -> None:
    """Anybody could change the gateway."""
    file = tmp_path / "runestone.toml"
    file.write_text('[pipelines]\nadmin = ["redact:redact"]\n')
    with pytest.raises(ConfigurationError, match='"admin_key" is missing'):
        build(load(file, {}))
