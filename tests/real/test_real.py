"""A real model behind the gateway, in both dialects: llama.cpp's server answers, nothing is scripted.

The model is small and says little of sense; what is held here is form: ends, counts, schemas, and that a client that
leaves stops the computing.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.conftest import StartGateway
from tests.gateway import Gateway
from tests.real.llama import NAME, llama, model_file

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(model_file() is None, reason="the `real` extra is not installed (make test-real)"),
]

SKY: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
ENDLESS: list[Any] = [{"role": "user", "content": "Write a very long story about a river."}]
GREEDY = {"temperature": 0}  # Anthropic's SDK no longer lists it; servers take it
NATIVE, CROSSED = f"native/{NAME}", f"local/{NAME}"
both_ways = pytest.mark.parametrize("model", [NATIVE, CROSSED], ids=["anthropic to anthropic", "anthropic to openai"])


class Town(BaseModel):
    """A structured answer."""

    name: str
    inhabitants: int


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with llama() as url:
        yield url


@pytest.fixture
async def gate(server: str, gateway: StartGateway) -> Gateway:
    return await gateway(
        f'[providers.local]\nkind = "llamacpp"\nbase_url = "{server}/v1"\nmodels = ["{NAME}"]\n'
        f'[providers.native]\nkind = "anthropic"\nbase_url = "{server}"\napi_keys = ["env:UP_KEY"]\n',
        {"UP_KEY": "up-secret-0123456789"},
    )


@pytest.fixture
async def openai(gate: Gateway, stack: AsyncExitStack) -> AsyncOpenAI:
    client = AsyncOpenAI(base_url=gate.url + "/v1", api_key="any", max_retries=0, timeout=50.0)
    return await stack.enter_async_context(client)


@pytest.fixture
async def anthropic(gate: Gateway, stack: AsyncExitStack) -> AsyncAnthropic:
    client = AsyncAnthropic(base_url=gate.url, api_key="any", max_retries=0, timeout=50.0)
    return await stack.enter_async_context(client)


async def test_it_chats(openai: AsyncOpenAI) -> None:
    """A whole answer has text, a reason and counts that add up."""
    completion = await openai.chat.completions.create(model=NAME, messages=SKY, max_tokens=30, temperature=0)
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 30
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 30


async def test_a_stream_says_what_the_whole_answer_says(openai: AsyncOpenAI) -> None:
    """At temperature 0 the stream's deltas are the whole answer, in many chunks."""
    ask: dict[str, Any] = {"model": NAME, "messages": SKY, "max_tokens": 30, "temperature": 0, "seed": 1}
    whole = await openai.chat.completions.create(**ask)
    stream = await openai.chat.completions.create(**ask, stream=True)
    chunks = [chunk async for chunk in stream]
    assert len(chunks) > 10
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content


async def test_leaving_a_stream_stops_the_computing(
    openai: AsyncOpenAI, server: str, http: aiohttp.ClientSession
) -> None:
    """While a stream is read the server computes; once the client has left it stops, far before the limit."""
    before = await metric(http, server, "tokens_predicted_total")
    stream = await openai.chat.completions.create(model=NAME, messages=ENDLESS, max_tokens=1500, stream=True)
    async for _ in stream:
        break
    assert await metric(http, server, "requests_processing") == 1
    await stream.close()
    async with asyncio.timeout(50):
        while await metric(http, server, "requests_processing") > 0:
            pass  # a scrape takes its time
    assert await metric(http, server, "tokens_predicted_total") - before < 500


async def test_an_answer_is_parsed_into_a_model(openai: AsyncOpenAI) -> None:
    """The schema reaches the sampler: even a tiny model answers with an instance."""
    completion = await openai.chat.completions.parse(
        model=NAME,
        messages=[{"role": "user", "content": "Oslo has 700000 inhabitants. Answer as JSON."}],
        response_format=Town,
        max_tokens=200,
        temperature=0,
    )
    assert isinstance(completion.choices[0].message.parsed, Town)


async def test_embeddings_are_vectors(openai: AsyncOpenAI) -> None:
    """The SDK's default encoding and floats agree; vectors have unit length, and near texts are nearer."""
    texts = ["The river flows to the sea.", "A stream runs into the ocean.", "def f(x): return x"]
    packed = [item.embedding for item in (await openai.embeddings.create(model=NAME, input=texts)).data]
    plain = [
        item.embedding
        for item in (await openai.embeddings.create(model=NAME, input=texts, encoding_format="float")).data
    ]
    for a, b in zip(packed, plain, strict=True):
        assert a == pytest.approx(b, abs=1e-3)
        assert math.hypot(*a) == pytest.approx(1.0, abs=1e-3)
    assert dot(plain[0], plain[1]) > dot(plain[0], plain[2])


@both_ways
async def test_it_answers_messages(model: str, anthropic: AsyncAnthropic) -> None:
    """Anthropic's SDK is answered by llama.cpp's own Messages endpoint, and by its chat endpoint across."""
    message = await anthropic.messages.create(model=model, max_tokens=30, messages=SKY, extra_body=GREEDY)
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 30
    (block,) = message.content
    assert block.type == "text"
    assert block.text


@both_ways
async def test_it_streams_messages(model: str, anthropic: AsyncAnthropic) -> None:
    """The stream helper reads text piece by piece and folds a final message."""
    async with anthropic.messages.stream(model=model, max_tokens=30, messages=SKY, extra_body=GREEDY) as stream:
        pieces = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()
    assert len(pieces) > 5
    assert "".join(pieces) == await stream.get_final_text()
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 30)


async def test_structured_messages_cross(anthropic: AsyncAnthropic) -> None:
    """output_config becomes response_format, and the answer is JSON of the schema."""
    message = await anthropic.messages.parse(
        model=CROSSED,
        max_tokens=200,
        messages=[{"role": "user", "content": "Oslo has 700000 inhabitants. Answer as JSON."}],
        output_format=Town,
        extra_body=GREEDY,
    )
    assert isinstance(message.parsed_output, Town)


async def test_the_server_counts_its_own_tokens(anthropic: AsyncAnthropic) -> None:
    """count_tokens goes to the server that can count; across, it is estimated, and not far off."""
    counted = await anthropic.messages.count_tokens(model=NATIVE, messages=SKY)
    estimated = await anthropic.messages.count_tokens(model=CROSSED, messages=SKY)
    message = await anthropic.messages.create(model=NATIVE, max_tokens=1, messages=SKY)
    cached = message.usage.cache_read_input_tokens or 0
    assert counted.input_tokens == message.usage.input_tokens + cached
    assert 0 < estimated.input_tokens < 3 * counted.input_tokens


async def test_four_streams_at_once_end(openai: AsyncOpenAI) -> None:
    """As many streams as the server has slots run side by side, each to its own end."""
    streams = [
        await openai.chat.completions.create(
            model=NAME, messages=SKY, max_tokens=15, stream=True, stream_options={"include_usage": True}
        )
        for _ in range(4)
    ]
    for stream in streams:
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 15


async def test_its_refusal_passes(gate: Gateway, http: aiohttp.ClientSession) -> None:
    """A prompt longer than the model's context is llama.cpp's own 400, in its own words."""
    long = [{"role": "user", "content": "word " * 5000}]
    async with http.post(gate.url + "/v1/chat/completions", json={"model": NAME, "messages": long}) as response:
        assert response.status == 400
        error = json.loads(await response.read())["error"]
    assert "context" in error["message"]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def metric(http: aiohttp.ClientSession, server: str, name: str) -> float:
    async with http.get(server + "/metrics") as response:
        found = re.search(rf"^llamacpp:{name} (\S+)$", await response.text(), re.MULTILINE)
    assert found is not None
    return float(found[1])
