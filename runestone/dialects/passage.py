"""Which passage a call takes between its client's dialect and a provider's.

Rule: the only place that knows which pairs exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from runestone.core.call import ANTHROPIC_OPERATIONS, Call, Operation
from runestone.core.summary import Summary
from runestone.core.tokens import estimate_messages
from runestone.core.upstream import Prefill
from runestone.dialects.anthropic import Anthropic
from runestone.dialects.body import with_model
from runestone.dialects.continuation import prefilled
from runestone.dialects.crossing.answer_to_chat import answer_to_chat
from runestone.dialects.crossing.answer_to_messages import answer_to_messages
from runestone.dialects.crossing.request_to_chat import request_to_chat
from runestone.dialects.crossing.request_to_messages import request_to_messages
from runestone.dialects.crossing.stream_to_chat import StreamToChat
from runestone.dialects.crossing.stream_to_messages import StreamToMessages
from runestone.dialects.dialect import Dialect, Passage
from runestone.dialects.openai import OpenAI
from runestone.dialects.relay import AnthropicRelay, OpenAIRelay, load_answer
from runestone.errors import BadRequest, ProviderError, ProviderFailed

OPENAI = OpenAI()
ANTHROPIC = Anthropic()
DIALECTS: dict[str, Dialect] = {OPENAI.name: OPENAI, ANTHROPIC.name: ANTHROPIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a passage must know of a provider: its dialect, what it offers, and its quirks (see
    providers/catalog.py).
    """

    dialect: str = "openai"
    operations: frozenset[str] = frozenset(operation.value for operation in Operation)
    ends_with_done: bool = True
    max_tokens_field: str = "max_tokens"
    stream_usage: bool = True
    reasoning_field: str | None = None
    default_max_tokens: int = 4096
    prefill: Prefill | None = None


def client_dialect(operation: Operation) -> Dialect:
    """The dialect a client of this operation reads and writes."""
    return ANTHROPIC if operation in ANTHROPIC_OPERATIONS else OPENAI


def provider_operation(operation: Operation, dialect: str) -> Operation:
    """What is asked of a provider of `dialect` for a client's `operation`."""
    if dialect == ANTHROPIC.name:
        return Operation.MESSAGES if operation is Operation.CHAT else operation
    return Operation.CHAT if operation is Operation.MESSAGES else operation


def passage(call: Call, model: str, traits: Traits, provider: str, now: float) -> Passage:
    """The passage of `call` to a provider's `model`; `now` is Unix time. Raises BadRequest when the provider does
    not offer the operation.
    """
    operation = provider_operation(call.operation, traits.dialect)
    if operation not in traits.operations or (operation in ANTHROPIC_OPERATIONS and traits.dialect == OPENAI.name):
        raise BadRequest(
            f"the provider {provider!r} of this model does not offer {call.operation.value}", param="model"
        )
    if call.goes_on and traits.prefill is None:
        raise BadRequest(f"the provider {provider!r} is not known to continue an answer", param="messages")
    if operation is not call.operation:
        if operation is Operation.MESSAGES:
            return CrossingToMessages(call, model, traits, now)
        return CrossingToChat(call, model, traits)
    if call.goes_on and traits.prefill is not None:
        body = _written(prefilled({**call.fields, "model": model}, traits.prefill))
    else:
        body = call.body if call.fields.get("model") == model else with_model(call.body, call.fields, model)
    if traits.dialect == ANTHROPIC.name:
        return AnthropicRelay(ANTHROPIC, operation, body)
    choices = _choices(call)
    return OpenAIRelay(
        OPENAI,
        operation,
        body,
        ends_with_done=traits.ends_with_done,
        choices=choices,
    )


def _choices(call: Call) -> int:
    """How many choices the answer will have: `n` for each prompt."""
    n, prompts = call.fields.get("n"), call.fields.get("prompt")
    several = type(prompts) is list and bool(prompts) and type(prompts[0]) is not int
    return (n if type(n) is int else 1) * (len(prompts) if several and type(prompts) is list else 1)


def counted_here(call: Call, traits: Traits) -> bytes | None:
    """The answer to count_tokens for a provider that has no such thing: an estimate, None for every other call."""
    if call.operation is Operation.COUNT_TOKENS and traits.dialect == OPENAI.name:
        return orjson.dumps({"input_tokens": estimate_messages(call.fields)})
    return None


class Crossing:
    """A passage between two dialects: the request and the answer are written anew, the stream event by event."""

    __slots__ = ("_body", "_stream", "summary")

    def __init__(self, fields: dict[str, Any], stream: StreamToChat | StreamToMessages) -> None:
        try:
            self._body = orjson.dumps(fields)
        except TypeError:  # arguments that came as a string may be nested deeper than what we read and write
            raise BadRequest("a tool call's arguments are nested too deeply", param="messages") from None
        self._stream = stream
        self.summary: Summary = stream.summary

    @property
    def failure(self) -> ProviderError | None:
        return self._stream.failure

    @property
    def started(self) -> bool:
        return self._stream.started

    @property
    def complete(self) -> bool:
        return self._stream.complete

    def request(self) -> bytes:
        return self._body

    def feed(self, block: bytes) -> bytes:
        return self._stream.feed(block)

    def finish(self) -> bytes:
        return self._stream.finish()


class CrossingToMessages(Crossing):
    """The client writes chat completions, the provider speaks messages."""

    __slots__ = ("_created",)

    def __init__(self, call: Call, model: str, traits: Traits, now: float) -> None:
        self._created = int(now)  # OpenAI's answers carry the time, Anthropic's do not
        options = call.fields.get("stream_options")
        include_usage = type(options) is dict and options.get("include_usage") is True
        super().__init__(
            request_to_messages(call.fields, model=model, default_max_tokens=traits.default_max_tokens),
            StreamToChat(created=self._created, include_usage=include_usage),
        )

    def answer(self, body: bytes) -> bytes:
        return _written(answer_to_chat(load_answer(body), created=self._created, summary=self.summary))


class CrossingToChat(Crossing):
    """The client writes messages, the provider speaks chat completions."""

    __slots__ = ()

    def __init__(self, call: Call, model: str, traits: Traits) -> None:
        asked = request_to_chat(
            call.fields,
            model=model,
            max_tokens_field=traits.max_tokens_field,
            stream_usage=traits.stream_usage,
            reasoning_field=traits.reasoning_field,
        )
        if call.goes_on and traits.prefill is not None:
            asked = prefilled(asked, traits.prefill)
        super().__init__(asked, StreamToMessages(model=model, ends_with_done=traits.ends_with_done))

    def answer(self, body: bytes) -> bytes:
        return _written(answer_to_messages(load_answer(body), summary=self.summary))


def _written(answer: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer)
    except TypeError:
        raise ProviderFailed(
            "the provider's answer cannot be written in the client's dialect: nested too deeply, or not Unicode"
        ) from None
