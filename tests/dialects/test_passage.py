"""Choosing a passage, and what the crossings refuse to write."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.dialects.passage import Traits, counted_here, passage
from runestone.errors import BadRequest, ProviderFailed

OPENAI, ANTHROPIC = Traits(), Traits(dialect="anthropic", operations=frozenset({"messages", "messages/count_tokens"}))
DEEP = '{"a":' + "[" * 600 + "]" * 600 + "}"
ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def call(operation: Operation, fields: dict[str, Any]) -> Call:
    body = orjson.dumps(fields)
    return Call(
        "id", operation, body, fields, "m", stream=False, caller=ANONYMOUS, headers={}, credential=None, started=0
    )


@pytest.mark.parametrize(
    ("operation", "traits"),
    [
        (Operation.EMBEDDINGS, ANTHROPIC),
        (Operation.COMPLETIONS, ANTHROPIC),
        (Operation.COMPLETIONS, Traits(operations=frozenset({"chat/completions"}))),
        (Operation.COUNT_TOKENS, OPENAI),
    ],
)
def test_what_a_provider_does_not_offer_is_refused(operation: Operation, traits: Traits) -> None:
    """A 400 that names the model, instead of a request the provider would not understand."""
    with pytest.raises(BadRequest, match="does not offer") as caught:
        passage(call(operation, ASK), "m", traits, "up", 0)
    assert caught.value.param == "model"


def test_arguments_nested_too_deeply_are_the_clients_fault() -> None:
    """Arguments are JSON in a string, so they can be deeper than a body; they cannot be written as an object."""
    function = {"name": "f", "arguments": DEEP}
    turn = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    with pytest.raises(BadRequest, match="nested too deeply"):
        passage(call(Operation.CHAT, {**ASK, "messages": [*ASK["messages"], turn]}), "m", ANTHROPIC, "up", 0)  # type: ignore[misc]


def test_an_answer_nested_too_deeply_is_the_providers_fault() -> None:
    """It becomes a 502, not a fault of ours."""
    crossing = passage(call(Operation.MESSAGES, ASK), "m", OPENAI, "up", 0)
    function = {"name": "f", "arguments": DEEP}
    message = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
    with pytest.raises(ProviderFailed, match="nested too deeply"):
        crossing.answer(
            orjson.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        )


def test_tokens_are_counted_here_for_a_provider_that_cannot() -> None:
    """An estimate for the OpenAI dialect, nothing where the provider counts itself."""
    counted = counted_here(call(Operation.COUNT_TOKENS, ASK), OPENAI)
    assert counted is not None
    assert orjson.loads(counted)["input_tokens"] > 0
    assert counted_here(call(Operation.COUNT_TOKENS, ASK), ANTHROPIC) is None
