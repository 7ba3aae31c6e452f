"""OpenAI's SDK, a provider that speaks Anthropic's Messages: what is sent up is theirs, what comes back is OpenAI's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.clients.conftest import Clients
from tests.clients.sdks import (
    OPENAI_TOOLS,
    PNG,
    Trip,
    answers,
    anthropic_event,
    collect,
    first_events,
    message,
    message_stream,
    text,
    thinking,
    tool_use,
)
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Script, Seen, Wire

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def behind(gateway: StartGateway, provider: StartProvider) -> Any:
    """`gate, up = await behind(script)`: a gateway before an Anthropic provider that answers by the script."""

    async def start(script: Script) -> tuple[Gateway, FakeProvider]:
        up = await provider(script)
        return await gateway(relay(up.url, dialect="anthropic"), ENVIRON), up

    return start


async def test_an_answer_reads_as_a_completion(behind: Any, clients: Clients) -> None:
    """Text, reason and usage (cached tokens included) arrive in OpenAI's fields, in a thread as well."""
    gate, _ = await behind(answers(message(text("Hello "), text("there."))))
    client = clients.openai(gate)
    completion = await asyncio.to_thread(client.chat.completions.create, model="m", messages=HI)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == "Hello there."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (16, 7)
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 5


async def test_a_request_goes_up_as_messages(behind: Any, clients: Clients) -> None:
    """The provider is asked at its path, with its version, our key, its field names, and a limit it requires."""
    gate, up = await behind(answers(message(text("ok"))))
    system: Any = [{"role": "system", "content": "Be brief."}]
    await clients.async_openai(gate).chat.completions.create(
        model="m", messages=system + HI, temperature=0.5, stop=["END"], user="u-1", top_p=0.9
    )
    (seen,) = up.requests
    assert seen.path == "/v1/messages"
    assert seen.headers["x-api-key"] == ENVIRON["UP_KEY"]
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in seen.headers
    body = seen.json
    assert json.dumps(body.pop("system")).count("Be brief.") == 1
    assert body.pop("messages")[0]["role"] == "user"
    assert body == {
        "model": "m",
        "max_tokens": 4096,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
    }


async def test_a_tool_is_called_and_its_result_used(behind: Any, clients: Clients) -> None:
    """The full loop: tool_use is a tool call with the same id, its result goes up as a tool_result."""
    gate, up = await behind(
        answers(
            message(text("Let me look."), tool_use("get_weather", {"city": "Oslo"}), stop="tool_use"),
            message(text("Rain.")),
        )
    )
    client = clients.async_openai(gate)
    asked = await client.chat.completions.create(model="m", messages=HI, tools=OPENAI_TOOLS)
    reply = asked.choices[0].message
    assert (asked.choices[0].finish_reason, reply.content) == ("tool_calls", "Let me look.")
    (call,) = functions(asked)
    assert call == ("toolu_1", "get_weather", {"city": "Oslo"})
    result: Any = {"role": "tool", "tool_call_id": call[0], "content": "13 degrees"}
    told = await client.chat.completions.create(model="m", messages=[*HI, reply, result], tools=OPENAI_TOOLS)
    assert told.choices[0].message.content == "Rain."
    first, second = (seen.json for seen in up.requests)
    assert [tool["name"] for tool in first["tools"]] == ["get_weather", "get_clock"]
    assert second["messages"][1]["content"][1] == tool_use("get_weather", {"city": "Oslo"})
    assert second["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"
    assert "13 degrees" in json.dumps(second["messages"][2]["content"])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_tools_are_called_in_parallel(streamed: bool, behind: Any, clients: Clients) -> None:
    """Two tool_use blocks are two tool calls, whole and streamed; two results go up in one user turn."""
    blocks = [tool_use("get_weather", {"city": "Oslo"}, "toolu_1"), tool_use("get_clock", {"zone": "UTC"}, "toolu_2")]
    first = message_stream(*blocks, stop="tool_use") if streamed else message(*blocks, stop="tool_use")
    gate, up = await behind(answers(first, message(text("done"))))
    client = clients.async_openai(gate)
    asked = await complete(client, streamed, model="m", messages=HI, tools=OPENAI_TOOLS)
    assert functions(asked) == [("toolu_1", "get_weather", {"city": "Oslo"}), ("toolu_2", "get_clock", {"zone": "UTC"})]
    results: Any = [{"role": "tool", "tool_call_id": call[0], "content": "x"} for call in functions(asked)]
    reply: Any = asked.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
    await client.chat.completions.create(model="m", messages=[*HI, reply, *results], tools=OPENAI_TOOLS)
    last = up.requests[1].json["messages"][-1]
    assert last["role"] == "user"
    assert [block["tool_use_id"] for block in last["content"]] == ["toolu_1", "toolu_2"]


async def test_a_stream_reads_as_chunks(behind: Any, clients: Clients) -> None:
    """Text deltas, one finish reason, usage in a last chunk when asked for, and one id throughout."""
    gate, up = await behind(answers(message_stream(text("Hello there."))))
    stream = await clients.async_openai(gate).chat.completions.create(
        model="m", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "Hello there."
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (16, 7)
    assert up.requests[0].json["stream"] is True
    assert "stream_options" not in up.requests[0].json


async def test_a_thread_can_stream(behind: Any, clients: Clients) -> None:
    """The synchronous stream helper folds a crossed stream."""
    gate, _ = await behind(answers(message_stream(text("Hello there."))))

    def read() -> str | None:
        with clients.openai(gate).chat.completions.stream(model="m", messages=HI) as stream:
            return stream.get_final_completion().choices[0].message.content

    assert await asyncio.to_thread(read) == "Hello there."


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_thinking_is_reasoning_content(streamed: bool, behind: Any, clients: Clients) -> None:
    """Thinking is kept apart from the text, where clients of reasoning models look for it."""
    blocks = [thinking("Hmm, rivers."), text("Water.")]
    gate, _ = await behind(answers(message_stream(*blocks) if streamed else message(*blocks)))
    client = clients.async_openai(gate)
    if streamed:
        chunks = await client.chat.completions.create(model="m", messages=HI, stream=True)
        deltas = [choice.delta async for chunk in chunks for choice in chunk.choices]
        thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        said = "".join(delta.content or "" for delta in deltas)
    else:
        answer = (await client.chat.completions.create(model="m", messages=HI)).choices[0].message
        thought, said = answer.reasoning_content, answer.content or ""  # type: ignore[attr-defined]
    assert (thought, said) == ("Hmm, rivers.", "Water.")


async def test_signed_thinking_goes_back(behind: Any, clients: Clients) -> None:
    """A client that sends the assistant's message back as it was sends the signed thinking back."""
    gate, up = await behind(
        answers(
            message(thinking("Hmm."), tool_use("get_weather", {"city": "Oslo"}), stop="tool_use"), message(text("ok"))
        )
    )
    client = clients.async_openai(gate)
    asked = await client.chat.completions.create(model="m", messages=HI, tools=OPENAI_TOOLS)
    result: Any = {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}
    back: Any = asked.choices[0].message
    await client.chat.completions.create(model="m", messages=[*HI, back, result], tools=OPENAI_TOOLS)
    assert up.requests[1].json["messages"][1]["content"][0] == thinking("Hmm.")


async def test_an_answer_is_parsed_into_a_model(behind: Any, clients: Clients) -> None:
    """`.parse` sends the schema as output_config.format and reads the instance."""
    gate, up = await behind(answers(message(text('{"city":"Oslo","days":2,"stops":["Bergen"]}'))))
    completion = await clients.async_openai(gate).chat.completions.parse(model="m", messages=HI, response_format=Trip)
    assert completion.choices[0].message.parsed == Trip(city="Oslo", days=2, stops=["Bergen"])
    form = up.requests[0].json["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert set(form["schema"]["properties"]) == {"city", "days", "stops"}


async def test_a_data_url_is_an_image_block(behind: Any, clients: Clients) -> None:
    """A picture in a data URL goes up as base64 with its media type."""
    gate, up = await behind(answers(message(text("a dot"))))
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    content: Any = [{"type": "text", "text": "What?"}, picture]
    await clients.async_openai(gate).chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
    (_, image) = up.requests[0].json["messages"][0]["content"]
    assert image == {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


@pytest.mark.parametrize(
    ("stop", "reason"), [("max_tokens", "length"), ("stop_sequence", "stop"), ("refusal", "content_filter")]
)
async def test_an_end_has_openais_name(stop: str, reason: str, behind: Any, clients: Clients) -> None:
    """Anthropic's stop reasons are OpenAI's finish reasons, whole and streamed."""
    gate, _ = await behind(answers(message(text("x"), stop=stop), message_stream(text("xy"), stop=stop)))
    client = clients.async_openai(gate)
    whole = await client.chat.completions.create(model="m", messages=HI)
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
    reasons = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
    assert whole.choices[0].finish_reason == reasons[-1] == reason


async def test_what_cannot_cross_is_a_bad_request(behind: Any, clients: Clients) -> None:
    """A field Anthropic has no place for raises BadRequestError that names it, and the provider is not asked."""
    gate, up = await behind(answers(message(text("x"))))
    with pytest.raises(openai.BadRequestError) as caught:
        await clients.async_openai(gate).chat.completions.create(model="m", messages=HI, n=2)
    assert caught.value.param == "n"
    assert up.requests == []


async def test_embeddings_are_refused_by_name(behind: Any, clients: Clients) -> None:
    """Anthropic has no embeddings: the client learns that, and not a 404 of somebody else."""
    gate, up = await behind(answers(message(text("x"))))
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        await clients.async_openai(gate).embeddings.create(model="m", input="x")
    assert up.requests == []


async def test_an_error_inside_a_stream_is_raised(behind: Any, clients: Clients) -> None:
    """An Anthropic error event ends the client's stream with APIError, after what had been said."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    begun = first_events(message_stream(text("Hello there.")), 5)
    gate, _ = await behind(answers(begun + anthropic_event(overloaded)))
    chunks: list[ChatCompletionChunk] = []
    stream = await clients.async_openai(gate).chat.completions.create(model="m", messages=HI, stream=True)
    with pytest.raises(openai.APIError, match="Overloaded"):
        await collect(stream, chunks)
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "Hello there."


async def test_a_cut_stream_is_raised(behind: Any, clients: Clients) -> None:
    """A provider that leaves in the middle of a stream is an APIError for the client, never an ordinary end."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(first_events(message_stream(text("Hello there.")), 6))
        wire.close()

    gate, _ = await behind(script)
    chunks: list[ChatCompletionChunk] = []
    stream = await clients.async_openai(gate).chat.completions.create(model="m", messages=HI, stream=True)
    with pytest.raises(openai.APIError):
        await collect(stream, chunks)
    assert {choice.finish_reason for chunk in chunks for choice in chunk.choices} == {None}


def functions(completion: ChatCompletion) -> list[tuple[str, str, Any]]:
    calls: Any = completion.choices[0].message.tool_calls or ()
    return [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls]


async def complete(client: openai.AsyncOpenAI, streamed: bool, **ask: Any) -> ChatCompletion:
    """The completion, by either way."""
    if not streamed:
        return await client.chat.completions.create(**ask)
    async with client.chat.completions.stream(**ask) as stream:
        return await stream.get_final_completion()
