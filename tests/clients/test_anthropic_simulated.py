"""Anthropic's SDK with the built-in model behind the gateway, which speaks OpenAI's dialect: every call crosses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from anthropic.types import TextBlock, ToolUseBlock

from tests.clients.conftest import Clients
from tests.clients.sdks import ANTHROPIC_TOOLS, PNG, RIVERS, Trip
from tests.gateway import Gateway

ASK: dict[str, Any] = {"model": "simulated", "max_tokens": 500, "messages": RIVERS}
WEATHER = {**ASK, "messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "tools": ANTHROPIC_TOOLS}
BOTH = {
    **ASK,
    "messages": [{"role": "user", "content": "What is the weather in Oslo, and what does the clock say?"}],
    "tools": ANTHROPIC_TOOLS,
}


def said(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if isinstance(block, TextBlock))


def calls(message: anthropic.types.Message) -> list[ToolUseBlock]:
    return [block for block in message.content if isinstance(block, ToolUseBlock)]


async def test_a_thread_can_send_messages(simulated: Gateway, clients: Clients) -> None:
    """The synchronous client gets a message with text, a stop reason and usage."""
    message = await asyncio.to_thread(clients.anthropic(simulated).messages.create, **ASK)
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert "ivers" in said(message)
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


async def test_a_stream_says_what_the_whole_answer_says(simulated: Gateway, clients: Clients) -> None:
    """text_stream, joined, and get_final_message are the text of the answer that is not streamed."""
    client = clients.async_anthropic(simulated)
    whole = await client.messages.create(**ASK)
    async with client.messages.stream(**ASK) as stream:
        pieces = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()
    assert len(pieces) > 10
    assert "".join(pieces) == said(final) == said(whole)
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)


async def test_a_thread_can_stream(simulated: Gateway, clients: Clients) -> None:
    """The synchronous helper streams text and ends."""

    def read() -> tuple[str, str]:
        with clients.anthropic(simulated).messages.stream(**ASK) as stream:
            return "".join(stream.text_stream), stream.get_final_text()

    pieces, final = await asyncio.to_thread(read)
    assert pieces == final
    assert pieces


async def test_raw_events_come_in_anthropics_order(simulated: Gateway, clients: Clients) -> None:
    """create(stream=True) gives start, block start, deltas, block stop, message delta, stop."""
    stream = await clients.async_anthropic(simulated).messages.create(**ASK, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_a_limit_ends_an_answer(simulated: Gateway, clients: Clients) -> None:
    """max_tokens is obeyed and said."""
    message = await clients.async_anthropic(simulated).messages.create(**{**ASK, "max_tokens": 5})
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


async def test_a_tool_is_called_and_its_result_used(simulated: Gateway, clients: Clients) -> None:
    """The full loop: tool_use, tool_result, an answer that speaks of it."""
    client = clients.async_anthropic(simulated)
    asked = await client.messages.create(**WEATHER)
    assert asked.stop_reason == "tool_use"
    (call,) = calls(asked)
    assert (call.name, set(call.input)) == ("get_weather", {"city"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "13 degrees and rain"}
    turns = [
        *WEATHER["messages"],
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result]},
    ]
    told = await client.messages.create(**{**WEATHER, "messages": turns})
    assert "13 degrees and rain" in said(told)
    assert told.stop_reason == "end_turn"


async def test_tools_are_called_in_parallel(simulated: Gateway, clients: Clients) -> None:
    """Two calls in one turn, and both results go back in one turn."""
    client = clients.async_anthropic(simulated)
    asked = await client.messages.create(**BOTH)
    first, second = calls(asked)
    assert first.id != second.id
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": words}]}
        for call, words in ((first, "rain"), (second, "noon"))
    ]
    turns = [*BOTH["messages"], {"role": "assistant", "content": asked.content}, {"role": "user", "content": results}]
    told = await client.messages.create(**{**BOTH, "messages": turns})
    assert "rain noon" in said(told)


async def test_streamed_tool_calls_are_folded(simulated: Gateway, clients: Clients) -> None:
    """The stream helper puts the partial JSON of two calls together."""
    async with clients.async_anthropic(simulated).messages.stream(**BOTH) as stream:
        final = await stream.get_final_message()
    assert [(call.name, set(call.input)) for call in calls(final)] == [
        ("get_weather", {"city"}),
        ("get_clock", {"zone"}),
    ]
    assert final.stop_reason == "tool_use"


@pytest.mark.parametrize("options", [{"thread": False}, {}], ids=["whole history", "default"])
async def test_the_tool_runner_runs(options: dict[str, Any], simulated: Gateway, clients: Clients) -> None:
    """The SDK's own loop calls a Python function until the model is done.

    By default it asks the server to hold the conversation (`thread`), and sends the whole history instead when it is
    told `error.details.error_code` = `thread_unsupported_request`.
    """
    asked_for: list[str] = []

    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """Weather of a city."""
        asked_for.append(city)
        return "13 degrees and rain"

    runner = clients.async_anthropic(simulated).beta.messages.tool_runner(
        model="simulated", max_tokens=500, messages=WEATHER["messages"], tools=[get_weather], **options
    )
    final = await runner.until_done()
    assert len(asked_for) == 1
    assert any("13 degrees and rain" in getattr(block, "text", "") for block in final.content)


async def test_an_answer_is_parsed_into_a_model(simulated: Gateway, clients: Clients) -> None:
    """messages.parse with a pydantic model gives an instance of it."""
    parsed = await clients.async_anthropic(simulated).messages.parse(**ASK, output_format=Trip)
    assert isinstance(parsed.parsed_output, Trip)


async def test_a_schema_can_be_given_by_hand(simulated: Gateway, clients: Clients) -> None:
    """output_config with a JSON schema gives JSON of that schema."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    message = await clients.async_anthropic(simulated).messages.create(
        **ASK, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert isinstance(json.loads(said(message))["n"], int)


async def test_a_picture_can_be_shown(simulated: Gateway, clients: Clients) -> None:
    """A base64 image is an ordinary block of a message, and counts as tokens."""
    words = {"type": "text", "text": "What is this?"}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    client = clients.async_anthropic(simulated)
    costs = []
    for content in ([words], [words, picture]):
        message = await client.messages.create(**{**ASK, "messages": [{"role": "user", "content": content}]})
        costs.append(message.usage.input_tokens)
    assert costs[1] > costs[0]


async def test_tokens_are_counted(simulated: Gateway, clients: Clients) -> None:
    """count_tokens answers for a provider that cannot count, grows with the text, and says that it is an estimate."""
    client = clients.async_anthropic(simulated)
    short = await client.messages.count_tokens(model="simulated", messages=RIVERS)  # type: ignore[arg-type]
    longer: Any = [{"role": "user", "content": "Tell me about rivers. " * 50}]
    raw = await client.messages.with_raw_response.count_tokens(model="simulated", messages=longer)
    assert 0 < short.input_tokens < (await raw.parse()).input_tokens
    assert raw.headers["x-runestone-estimate"] == "true"


async def test_models_are_listed(simulated: Gateway, clients: Clients) -> None:
    """models.list pages through the configured names; retrieve gives one of them."""
    client = clients.async_anthropic(simulated)
    names = [model.id async for model in client.models.list()]
    assert names == ["simulated"]
    model = await client.models.retrieve("simulated")
    assert (model.id, model.type, model.display_name) == ("simulated", "model", "simulated")


async def test_an_unknown_model_is_not_found(simulated: Gateway, clients: Clients) -> None:
    """A call to a name that is not there raises NotFoundError in Anthropic's own words."""
    with pytest.raises(anthropic.NotFoundError) as caught:
        await clients.async_anthropic(simulated).messages.create(**{**ASK, "model": "nobody"})
    assert caught.value.type == "not_found_error"


async def test_the_answer_names_its_request(simulated: Gateway, clients: Clients) -> None:
    """`_request_id` is the x-request-id a client gave as a default header, else one of ours; on streams too."""
    named = clients.async_anthropic(simulated, default_headers={"x-request-id": "mine-1"})
    assert (await named.messages.create(**ASK))._request_id == "mine-1"
    async with named.messages.stream(**ASK) as stream:
        assert stream.request_id == "mine-1"
    made = (await clients.async_anthropic(simulated).messages.create(**ASK))._request_id
    assert made
    assert made.startswith("req_")


async def test_the_model_list_names_its_request(simulated: Gateway, clients: Clients) -> None:
    """Anthropic's SDK finds the request id on every path it calls, the model list included."""
    raw = await clients.async_anthropic(simulated).models.with_raw_response.list()
    assert raw.request_id


async def test_many_streams_do_not_mix(simulated: Gateway, clients: Clients) -> None:
    """Forty streams at once over one client: each gets the answer to its own question."""
    client = clients.async_anthropic(simulated)

    async def ask(topic: str) -> str:
        async with client.messages.stream(
            **{**ASK, "messages": [{"role": "user", "content": f"Explain {topic}."}]}
        ) as s:
            return await s.get_final_text()

    topics = [f"topic{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(40)]
    for topic, words in zip(topics, await asyncio.gather(*map(ask, topics)), strict=True):
        assert topic in words.lower()
        assert not any(other in words.lower() for other in topics if other != topic)
