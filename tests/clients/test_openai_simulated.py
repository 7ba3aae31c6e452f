"""OpenAI's SDK with the built-in model behind the gateway: what people do with it works when the base URL is ours."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from tests.clients.conftest import Clients
from tests.clients.sdks import OPENAI_TOOLS, PNG, RIVERS, Trip
from tests.gateway import Gateway

ASK: dict[str, Any] = {"model": "simulated", "messages": RIVERS}
WEATHER = [{"role": "user", "content": "What is the weather in Oslo?"}]
BOTH = [{"role": "user", "content": "What is the weather in Oslo, and what does the clock say?"}]


async def test_a_thread_can_chat(simulated: Gateway, clients: Clients) -> None:
    """The synchronous client gets an answer with text, a reason, usage and ids."""
    completion = await asyncio.to_thread(clients.openai(simulated).chat.completions.create, **ASK)
    (choice,) = completion.choices
    assert choice.message.role == "assistant"
    assert "ivers" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert completion.model == "simulated"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.usage.completion_tokens > 0


async def test_a_stream_says_what_the_whole_answer_says(simulated: Gateway, clients: Clients) -> None:
    """The deltas of a stream, joined, are the text of the answer that is not streamed; usage comes when asked for."""
    client = clients.async_openai(simulated)
    whole = await client.chat.completions.create(**ASK)
    stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert len(chunks) > 10
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage


async def test_a_thread_can_stream(simulated: Gateway, clients: Clients) -> None:
    """The synchronous client reads a stream to its end, and none without an end."""

    def read() -> list[str | None]:
        with clients.openai(simulated).chat.completions.create(**ASK, stream=True) as stream:
            return [choice.finish_reason for chunk in stream for choice in chunk.choices]

    reasons = await asyncio.to_thread(read)
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}


async def test_the_stream_helper_reads_threads(simulated: Gateway, clients: Clients) -> None:
    """`with client.chat.completions.stream(...)` gives content events and the final completion."""

    def read() -> tuple[str, str | None]:
        with clients.openai(simulated).chat.completions.stream(**ASK) as stream:
            deltas = "".join(event.delta for event in stream if event.type == "content.delta")
            return deltas, stream.get_final_completion().choices[0].message.content

    deltas, final = await asyncio.to_thread(read)
    assert deltas == final
    assert deltas


async def test_the_stream_helper_folds_usage_and_choices(simulated: Gateway, clients: Clients) -> None:
    """The asynchronous helper's final completion holds every choice and the usage."""
    client = clients.async_openai(simulated)
    async with client.chat.completions.stream(**ASK, n=2, stream_options={"include_usage": True}) as stream:
        completion = await stream.get_final_completion()
    first, second = completion.choices
    assert first.message.content != second.message.content
    assert completion.usage is not None


async def test_a_limit_ends_an_answer(simulated: Gateway, clients: Clients) -> None:
    """max_completion_tokens is obeyed, said as `length`, and counted."""
    completion = await clients.async_openai(simulated).chat.completions.create(**ASK, max_completion_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


async def test_a_tool_is_called_and_its_result_used(simulated: Gateway, clients: Clients) -> None:
    """The full loop: the model calls, the client answers, the model speaks of the result."""
    client = clients.async_openai(simulated)
    asked = await client.chat.completions.create(model="simulated", messages=WEATHER, tools=OPENAI_TOOLS)
    assert asked.choices[0].finish_reason == "tool_calls"
    reply = asked.choices[0].message
    (call,) = reply.tool_calls or ()
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "13 degrees and rain"}
    told = await client.chat.completions.create(
        model="simulated", messages=[*WEATHER, reply, result], tools=OPENAI_TOOLS
    )
    assert "13 degrees and rain" in (told.choices[0].message.content or "")


async def test_tools_are_called_in_parallel(simulated: Gateway, clients: Clients) -> None:
    """Two calls in one turn have ids of their own, and both results are used."""
    client = clients.async_openai(simulated)
    asked = await client.chat.completions.create(model="simulated", messages=BOTH, tools=OPENAI_TOOLS)
    reply = asked.choices[0].message
    first, second = reply.tool_calls or ()
    assert first.id != second.id
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": said} for call, said in ((first, "rain"), (second, "noon"))
    ]
    told = await client.chat.completions.create(model="simulated", messages=[*BOTH, reply, *results])
    assert "rain noon" in (told.choices[0].message.content or "")


async def test_one_call_at_a_time_can_be_asked_for(simulated: Gateway, clients: Clients) -> None:
    """parallel_tool_calls=False reaches the model."""
    completion = await clients.async_openai(simulated).chat.completions.create(
        model="simulated", messages=BOTH, tools=OPENAI_TOOLS, parallel_tool_calls=False
    )
    assert len(completion.choices[0].message.tool_calls or ()) == 1


async def test_streamed_tool_calls_are_folded(simulated: Gateway, clients: Clients) -> None:
    """The helper puts the pieces of two streamed calls together into valid arguments."""
    client = clients.async_openai(simulated)
    async with client.chat.completions.stream(model="simulated", messages=BOTH, tools=OPENAI_TOOLS) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "get_clock"]
    assert [set(json.loads(call.function.arguments)) for call in calls] == [{"city"}, {"zone"}]


async def test_an_answer_is_parsed_into_a_model(simulated: Gateway, clients: Clients) -> None:
    """`.parse` with a pydantic model sends its schema and reads an instance."""
    completion = await clients.async_openai(simulated).chat.completions.parse(**ASK, response_format=Trip)
    assert isinstance(completion.choices[0].message.parsed, Trip)


async def test_a_streamed_answer_is_parsed_into_a_model(simulated: Gateway, clients: Clients) -> None:
    """The stream helper reads the same instance as `.parse`."""
    client = clients.async_openai(simulated)
    async with client.chat.completions.stream(**ASK, response_format=Trip) as stream:
        final = await stream.get_final_completion()
    whole = await client.chat.completions.parse(**ASK, response_format=Trip)
    assert final.choices[0].message.parsed == whole.choices[0].message.parsed


async def test_a_schema_can_be_given_by_hand(simulated: Gateway, clients: Clients) -> None:
    """response_format json_schema without a model class gives JSON of that schema."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    completion = await clients.async_openai(simulated).chat.completions.create(
        **ASK, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    )
    assert isinstance(json.loads(completion.choices[0].message.content or "")["n"], int)


async def test_a_picture_can_be_shown(simulated: Gateway, clients: Clients) -> None:
    """A data URL is an ordinary part of a message, and counts as tokens."""
    words = {"type": "text", "text": "What is this?"}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    client = clients.async_openai(simulated)
    costs = []
    for content in ([words], [words, picture]):
        message: Any = {"role": "user", "content": content}
        completion = await client.chat.completions.create(model="simulated", messages=[message])
        assert completion.usage is not None
        costs.append(completion.usage.prompt_tokens)
    assert costs[1] > costs[0]


async def test_embeddings_are_the_same_in_both_forms(simulated: Gateway, clients: Clients) -> None:
    """The SDK's own default (base64) and plain floats are the same vectors, of unit length, in order."""
    client = clients.async_openai(simulated)
    texts = ["rivers run", "rivers rest", "a clock"]
    packed = await client.embeddings.create(model="simulated", input=texts)
    plain = await client.embeddings.create(model="simulated", input=texts, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1, 2]
    for a, b in zip(packed.data, plain.data, strict=True):
        assert a.embedding == pytest.approx(b.embedding)
        assert math.hypot(*a.embedding) == pytest.approx(1.0, abs=1e-5)
    assert packed.usage.prompt_tokens > 0


async def test_embeddings_have_the_size_asked_for(simulated: Gateway, clients: Clients) -> None:
    """`dimensions` reaches the model, from a thread too."""
    answer = await asyncio.to_thread(
        clients.openai(simulated).embeddings.create, model="simulated", input="x", dimensions=8
    )
    assert len(answer.data[0].embedding) == 8


async def test_legacy_completions_answer(simulated: Gateway, clients: Clients) -> None:
    """Text completions give the same text whole and streamed."""
    client = clients.async_openai(simulated)
    whole = await client.completions.create(model="simulated", prompt="Rivers", max_tokens=20)
    stream = await client.completions.create(model="simulated", prompt="Rivers", max_tokens=20, stream=True)
    said = "".join([choice.text async for chunk in stream for choice in chunk.choices])
    assert said == whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"


async def test_models_are_listed(simulated: Gateway, clients: Clients) -> None:
    """models.list pages through the configured names; retrieve gives one of them."""
    client = clients.async_openai(simulated)
    names = [model.id async for model in client.models.list()]
    assert names == ["simulated"]
    model = await client.models.retrieve("simulated")
    assert (model.id, model.object) == ("simulated", "model")


async def test_an_unknown_model_is_not_found(simulated: Gateway, clients: Clients) -> None:
    """models.retrieve of a name that is not there, and a call to it, raise NotFoundError with the code OpenAI uses."""
    client = clients.async_openai(simulated)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=RIVERS)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_the_answer_names_its_request(simulated: Gateway, clients: Clients) -> None:
    """`_request_id` is the x-request-id a client gave as a default header, else one of ours."""
    named = clients.async_openai(simulated, default_headers={"x-request-id": "mine-1"})
    assert (await named.chat.completions.create(**ASK))._request_id == "mine-1"
    made = (await clients.async_openai(simulated).chat.completions.create(**ASK))._request_id
    assert made
    assert made.startswith("req_")


async def test_raw_responses_tell_who_answered(simulated: Gateway, clients: Clients) -> None:
    """with_raw_response shows the headers that say who answered."""
    raw = await clients.async_openai(simulated).chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["x-runestone-provider"] == "simulated"
    assert raw.parse().choices[0].message.content


async def test_a_body_can_be_streamed_raw(simulated: Gateway, clients: Clients) -> None:
    """with_streaming_response hands out the lines of the stream, [DONE] included."""
    client = clients.async_openai(simulated)
    async with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line async for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


async def test_many_streams_do_not_mix(simulated: Gateway, clients: Clients) -> None:
    """Forty streams at once over one client: each gets the answer to its own question."""
    client = clients.async_openai(simulated)

    async def ask(topic: str) -> str:
        question: Any = [{"role": "user", "content": f"Explain {topic}."}]
        stream = await client.chat.completions.create(model="simulated", messages=question, stream=True)
        return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])

    topics = [f"topic{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(40)]
    for topic, said in zip(topics, await asyncio.gather(*map(ask, topics)), strict=True):
        assert topic in said.lower()
        assert not any(other in said.lower() for other in topics if other != topic)
