"""Text completions of the simulated model."""

from __future__ import annotations

import json

import pytest
from openai.types import Completion

from runestone.core.tokens import pieces
from runestone.dialects.sse import Decoder
from runestone.providers.simulated.wire import SimulatedAnswer, answer


def ask(prompt: object = "Once upon a river", **fields: object) -> SimulatedAnswer:
    return answer("completions", {"model": "sim", "prompt": prompt, **fields}, created=1)


def whole(given: SimulatedAnswer) -> Completion:
    assert given.status == 200, given.body
    return Completion.model_validate_json(given.body, strict=True)


def test_sixteen_tokens_are_the_default() -> None:
    """Like OpenAI's: without max_tokens a text completion has 16 tokens."""
    found = whole(ask())
    assert found.usage is not None
    assert found.usage.completion_tokens == len(pieces(found.choices[0].text)) == 16
    assert found.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "count"), [("a b", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3), (None, 1)]
)
def test_every_form_of_prompt_is_read(prompt: object, count: int) -> None:
    """Each prompt is answered n times, choices counted through."""
    assert [choice.index for choice in whole(ask(prompt, n=2)).choices] == list(range(2 * count))


def test_echo_repeats_the_prompt() -> None:
    """With echo the text begins with the prompt, which is not counted as output."""
    found = whole(ask(echo=True))
    assert found.choices[0].text.startswith("Once upon a river")
    assert found.usage is not None
    assert found.usage.completion_tokens == 16


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3},
        {"echo": True},
        {"max_tokens": 3},
        {"stop": ["the", "."], "max_tokens": 90},
        {"prompt": ["a", "b"]},
        {"stream_options": {"include_usage": True}},
    ],
    ids=repr,
)
def test_streams_and_json_say_the_same(fields: dict[str, object]) -> None:
    """The chunks of each choice, joined, are its text; finish reasons and usage agree."""
    given = ask(**{"stream": True, **fields})
    expected = whole(ask(**{name: value for name, value in fields.items() if name != "stream_options"}))
    assert given.events is not None
    data = [event.data for event in Decoder().feed(b"".join(given.events))]
    assert data.pop() == b"[DONE]"
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for item in data:
        chunk = Completion.construct(**json.loads(item))  # as the SDK reads chunks: their finish_reason may be null
        if not chunk.choices:
            assert chunk.usage == expected.usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert [texts[choice.index] for choice in expected.choices] == [choice.text for choice in expected.choices]
    assert [reasons[choice.index] for choice in expected.choices] == [c.finish_reason for c in expected.choices]
