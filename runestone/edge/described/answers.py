"""What the endpoints answer: the JSON schemas of answers.

Rule: an answer of a provider that speaks the client's dialect passes as it is, so `required` is only what the gateway
itself makes sure of; the rest is what the vendor says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runestone.core.json import JsonObject
from runestone.edge.described.schemas import many, maybe, one, record, ref

_COUNT: Final = one("integer", minimum=0)
_SECONDS: Final = one("number", "Seconds.")


def _counts(*names: str) -> JsonObject:
    return dict.fromkeys(names, _COUNT)


_USAGE: Final = maybe(
    "object", "The tokens it took.", properties=_counts("prompt_tokens", "completion_tokens", "total_tokens")
)
_HEAD: Final[JsonObject] = {
    "id": one("string"),
    "object": one("string"),
    "created": one("integer", "Unix time."),
    "model": one("string", "The model that answered, as its provider calls it."),
}
_FINISH: Final = maybe("string", "Why it ended: stop, length, tool_calls, ...")

_OPENAI: Final[Mapping[str, JsonObject]] = {
    "Completion": record(
        "A chat completion.",
        {
            **_HEAD,
            "choices": many(
                record(
                    "",
                    {
                        "index": _COUNT,
                        "message": record(
                            "",
                            {
                                "role": one("string"),
                                "content": {"description": "The text; null where tools are called."},
                                "tool_calls": maybe("array", items=one("object")),
                            },
                        ),
                        "finish_reason": _FINISH,
                    },
                )
            ),
            "usage": _USAGE,
        },
        ("choices",),
    ),
    "TextCompletion": record(
        "",
        {
            **_HEAD,
            "choices": many(record("", {"index": _COUNT, "text": one("string"), "finish_reason": _FINISH})),
            "usage": _USAGE,
        },
        ("choices",),
    ),
    "Embeddings": record(
        "",
        {
            "object": one("string"),
            "data": many(
                record(
                    "",
                    {
                        "object": one("string"),
                        "index": _COUNT,
                        "embedding": {"description": "Numbers, or with encoding_format base64 their bytes."},
                    },
                ),
                "In the order of the input.",
            ),
            "model": one("string"),
            "usage": maybe("object", properties=_counts("prompt_tokens", "total_tokens")),
        },
        ("data",),
    ),
    "OpenAIError": record(
        "What went wrong. A provider's own refusal passes as it is, where its provider speaks this dialect.",
        {
            "error": record(
                "",
                {
                    "message": one("string", "For people; never holds a key, a secret or a path."),
                    "type": one("string"),
                    "param": maybe("string", "The field that is wrong."),
                    "code": maybe("string", "For programs."),
                },
                ("message",),
            )
        },
        ("error",),
    ),
}
_ANTHROPIC: Final[Mapping[str, JsonObject]] = {
    "Message": record(
        "",
        {
            "id": one("string"),
            "type": one("string"),
            "role": one("string"),
            "model": one("string", "The model that answered, as its provider calls it."),
            "content": many(record("A part: text, a tool's use, a thought.", {"type": one("string")})),
            "stop_reason": maybe("string", "Why it ended: end_turn, max_tokens, tool_use, ..."),
            "stop_sequence": maybe("string"),
            "usage": maybe("object", properties=_counts("input_tokens", "output_tokens")),
        },
        ("content",),
    ),
    "TokenCount": record("", {"input_tokens": _COUNT}, ("input_tokens",)),
    "AnthropicError": record(
        "What went wrong. A provider's own refusal passes as it is, where its provider speaks this dialect.",
        {
            "type": one("string"),
            "error": record(
                "",
                {
                    "type": one("string"),
                    "message": one("string", "For people; names the field that is wrong."),
                    "details": one("object", "error_code: the code, where the type says too little."),
                },
                ("type", "message"),
            ),
            "request_id": one("string"),
        },
        ("type", "error"),
    ),
}
_MODELS: Final[Mapping[str, JsonObject]] = {
    "Model": record(
        "OpenAI's fields and Anthropic's, side by side.",
        {
            "id": one("string", "The name to ask for."),
            "object": one("string", const="model"),
            "created": one("integer"),
            "owned_by": one("string", "The provider that is asked first."),
            "type": one("string", const="model"),
            "display_name": one("string"),
            "created_at": one("string", format="date-time"),
        },
        ("id", "object", "created", "owned_by", "type", "display_name", "created_at"),
    ),
    "Models": record(
        "",
        {
            "object": one("string", const="list"),
            "data": many(ref("Model"), "In the order in which a name is looked up."),
            "has_more": one("boolean"),
            "first_id": maybe("string"),
            "last_id": maybe("string"),
        },
        ("object", "data", "has_more", "first_id", "last_id"),
    ),
}
_BATCH: Final[Mapping[str, JsonObject]] = {
    "BatchLine": record(
        "What became of one line.",
        {
            "custom_id": one("string"),
            "index": _COUNT,
            "response": record(
                "What its endpoint alone would have answered.",
                {
                    "status_code": one("integer"),
                    "request_id": one("string"),
                    "retry_after": one("integer", "Seconds."),
                    "body": {"description": "The answer's, as it is."},
                },
                ("status_code", "request_id", "body"),
            ),
            "error": one("null"),
        },
        ("custom_id", "index", "response", "error"),
    ),
    "Batch": record(
        "",
        {
            "object": one("string", const="batch"),
            "id": one("string"),
            "data": many(ref("BatchLine"), "In the order of the request."),
            "counts": record("", _counts("total", "succeeded", "failed"), ("total", "succeeded", "failed")),
        },
        ("object", "id", "data", "counts"),
    ),
}
_OPERATIONS: Final[Mapping[str, JsonObject]] = {
    "Health": record(
        "",
        {
            "status": one("string", enum=["ok", "degraded", "down"]),
            "version": one("string"),
            "pid": one("integer"),
            "parent": one("integer", "Of several workers: the process to send signals to."),
            "uptime_seconds": one("number"),
            "checks": record(
                "What was looked at, by name.",
                {},
                additionalProperties=record(
                    "",
                    {
                        "status": one("string", enum=["ok", "degraded", "down"]),
                        "problems": many(one("string"), "What is wrong, in words."),
                    },
                    ("status",),
                ),
            ),
        },
        ("status",),
    ),
    "Providers": record(
        "By name.",
        {},
        additionalProperties=record(
            "",
            {
                "targets": many(
                    record(
                        "",
                        {
                            "target": one("string"),
                            "in_flight": _COUNT,
                            "score": one("number"),
                            "latency_seconds": one("number"),
                            "breaker": maybe("string", "closed, half_open or open."),
                            "breaker_retry_after": maybe("number", "Seconds."),
                            "concurrency_limit": maybe("number"),
                        },
                        ("target",),
                    )
                ),
                "draining": one("boolean"),
                "pool": record(
                    "Its connections.",
                    _counts(
                        *("active", "idle", "waiting", "capacity", "acquired", "opened", "reused", "refused", "errors")
                    ),
                ),
                "credentials": many(
                    record(
                        "By its place in the configuration, never by value.",
                        {"index": _COUNT, "state": one("string"), "rests": _SECONDS},
                        ("index", "state"),
                    )
                ),
            },
            ("targets",),
        ),
    ),
    "Reloaded": record(
        "",
        {
            "reloaded": one("boolean"),
            "generation": one("integer", "Configurations this process has served with.", minimum=1),
            "changed": many(one("string"), "What differs from the one before, by name, never by value."),
            "needs_restart": many(one("string"), "What has changed and stays as it was until a new process."),
        },
        ("reloaded", "generation", "changed", "needs_restart"),
    ),
    "Cache": record(
        "",
        {
            "enabled": one("boolean"),
            **_counts("entries", "bytes", "max_size", "max_bytes", "hits", "misses", "collapsed"),
            **_counts("stores", "evictions", "expirations"),
            "hit_rate": one("number", "Hits, of hits and misses.", minimum=0, maximum=1),
            "by_model": record("Entries of the models that have most.", {}, additionalProperties=_COUNT),
        },
        ("enabled", "entries", "bytes"),
    ),
    "CacheCleared": record("", {"cleared": _COUNT}, ("cleared",)),
    "CacheWarmed": record(
        "",
        {"stored": one("integer", "Lines that are kept.", minimum=0), "errors": many(one("string"))},
        ("stored", "errors"),
    ),
    "State": record(
        "What runs right now.",
        {
            "time": one("string", format="date-time"),
            "version": one("string"),
            "pid": one("integer"),
            "uptime_seconds": one("number"),
            "draining": one("boolean"),
            "memory_bytes": _COUNT,
            "loop_lag_seconds": one("number", "How long one turn of the process's loop takes."),
            "tasks": _COUNT,
            "calls": record(
                "In flight.",
                {**_counts("total", "finished"), "stages": one("object"), "oldest": many(one("object"))},
                ("total", "oldest"),
            ),
            "streams": one("object"),
            "websocket": one("object"),
            "cache": one("object"),
            "providers": ref("Providers"),
            "log": one("object"),
        },
        ("version", "pid", "calls"),
    ),
}

ANSWERS: Final[Mapping[str, JsonObject]] = {**_OPENAI, **_ANTHROPIC, **_MODELS, **_BATCH, **_OPERATIONS}
"""By name among the document's schemas."""
