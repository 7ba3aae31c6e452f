"""What the simulated model says in a chat, and how it is written: JSON and streams that OpenAI's own SDK accepts."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from runestone.core.tokens import pieces
from runestone.dialects.sse import Decoder
from runestone.providers.simulated.wire import SimulatedAnswer, answer

Fields = dict[str, object]

WEATHER: Fields = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    },
}
STOCKS: Fields = {
    "type": "function",
    "function": {"name": "stock_price", "description": "Look up the price of a share", "parameters": {}},
}


def ask(prompt: str = "Why is the sky over Paris blue?", **fields: object) -> SimulatedAnswer:
    messages = [{"role": "user", "content": prompt}]
    return answer("chat/completions", {"model": "sim", "messages": messages, **fields}, created=1_700_000_000)


def whole(given: SimulatedAnswer) -> ChatCompletion:
    assert given.status == 200, given.body
    assert given.events is None
    return ChatCompletion.model_validate_json(given.body, strict=True)


def text_of(given: SimulatedAnswer) -> str:
    content = whole(given).choices[0].message.content
    assert content is not None
    return content


def chunks(given: SimulatedAnswer) -> list[ChatCompletionChunk]:
    """The parsed chunks of a stream, which must end with [DONE]; one event per bytes."""
    assert given.events is not None
    assert given.body == b""
    events = [Decoder().feed(event) for event in given.events]
    assert all(len(found) == 1 for found in events)
    data = [found[0].data for found in events]
    assert data[-1] == b"[DONE]"
    return [ChatCompletionChunk.model_validate_json(item, strict=True) for item in data[:-1]]


def told(given: SimulatedAnswer) -> dict[int, tuple[str, list[list[str]], str | None]]:
    """What a stream says by choice: text, tool calls as [id, name, arguments], finish reason."""
    found: dict[int, tuple[str, list[list[str]], str | None]] = {}
    for chunk in chunks(given):
        for choice in chunk.choices:
            text, calls, reason = found.get(choice.index, ("", [], None))
            assert reason is None, "something follows the finish reason"
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                if call.index == len(calls):
                    calls.append([call.id or "", call.function.name or "", ""])
                calls[call.index][2] += call.function.arguments or ""
            found[choice.index] = (text + (choice.delta.content or ""), calls, choice.finish_reason)
    return found


def said(given: SimulatedAnswer) -> dict[int, tuple[str, list[list[str]], str | None]]:
    """The same of a JSON answer."""
    found: dict[int, tuple[str, list[list[str]], str | None]] = {}
    for choice in whole(given).choices:
        calls = [[c.id, c.function.name, c.function.arguments] for c in choice.message.tool_calls or []]  # type: ignore[union-attr]
        found[choice.index] = (choice.message.content or "", calls, choice.finish_reason)
    return found


def test_the_same_request_gives_the_same_bytes() -> None:
    """Nothing but the arguments decides: no clock, no dice."""
    assert ask() == ask()
    assert ask(stream=True) == ask(stream=True)


def test_the_answer_depends_on_the_prompt() -> None:
    """Another question gets another answer under another id, about its own words."""
    sky, sea = ask("Why is the sky blue?"), ask("Why is the ocean salty?")
    assert "ocean" in text_of(sea)
    assert text_of(sky) != text_of(sea)
    assert whole(sky).id != whole(sea).id


def test_the_seed_and_the_temperature_change_the_words() -> None:
    """Another seed or temperature rolls other dice; at temperature 0 the seed does not matter."""
    assert text_of(ask(seed=1)) != text_of(ask(seed=2))
    assert text_of(ask(seed=1, temperature=0.5)) != text_of(ask(seed=1, temperature=0.7))
    assert text_of(ask(seed=1, temperature=0)) == text_of(ask(seed=2, temperature=0))


def test_an_answer_is_of_readable_length() -> None:
    """An ordinary question gets 40 to 130 tokens and ends by itself."""
    for number in range(50):
        completion = whole(ask("How do rivers shape valleys?", seed=number))
        assert completion.usage is not None
        assert 40 <= completion.usage.completion_tokens <= 130
        assert completion.choices[0].finish_reason == "stop"


def test_a_long_answer_fills_the_limit() -> None:
    """A prompt that asks for a long answer gets exactly max_tokens of it."""
    completion = whole(ask("Write a long essay about rivers", max_tokens=700))
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 700
    assert completion.choices[0].finish_reason == "length"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("prompt", ["Why is the sky blue?", "Write a long essay about rivers", "Tell me a joke"])
def test_a_smaller_limit_leaves_the_beginning(field: str, prompt: str) -> None:
    """The limit only cuts: it never changes the words before it."""
    longer = text_of(ask(prompt, **{field: 200}))
    for limit in (1, 2, 7, 20):
        short = whole(ask(prompt, **{field: limit}))
        tokens = pieces(longer)[:limit]
        assert short.choices[0].message.content == "".join(tokens)
        assert short.choices[0].finish_reason == ("length" if len(pieces(longer)) > limit else "stop")


@pytest.mark.parametrize("length", [1, 3, 9, 25])
@pytest.mark.parametrize("many", [False, True])
def test_a_stop_sequence_is_not_said(length: int, many: bool) -> None:
    """The text ends before the first stop sequence, also when that spans tokens, and the reason is stop."""
    text = text_of(ask())
    stop = text[40 : 40 + length]
    at = text.index(stop)
    completion = whole(ask(stop=["never said", stop] if many else stop))
    assert completion.choices[0].message.content == text[:at]
    assert completion.choices[0].finish_reason == "stop"


def test_usage_counts_the_tokens_streamed() -> None:
    """One event is one token: completion_tokens is the number of content chunks."""
    found = chunks(ask(stream=True, stream_options={"include_usage": True}))
    usage = found[-1].usage
    assert usage is not None
    assert usage.completion_tokens == sum(1 for c in found if c.choices and c.choices[0].delta.content)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage == whole(ask()).usage


def test_usage_comes_only_when_asked_for() -> None:
    """With include_usage every chunk has the field and the last one, without choices, its value."""
    bare = ask(stream=True).events or ()
    assert not any(b"usage" in event for event in bare)
    asked = chunks(ask(stream=True, stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in asked[:-1])
    assert asked[-1].choices == []


def test_choices_are_interleaved() -> None:
    """With n=3 the choices take turns in one stream, and differ."""
    given = ask(n=3, stream=True)
    order = [chunk.choices[0].index for chunk in chunks(given)]
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    assert len({text for text, _, _ in told(given).values()}) == 3


def test_greedy_choices_are_alike() -> None:
    """At temperature 0 all choices say the same."""
    assert len({text for text, _, _ in said(ask(n=3, temperature=0)).values()}) == 1


@settings(max_examples=200)
@given(
    prompt=st.text(max_size=60) | st.sampled_from(["What is the weather in Oslo?", "hello", "Write a long story"]),
    n=st.integers(1, 3),
    limit=st.none() | st.integers(1, 60),
    stop=st.none() | st.text(max_size=2) | st.lists(st.sampled_from([" ", "the", "{", ". "]), max_size=4),
    shape=st.sampled_from(
        [
            {},
            {"tools": [WEATHER, STOCKS]},
            {"tools": [WEATHER, STOCKS], "tool_choice": "required"},
            {"response_format": {"type": "json_object"}},
        ]
    ),
)
def test_streams_and_json_say_the_same(
    prompt: str, n: int, limit: int | None, stop: object, shape: dict[str, object]
) -> None:
    """Whatever is asked: the same text, tool calls, finish reasons and ids, streamed or whole."""
    fields: Fields = {"n": n, "max_tokens": limit, "stop": stop, **shape}
    assert told(ask(prompt, **fields, stream=True)) == said(ask(prompt, **fields))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ping", "pong"),
        ("Say hello world", "hello world"),
        ("Reply with exactly: pong", "pong"),
        ("What is 12 * 12?", "12 × 12 = 144."),
        ("Please count to 5", "1, 2, 3, 4, 5"),
    ],
)
def test_demo_prompts_are_answered_in_kind(prompt: str, expected: str) -> None:
    """A few prompts people try first get what they expect."""
    assert text_of(ask(prompt)) == expected


def test_text_parts_are_read() -> None:
    """A prompt given as parts is the same prompt."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Say hello"}]}]
    assert text_of(ask(messages=messages)) == "hello"


def test_auto_calls_a_tool_that_is_spoken_of() -> None:
    """A word of the tool's name or description in the prompt is a call, with the prompt's words as arguments."""
    choice = said(ask("What is the weather in Oslo?", tools=[WEATHER, STOCKS]))[0]
    assert choice[2] == "tool_calls"
    assert [call[1] for call in choice[1]] == ["get_weather"]
    assert json.loads(choice[1][0][2]) == {"city": "Oslo", "unit": "celsius"}


def test_auto_answers_in_words_when_no_tool_fits() -> None:
    """A prompt that speaks of no tool gets a text."""
    assert said(ask("Tell me a joke", tools=[WEATHER, STOCKS]))[0][2] == "stop"


def test_parallel_tool_calls_can_be_turned_off() -> None:
    """A prompt that speaks of two tools calls both, or only the first."""
    prompt = "Compare the weather in Oslo and the price of salmon"
    assert len(said(ask(prompt, tools=[WEATHER, STOCKS]))[0][1]) == 2
    assert len(said(ask(prompt, tools=[WEATHER, STOCKS], parallel_tool_calls=False))[0][1]) == 1


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        ("required", ["get_weather"]),
        ({"type": "function", "function": {"name": "stock_price"}}, ["stock_price"]),
    ],
)
def test_tool_choice_is_obeyed(choice: object, called: list[str]) -> None:
    """None never calls, required always does, a named tool is the one called."""
    found = said(ask("What is the weather in Oslo?", tools=[WEATHER, STOCKS], tool_choice=choice))[0][1]
    assert [call[1] for call in found] == called


def test_call_ids_are_unique() -> None:
    """No two calls of an answer share an id, even where all choices are alike."""
    prompt = "Compare the weather in Oslo and the price of salmon"
    found = said(ask(prompt, tools=[WEATHER, STOCKS], n=3, temperature=0))
    ids = [call[0] for _, calls, _ in found.values() for call in calls]
    assert len(ids) == len(set(ids)) == 6


def test_the_answer_after_a_tool_mentions_its_result() -> None:
    """Once a tool has answered, the model speaks, and of that."""
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    messages = [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees, light rain"},
    ]
    assert "4 degrees, light rain" in text_of(ask(messages=messages, tools=[WEATHER]))


def test_json_mode_is_json() -> None:
    """A json_object is one."""
    assert isinstance(json.loads(text_of(ask(response_format={"type": "json_object"}))), dict)


def test_a_json_schema_is_kept() -> None:
    """A json_schema answer is an instance of it (test_simulated_schema.py has the rules)."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "sunny": {"type": "boolean"}},
        "required": ["city", "sunny"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "report", "schema": schema, "strict": True}}
    value = json.loads(text_of(ask("How is Oslo today?", response_format=form)))
    assert value == {"city": "Oslo", "sunny": True}


def test_a_stream_of_a_hundred_tokens_is_built_quickly() -> None:
    """The load-test upstream: well under a millisecond, so that it is never what is measured."""
    fields: Fields = {"stream": True, "max_tokens": 100}
    ask("Write a long essay about rivers", **fields)
    times = []
    for _ in range(50):
        before = time.perf_counter()
        ask("Write a long essay about rivers", **fields)
        times.append(time.perf_counter() - before)
    assert min(times) < 0.001


@pytest.mark.parametrize("prompt", ["Write 99999 words", "Write a long essay", "count to 999"])
def test_no_prompt_costs_much(prompt: str) -> None:
    """What many choices of great length cost together is bounded."""
    before = time.perf_counter()
    given = ask(prompt, n=128, max_tokens=1_000_000, stream=True)
    assert given.tokens < 400_000
    assert time.perf_counter() - before < 2.0
