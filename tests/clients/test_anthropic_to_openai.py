"""Anthropic's SDK, a provider that speaks OpenAI's chat completions: what comes back is Anthropic's."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import orjson
import pytest

from tests.clients.conftest import Clients
from tests.clients.sdks import (
    ANTHROPIC_TOOLS,
    PNG,
    Trip,
    answers,
    chat,
    chat_stream,
    collect,
    first_events,
    tool_call,
    tool_deltas,
)
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Script, Seen, Wire

HI: list[Any] = [{"role": "user", "content": "hi"}]
ASK: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": HI}
BOTH_CALLS = [
    *tool_deltas(0, "call_1", "get_weather", '{"city"', ':"Oslo"}'),
    *tool_deltas(1, "call_2", "get_clock", '{"zone":', '"UTC"}'),
]


@pytest.fixture
def behind(gateway: StartGateway, provider: StartProvider) -> Any:
    """`gate, up = await behind(script)`: a gateway before a provider of the OpenAI dialect."""

    async def start(script: Script) -> tuple[Gateway, FakeProvider]:
        up = await provider(script)
        return await gateway(relay(up.url), ENVIRON), up

    return start


def blocks(message: Any) -> list[dict[str, Any]]:
    return [block.model_dump(exclude_none=True) for block in message.content]


async def test_an_answer_reads_as_a_message(behind: Any, clients: Clients) -> None:
    """Text, reason and usage arrive in Anthropic's fields, in a thread as well."""
    gate, _ = await behind(answers(chat("Hello there.")))
    message = await asyncio.to_thread(clients.anthropic(gate).messages.create, **ASK)
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert blocks(message) == [{"type": "text", "text": "Hello there."}]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (11, 7)


async def test_a_request_goes_up_as_chat(behind: Any, clients: Clients) -> None:
    """The provider is asked at its path, with our key, in its field names, and without Anthropic's headers."""
    gate, up = await behind(answers(chat("ok")))
    await clients.async_anthropic(gate).messages.create(
        **ASK, system="Be brief.", stop_sequences=["END"], metadata={"user_id": "u-1"}, extra_headers={"x-title": "t"}
    )
    (seen,) = up.requests
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {ENVIRON['UP_KEY']}"
    assert not [name for name in seen.headers if name.startswith("anthropic-") or name == "x-api-key"]
    assert seen.json == {
        "model": "m",
        "max_tokens": 100,
        "messages": [{"role": "system", "content": "Be brief."}, *HI],
        "stop": ["END"],
        "user": "u-1",
    }


async def test_a_tool_is_called_and_its_result_used(behind: Any, clients: Clients) -> None:
    """The full loop: a tool call is tool_use with the same id, its tool_result goes up as a tool message."""
    gate, up = await behind(
        answers(
            chat("Let me look.", finish="tool_calls", tool_calls=[tool_call("get_weather", {"city": "Oslo"})]),
            chat("Rain."),
        )
    )
    client = clients.async_anthropic(gate)
    asked = await client.messages.create(**ASK, tools=ANTHROPIC_TOOLS)
    assert asked.stop_reason == "tool_use"
    said, call = blocks(asked)
    assert said["text"] == "Let me look."
    assert (call["id"], call["name"], call["input"]) == ("call_1", "get_weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "13 degrees"}
    turns: Any = [*HI, {"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    told = await client.messages.create(**{**ASK, "messages": turns}, tools=ANTHROPIC_TOOLS)
    assert blocks(told) == [{"type": "text", "text": "Rain."}]
    first, second = (seen.json for seen in up.requests)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["get_weather", "get_clock"]
    (call,) = second["messages"][1]["tool_calls"]
    assert (call["id"], orjson.loads(call["function"]["arguments"])) == ("call_1", {"city": "Oslo"})
    assert second["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "13 degrees"}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_tools_are_called_in_parallel(streamed: bool, behind: Any, clients: Clients) -> None:
    """Two calls are two tool_use blocks, whole and streamed; two results go up as two tool messages."""
    calls = [tool_call("get_weather", {"city": "Oslo"}), tool_call("get_clock", {"zone": "UTC"}, "call_2")]
    whole = chat(None, finish="tool_calls", tool_calls=calls)
    gate, up = await behind(answers(chat_stream(*BOTH_CALLS, finish="tool_calls") if streamed else whole, chat("done")))
    client = clients.async_anthropic(gate)
    asked = await complete(client, streamed, **ASK, tools=ANTHROPIC_TOOLS)
    assert [(block["id"], block["name"], block["input"]) for block in blocks(asked)] == [
        ("call_1", "get_weather", {"city": "Oslo"}),
        ("call_2", "get_clock", {"zone": "UTC"}),
    ]
    results = [
        {"type": "tool_result", "tool_use_id": identity, "content": words}
        for identity, words in (("call_1", "rain"), ("call_2", "noon"))
    ]
    turns: Any = [*HI, {"role": "assistant", "content": asked.content}, {"role": "user", "content": results}]
    await client.messages.create(**{**ASK, "messages": turns}, tools=ANTHROPIC_TOOLS)
    assert up.requests[1].json["messages"][-2:] == [
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
    ]


async def test_a_stream_reads_as_events(behind: Any, clients: Clients) -> None:
    """text_stream gives the deltas, the final message the usage the provider said last."""
    gate, up = await behind(answers(chat_stream({"content": "Hello "}, {"content": "there."})))
    async with clients.async_anthropic(gate).messages.stream(**ASK) as stream:
        assert [piece async for piece in stream.text_stream] == ["Hello ", "there."]
        final = await stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 7)
    assert up.requests[0].json["stream_options"] == {"include_usage": True}


async def test_a_thread_can_stream(behind: Any, clients: Clients) -> None:
    """The synchronous stream helper folds a crossed stream."""
    gate, _ = await behind(answers(chat_stream({"content": "Hello "}, {"content": "there."})))

    def read() -> str:
        with clients.anthropic(gate).messages.stream(**ASK) as stream:
            return stream.get_final_text()

    assert await asyncio.to_thread(read) == "Hello there."


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_thinking(field: str, streamed: bool, behind: Any, clients: Clients) -> None:
    """What a reasoning model thought, under either of the names servers use, is a thinking block before the text."""
    gate, _ = await behind(
        answers(
            chat_stream({field: "Hmm, "}, {field: "rivers."}, {"content": "Water."})
            if streamed
            else chat("Water.", **{field: "Hmm, rivers."})
        )
    )
    message = await complete(clients.async_anthropic(gate), streamed, **ASK)
    thought, said = blocks(message)
    assert (thought["type"], thought["thinking"]) == ("thinking", "Hmm, rivers.")
    assert said == {"type": "text", "text": "Water."}


async def test_an_answer_is_parsed_into_a_model(behind: Any, clients: Clients) -> None:
    """messages.parse sends the schema as response_format and reads the instance."""
    gate, up = await behind(answers(chat('{"city":"Oslo","days":2,"stops":["Bergen"]}')))
    message = await clients.async_anthropic(gate).messages.parse(**ASK, output_format=Trip)
    assert message.parsed_output == Trip(city="Oslo", days=2, stops=["Bergen"])
    form = up.requests[0].json["response_format"]
    assert form["type"] == "json_schema"
    assert set(form["json_schema"]["schema"]["properties"]) == {"city", "days", "stops"}


async def test_an_image_block_is_a_data_url(behind: Any, clients: Clients) -> None:
    """A base64 picture goes up as a data URL with its media type."""
    gate, up = await behind(answers(chat("a dot")))
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    content = [{"type": "text", "text": "What?"}, picture]
    await clients.async_anthropic(gate).messages.create(**{**ASK, "messages": [{"role": "user", "content": content}]})
    (_, image) = up.requests[0].json["messages"][0]["content"]
    assert (image["type"], image["image_url"]["url"]) == ("image_url", f"data:image/png;base64,{PNG}")


@pytest.mark.parametrize(("finish", "stop"), [("length", "max_tokens"), ("content_filter", "refusal")])
async def test_an_end_has_anthropics_name(finish: str, stop: str, behind: Any, clients: Clients) -> None:
    """OpenAI's finish reasons are Anthropic's stop reasons, whole and streamed."""
    gate, _ = await behind(answers(chat("x", finish=finish), chat_stream({"content": "x"}, finish=finish)))
    client = clients.async_anthropic(gate)
    whole = await complete(client, False, **ASK)
    streamed = await complete(client, True, **ASK)
    assert whole.stop_reason == streamed.stop_reason == stop


async def test_tokens_are_counted_here(behind: Any, clients: Clients) -> None:
    """count_tokens does not bother a provider that has no such thing."""
    gate, up = await behind(answers(chat("x")))
    counted = await clients.async_anthropic(gate).messages.count_tokens(model="m", messages=HI, tools=ANTHROPIC_TOOLS)
    assert counted.input_tokens > 20
    assert up.requests == []


async def test_what_cannot_cross_is_a_bad_request(behind: Any, clients: Clients) -> None:
    """A field chat completions have no place for raises BadRequestError that names it; the provider is not asked."""
    gate, up = await behind(answers(chat("x")))
    with pytest.raises(anthropic.BadRequestError, match="top_k"):
        await clients.async_anthropic(gate).messages.create(**ASK, extra_body={"top_k": 5})
    assert up.requests == []


async def test_an_error_inside_a_stream_is_raised(behind: Any, clients: Clients) -> None:
    """An error chunk of the provider is an APIStatusError for the client, after what had been said."""
    begun = first_events(chat_stream({"content": "Hello there."}), 2)
    gate, _ = await behind(answers(begun + b'data: {"error":{"message":"tool failed","type":"server_error"}}\n\n'))
    said: list[str] = []
    async with clients.async_anthropic(gate).messages.stream(**ASK) as stream:
        with pytest.raises(anthropic.APIStatusError, match="tool failed"):
            await collect(stream.text_stream, said)
    assert said == ["Hello there."]


async def test_a_cut_stream_is_raised(behind: Any, clients: Clients) -> None:
    """A provider that leaves in the middle of a stream is an APIStatusError for the client, never an ordinary end."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(first_events(chat_stream({"content": "Hello there."}), 2))
        wire.close()

    gate, _ = await behind(script)
    kinds: list[Any] = []
    stream = await clients.async_anthropic(gate).messages.create(**ASK, stream=True)
    with pytest.raises(anthropic.APIStatusError) as caught:
        await collect(stream, kinds)
    assert caught.value.type == "api_error"
    assert not {"message_delta", "message_stop"} & {event.type for event in kinds}


async def complete(client: anthropic.AsyncAnthropic, streamed: bool, **ask: Any) -> Any:
    """The message, by either way."""
    if not streamed:
        return await client.messages.create(**ask)
    async with client.messages.stream(**ask) as stream:
        return await stream.get_final_message()
