"""Begins the traces of calls and connections, where they are to be traced, and says what the call asks for.

Rule: a decision that came with the call is kept (W3C Trace Context); one without is made by chance. Without a trace
nothing here costs more than that. No contents, unless the operator asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns

import orjson

from runestone.core.call import Call, Operation
from runestone.core.json import JsonObject
from runestone.core.trace import Context, NewId, Trace, Value, begin_trace

CALL, CONNECTION = "llm.request", "websocket.session"
MOST = 64 * 1024
"""Characters of a prompt or an answer in a span."""

OPERATIONS = {
    Operation.CHAT: "chat",
    Operation.MESSAGES: "chat",
    Operation.COMPLETIONS: "text_completion",
    Operation.EMBEDDINGS: "embeddings",
    Operation.COUNT_TOKENS: "count_tokens",
}
"""`gen_ai.operation.name`."""

_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "dimensions": "gen_ai.embeddings.dimension.count",
}


class Tracer:
    """`ratio` of what comes without a decision is traced. `chance` gives numbers from 0 to 1, `new_id` random bits."""

    def __init__(self, *, ratio: float, content: bool, chance: Callable[[], float], bits: Callable[[int], int]) -> None:
        self._ratio = ratio
        self.content = content
        """Whether spans hold prompts and answers."""
        self._chance = chance
        self._new_id: NewId = lambda size: bits(size) or 1

    def begin(self, call: Call) -> Trace | None:
        """The trace of a call, with what it asks for; None when it is not traced."""
        if not self._is_traced(call.context):
            return None
        trace = begin_trace(CALL, call.context, self._new_id, time_ns())
        told = trace.root.attributes
        told["gen_ai.operation.name"] = OPERATIONS[call.operation]
        told["gen_ai.request.model"] = call.model
        told["gen_ai.request.stream"] = call.stream
        told["runestone.request.id"] = call.id
        told["runestone.key"] = call.caller.name
        for name, attribute in _ASKED.items():
            value = call.fields.get(name)
            if type(value) in (int, float):
                told[attribute] = value  # type: ignore[assignment]  # a number, as was asked
        if self.content:
            told["gen_ai.input.messages"] = _written(call.fields)
        return trace

    def connection(self, context: Context | None) -> Trace | None:
        """The same of a WebSocket."""
        return begin_trace(CONNECTION, context, self._new_id, time_ns()) if self._is_traced(context) else None

    def _is_traced(self, context: Context | None) -> bool:
        if context is not None:
            return context.sampled
        return self._ratio > 0 and (self._ratio >= 1 or self._chance() < self._ratio)


def _written(fields: JsonObject) -> Value:
    asked = {name: fields[name] for name in ("system", "messages", "prompt", "input") if name in fields}
    return orjson.dumps(asked).decode()[:MOST]
