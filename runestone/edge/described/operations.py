"""What each row of the table of routes says of itself.

Rule: data, one constant for each thing that can be asked; who adds a row to the table adds it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from runestone.core.json import JsonObject
from runestone.edge.batch_lines import MAX_LINES
from runestone.edge.described.about import EVENTS_TYPE, JSON_TYPE, About, Answer, Body, Needs
from runestone.edge.described.schemas import one, record, ref

TAGS: Final[Mapping[str, str]] = {
    "OpenAI": "For OpenAI's SDKs, and whatever speaks their dialect; also without /v1, and in Azure's form.",
    "Anthropic": "For Anthropic's SDKs.",
    "Batch": "Many calls in one request.",
    "Streams": "What outlives a lost connection.",
    "Models": "For both vendors' SDKs.",
    "Health": "For load balancers, Prometheus and people. No key needed.",
    "Documents": "What the server says of itself, and its module for browsers. No key needed.",
    "Admin": "For keys with `admin = true`.",
}

REFUSALS: Final[Mapping[str, str]] = {
    "400": "The request, or a field of it, is wrong: `param` names it. Or it is not valid HTTP.",
    "401": "There is no key, or it is unknown, disabled or over.",
    "403": "The key may not use this, or not this model.",
    "404": "There is no such thing here; of a model the nearest names are told.",
    "413": "The body is larger than `server.max_body`.",
    "429": "A limit of the key, or of the provider, is reached; `retry-after` is the real wait.",
    "4XX": "A provider's own refusal, with its own status.",
    "500": "Our own fault: the log has what the request id stands for.",
    "502": "The provider failed, or answered with something that is no answer.",
    "503": "Nobody can take it now: the gateway drains, breakers are open, pools are full.",
    "504": "Too slow; or nothing is kept, and the client wanted a kept answer only.",
}
"""What can go wrong, by status."""

ANY: Final = ("400", "500")
"""What any request can lead to."""
BY_NEED: Final[Mapping[Needs, tuple[str, ...]]] = {
    Needs.NOTHING: (),
    Needs.KEY: ("401",),
    Needs.ADMIN: ("401", "403"),
}

_CALL: Final = ("403", "404", "413", "429", "4XX", "502", "503", "504")
_CALL_HEADERS: Final = (
    *("server-timing", "cache-status", "age", "x-runestone-provider", "x-runestone-model", "x-runestone-attempts"),
)
_EVENTS: Final = record(
    "One of the server-sent events (WHATWG HTML 9.2) that make the stream.",
    {
        "event": one("string", "Its name, where the dialect gives names."),
        "data": one("string", "The dialect's JSON; at OpenAI's and a batch's end [DONE].", contentMediaType=JSON_TYPE),
        "id": one("string", "Of a resumable stream: where to go on behind it."),
    },
    ("data",),
)
_CALL_PARAMETERS: Final = (
    "timeout",
    "cache_control",
    "cache_ttl",
    "tags",
    "traceparent",
    "tracestate",
    "idempotency_key",
)
_HELLO: Final[list[JsonObject]] = [{"role": "user", "content": "Tell me about rivers."}]


def _json(schema: JsonObject) -> Mapping[str, JsonObject]:
    return {JSON_TYPE: schema}


def _body(name: str, **examples: object) -> Body:
    return Body(contents=_json(ref(name)), examples=examples)


def _shown(says: str, name: str, *, status: int = 200) -> Answer:
    return Answer(status=status, says=says, contents=_json(ref(name)))


def _answered(name: str, *, streams: bool = True, more: tuple[str, ...] = ()) -> tuple[Answer, ...]:
    """The answer of a call; as events where it streams, and then maybe resumable."""
    headers = (*_CALL_HEADERS, *more)
    if not streams:
        return (Answer(status=200, says="The answer.", contents=_json(ref(name)), headers=headers),)
    says = 'The answer; server-sent events with `"stream": true`.'
    there = {"id": "$response.header.x-runestone-stream-id"}
    links: Mapping[str, JsonObject] = {
        "rejoin": {
            "operationId": "get_v1_streams_id",
            "parameters": there,
            "description": "A resumable stream goes on.",
        },
        "end": {"operationId": "delete_v1_streams_id", "parameters": there, "description": "A resumable stream ends."},
    }
    contents = {JSON_TYPE: ref(name), EVENTS_TYPE: _EVENTS}
    headers = (*headers, "x-runestone-stream-id")
    return (Answer(status=200, says=says, contents=contents, headers=headers, links=links),)


CHAT: Final = About(
    summary="Chat completion",
    details="To a model of any vendor: what crosses between dialects, docs/crossing.md says.",
    tag="OpenAI",
    parameters=(*_CALL_PARAMETERS, "openai_beta", "resumable"),
    body=_body(
        "ChatRequest",
        whole={"model": "simulated", "messages": _HELLO},
        stream={"model": "simulated", "stream": True, "messages": _HELLO, "stream_options": {"include_usage": True}},
    ),
    answers=_answered("Completion"),
    refusals=_CALL,
)
COMPLETIONS: Final = About(
    summary="Text completion",
    tag="OpenAI",
    parameters=(*_CALL_PARAMETERS, "openai_beta", "resumable"),
    body=_body(
        "CompletionRequest",
        whole={"model": "simulated", "prompt": "Rivers are", "max_tokens": 20},
        stream={"model": "simulated", "prompt": ["Rivers", "Seas"], "max_tokens": 20, "stream": True},
    ),
    answers=_answered("TextCompletion"),
    refusals=_CALL,
)
EMBEDDINGS: Final = About(
    summary="Embeddings",
    details="Single ones that arrive together go up together, and what is kept is not asked for again: docs/cache.md.",
    tag="OpenAI",
    parameters=(*_CALL_PARAMETERS, "openai_beta"),
    body=_body("EmbeddingsRequest", one={"model": "simulated", "input": "rivers", "dimensions": 8}),
    answers=_answered("Embeddings", streams=False),
    refusals=_CALL,
)
MESSAGES: Final = About(
    summary="Message",
    details="To a model of any vendor: what crosses between dialects, docs/crossing.md says.",
    tag="Anthropic",
    parameters=(*_CALL_PARAMETERS, "anthropic_version", "anthropic_beta", "resumable"),
    body=_body(
        "MessagesRequest",
        whole={"model": "simulated", "max_tokens": 100, "messages": _HELLO},
        stream={"model": "simulated", "max_tokens": 100, "messages": _HELLO, "stream": True},
    ),
    answers=_answered("Message"),
    refusals=_CALL,
)
COUNT_TOKENS: Final = About(
    summary="The tokens of a message",
    details="An estimate where the provider cannot count; it says so (x-runestone-estimate).",
    tag="Anthropic",
    parameters=(*_CALL_PARAMETERS, "anthropic_version", "anthropic_beta"),
    body=_body("CountTokensRequest", count={"model": "simulated", "messages": _HELLO}),
    answers=_answered("TokenCount", streams=False, more=("x-runestone-estimate",)),
    refusals=_CALL,
)


def _at_deployment(about: About, name: str) -> About:
    """The same in Azure's form, where the deployment names the model."""
    examples = about.body.examples if about.body is not None else {}
    unnamed = {key: _without_model(example) for key, example in examples.items()}
    return replace(
        about,
        summary=f"{about.summary}, in Azure's form",
        parameters=("deployment", "api_version", *about.parameters),
        body=_body(name, **unnamed),
    )


def _without_model(example: object) -> object:
    return {name: value for name, value in example.items() if name != "model"} if isinstance(example, dict) else example


AZURE_CHAT: Final = _at_deployment(CHAT, "DeploymentChatRequest")
AZURE_COMPLETIONS: Final = _at_deployment(COMPLETIONS, "DeploymentCompletionRequest")
AZURE_EMBEDDINGS: Final = _at_deployment(EMBEDDINGS, "DeploymentEmbeddingsRequest")

BATCH: Final = About(
    summary="Many calls in one",
    details=f"Up to {MAX_LINES} lines, in the form of OpenAI's batch files; docs/batch.md. What is wrong with one line "
    "is its own answer. The headers are every line's.",
    tag="Batch",
    parameters=(*_CALL_PARAMETERS, "openai_beta", "anthropic_version", "anthropic_beta"),
    body=_body(
        "BatchRequest",
        whole={
            "requests": [
                {"custom_id": "a", "body": {"model": "simulated", "messages": _HELLO}},
                {"custom_id": "b", "url": "/v1/embeddings", "body": {"model": "simulated", "input": "rivers"}},
            ]
        },
        stream={
            "stream": True,
            "requests": [{"body": {"model": "simulated", "messages": _HELLO, "stream": True}}],
        },
    ),
    answers=(
        Answer(
            status=200,
            says='The answers in order; with `"stream": true` server-sent events, as the lines finish.',
            contents={JSON_TYPE: ref("Batch"), EVENTS_TYPE: _EVENTS},
        ),
    ),
    refusals=("413", "503"),
)
MODELS: Final = About(
    summary="The models this key may use",
    tag="Models",
    answers=(
        Answer(
            status=200,
            says="The models.",
            contents=_json(ref("Models")),
            links={
                "first": {
                    "operationId": "get_v1_models_id",
                    "parameters": {"id": "$response.body#/first_id"},
                    "description": "The first of them.",
                }
            },
        ),
    ),
)
MODEL: Final = About(
    summary="One model",
    tag="Models",
    parameters=("model_in_path",),
    answers=(_shown("The model.", "Model"),),
    refusals=("404",),
)
STREAM: Final = About(
    summary="Rejoin a stream",
    details="One that began with x-runestone-resumable: true, by the key that began it.",
    tag="Streams",
    parameters=("stream_in_path", "last_event_id"),
    answers=(
        Answer(
            status=200,
            says="The events behind the last that arrived.",
            contents={EVENTS_TYPE: _EVENTS},
            headers=("x-runestone-stream-id",),
        ),
        Answer(status=204, says="There is nothing more; a browser's EventSource comes no more."),
    ),
    refusals=("404", "503"),
)
END_STREAM: Final = About(
    summary="End a stream",
    details="The provider's call ends.",
    tag="Streams",
    parameters=("stream_in_path",),
    answers=(Answer(status=204, says="It has ended."),),
    refusals=("404",),
)
SOCKET: Final = About(
    summary="WebSocket",
    details="Streams, many on one connection, with pause, resume, cancel and rooms: docs/websocket.md. A wrong key "
    "is a close code, 1008.",
    tag="Streams",
    parameters=("socket_protocol", "timeout", "cache_control", "cache_ttl", "tags", "traceparent", "tracestate"),
    answers=(Answer(status=101, says="The connection is a WebSocket from here on."),),
    refusals=("503",),
)
BROWSER_MODULE: Final = About(
    summary="The module for browsers",
    details="docs/browser.md.",
    tag="Documents",
    needs=Needs.NOTHING,
    parameters=("none_match",),
    answers=(
        Answer(status=200, says="JavaScript.", contents={"text/javascript": one("string")}, headers=("etag",)),
        Answer(status=304, says="It has not changed.", headers=("etag",)),
    ),
)
DOCUMENT: Final = About(
    summary="This document",
    tag="Documents",
    needs=Needs.NOTHING,
    parameters=("none_match",),
    answers=(
        Answer(status=200, says="OpenAPI 3.1.", contents=_json(one("object")), headers=("etag",)),
        Answer(status=304, says="It has not changed.", headers=("etag",)),
    ),
)
HEALTH: Final = About(
    summary="How it is",
    tag="Health",
    needs=Needs.NOTHING,
    answers=(_shown("It serves.", "Health"), _shown("It does not; `checks` say why.", "Health", status=503)),
)
LIVE: Final = replace(HEALTH, summary="Whether the process answers")
READY: Final = replace(HEALTH, summary="Whether it takes calls")
METRICS: Final = About(
    summary="Metrics",
    details="For Prometheus; docs/operations.md lists them.",
    tag="Health",
    needs=Needs.NOTHING,
    answers=(Answer(status=200, says="The text format.", contents={"text/plain": one("string")}),),
)


PROVIDERS: Final = About(
    summary="Every pool, credential, breaker, score and limit",
    tag="Admin",
    needs=Needs.ADMIN,
    answers=(_shown("The providers.", "Providers"),),
)
CHANGE_PROVIDER: Final = About(
    summary="Drain, resume or reset a provider",
    details="The simulated one has no connections, so it cannot be drained.",
    tag="Admin",
    needs=Needs.ADMIN,
    parameters=("provider_in_path", "verb"),
    answers=(Answer(status=200, says="Its new state.", contents=_json(one("object"))),),
    refusals=("404",),
)
RELOAD: Final = About(
    summary="Read the configuration again",
    details="As SIGHUP does. One that is wrong is a 400 that says why, and changes nothing.",
    tag="Admin",
    needs=Needs.ADMIN,
    answers=(_shown("It is in force; what takes a new process is named.", "Reloaded"),),
)
CACHE: Final = About(
    summary="What is kept, and what has been counted",
    tag="Admin",
    needs=Needs.ADMIN,
    answers=(_shown("The cache.", "Cache"),),
)
CLEAR_CACHE: Final = About(
    summary="Forget what was kept",
    tag="Admin",
    needs=Needs.ADMIN,
    body=_body("CacheClearRequest", everything={}, tag={"tag": "faq"}),
    answers=(_shown("How many were forgotten.", "CacheCleared"),),
    refusals=("413",),
)
WARM_CACHE: Final = About(
    summary="Keep answers before anybody asks",
    tag="Admin",
    needs=Needs.ADMIN,
    body=Body(
        contents=dict.fromkeys(("text/plain", "application/x-ndjson", "application/jsonl"), ref("CacheLines")),
        examples={"wrong": "{}"},
        is_required=False,
    ),
    answers=(_shown("What became of the lines; one that is wrong is named.", "CacheWarmed"),),
    refusals=("413",),
)
STATE: Final = About(
    summary="What runs right now",
    details="What `runestone top` shows; docs/operations.md.",
    tag="Admin",
    needs=Needs.ADMIN,
    parameters=("calls",),
    answers=(_shown("The state.", "State"),),
)
TAIL: Final = About(
    summary="The call log, followed",
    details="What `runestone tail` shows; docs/operations.md. Ends when its client leaves.",
    tag="Admin",
    needs=Needs.ADMIN,
    answers=(Answer(status=200, says="A record for each call that ends.", contents={EVENTS_TYPE: _EVENTS}),),
    refusals=("503",),
)
