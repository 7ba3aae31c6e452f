"""The client over HTTP: whole answers, and streams that survive their connection."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from runestone.client import (
    Client,
    ClientError,
    ConnectionLost,
    Limits,
    Reconnect,
    Refused,
    StreamFailed,
    TimedOut,
    TooLarge,
)
from tests.client.conftest import MakeClient, StartProxy
from tests.client.talking import ANSWER, FAST, MODEL, UP, Told, Words, ask, everything, word
from tests.conftest import StartGateway, StartProvider, until
from tests.flows.test_relay_stream import chunk
from tests.provider import Seen, Wire

KEY = "rs-a-key-that-nobody-may-see"
LOCKED = f'[auth]\nrequired = true\n[[auth.keys]]\nname = "one"\nsha256 = "{"0" * 64}"\n'


async def test_an_answer_and_a_stream_say_the_same(gateway: StartGateway, client: MakeClient) -> None:
    """As a completion, as texts, as chunks; with finish_reason, usage and id after the end."""
    gate = await gateway(FAST)
    one = client(gate.url)
    answer = await one.chat(model="simulated", messages=ask())
    text = answer["choices"][0]["message"]["content"]
    stream = one.stream(model="simulated", messages=ask())
    assert "".join([piece async for piece in stream]) == text
    assert (stream.finish_reason, stream.is_over, stream.usage) == ("stop", True, answer["usage"])
    chunks = [piece async for piece in one.stream(model="simulated", messages=ask()).chunks()]
    assert "".join(piece.text for piece in chunks) == text
    assert [piece.index for piece in chunks] == list(range(len(chunks)))
    with pytest.raises(RuntimeError):
        await anext(stream.chunks())


async def test_a_refusal_has_its_fields(gateway: StartGateway, client: MakeClient) -> None:
    """Status, code, type and param of the error object, for answers and for streams."""
    gate = await gateway("")
    one = client(gate.url)
    with pytest.raises(Refused) as model:
        await one.chat(model="nothing/of-the-kind", messages=ask())
    assert (model.value.status, model.value.code, model.value.type) == (404, "model_not_found", "invalid_request_error")
    with pytest.raises(Refused) as field:
        await anext(aiter(one.stream(model="simulated", messages=ask(), temperature="warm")))
    assert (field.value.status, field.value.param) == (400, "temperature")
    with pytest.raises(ValueError, match="stream"):
        await one.chat(model="simulated", messages=ask(), stream=True)
    with pytest.raises(ValueError, match="URL"):
        Client("127.0.0.1:4003")


async def test_a_key_that_is_not_known_is_refused_once(
    gateway: StartGateway, proxy: StartProxy, client: MakeClient
) -> None:
    """Nobody tries it again, over HTTP or as a session."""
    gate = await gateway(LOCKED)
    between = await proxy(gate.port)
    one = client(between.url, key=KEY)
    with pytest.raises(Refused, match="not known") as whole:
        await one.chat(model="simulated", messages=ask())
    assert (whole.value.status, whole.value.code) == (401, "invalid_api_key")
    with pytest.raises(Refused, match="not known"):
        await anext(aiter(one.stream(model="simulated", messages=ask())))
    assert between.opened == 1
    with pytest.raises(Refused, match="not known") as session:
        await client(between.url, key=KEY).session().open()
    assert session.value.close_code == 1008
    assert between.opened == 2


async def test_no_error_holds_the_key(gateway: StartGateway, proxy: StartProxy, client: MakeClient) -> None:
    """Refused, not there, not answering, lost: nothing that is raised, and nothing it came from, has the key in it."""
    gate = await gateway(LOCKED)
    between = await proxy(gate.port)
    one = client(between.url, key=KEY, timeout=0.3, reconnect=Reconnect(give_up_after=0, attempt=0.3))
    errors = []

    async def fails() -> None:
        for call in (
            one.chat(model="m", messages=ask()),
            anext(aiter(one.stream(model="m", messages=ask()))),
            one.session().open(),
        ):
            with pytest.raises(ClientError) as raised:
                await call  # type: ignore[misc]
            errors.append(raised.value)

    await fails()
    between.flowing.clear()
    await fails()
    between.flowing.set()
    between.refusing = True
    await fails()
    between.refusing = False
    between.allow = lambda: 20
    await fails()
    assert {type(error) for error in errors} == {Refused, TimedOut, ConnectionLost}
    assert not [error for error in errors if KEY in everything(error)]
    assert KEY not in repr(one)


async def test_every_wait_has_a_deadline(
    gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """An answer that does not come, one that does not end, a gateway that is not there."""
    source = Told()
    source.release.clear()
    gate = await gateway(UP.format((await provider(source.script)).url))
    with pytest.raises(TimedOut) as timed_out:
        await client(gate.url, timeout=0.2).chat(model=MODEL, messages=ask())
    assert isinstance(timed_out.value, TimeoutError)
    between = await proxy(gate.port)
    between.refusing = True
    with pytest.raises(ConnectionLost):
        await client(between.url).chat(model=MODEL, messages=ask())


async def test_an_answer_that_is_too_large_is_not_read(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """Neither whole nor as an event of a stream."""

    async def script(seen: Seen, wire: Wire) -> None:
        if seen.json.get("stream"):
            await wire.begin_stream()
            await wire.chunk(chunk({"content": "x" * 50_000}))
            await wire.left()
        else:
            await wire.answer({**ANSWER, "x": "x" * 50_000})

    gate = await gateway(UP.format((await provider(script)).url))
    one = client(gate.url, limits=Limits(largest_read=10_000))
    with pytest.raises(TooLarge):
        await one.chat(model=MODEL, messages=ask())
    with pytest.raises(TooLarge):
        await anext(aiter(one.stream(model=MODEL, messages=ask())))


@pytest.mark.parametrize("seed", range(4))
async def test_a_stream_that_is_cut_anywhere_is_exact(
    seed: int, gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """Dozens of connections, each lost after some hundred bytes, in the middle of whatever it was: each event comes
    once, and the provider was asked once.
    """
    words, dice = Words(), random.Random(seed)
    up = await provider(words.script)
    gate = await gateway(UP.format(up.url))
    between = await proxy(gate.port)
    between.allow = lambda: dice.randrange(400, 3000)
    stream = client(between.url).stream(model=MODEL, messages=ask("300"))
    chunks = [piece async for piece in stream.chunks()]
    assert "".join(piece.text for piece in chunks) == words.text(300)
    assert [piece.index for piece in chunks] == list(range(len(chunks)))
    assert (stream.finish_reason, len(up.requests)) == ("stop", 1)
    assert stream.resumed > 10


async def test_a_stream_goes_on_while_its_connection_is_lost(
    gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """Nobody answers for a while; what the provider said meanwhile is there afterwards."""
    source = Told()
    gate = await gateway(UP.format((await provider(source.script)).url))
    between = await proxy(gate.port)
    texts = aiter(client(between.url).stream(model=MODEL, messages=ask()))
    first = asyncio.ensure_future(anext(texts))
    await until(lambda: bool(source.streams))
    source.say("a ")
    assert await first == "a "
    between.refusing = True
    between.cut()
    source.say("b ", "c ")
    source.end()
    rest = asyncio.ensure_future(_all(texts))
    opened = between.opened
    await until(lambda: between.opened > opened + 2)
    between.refusing = False
    assert await rest == "b c "


async def _all(texts: object) -> str:
    return "".join([text async for text in texts])  # type: ignore[attr-defined]


async def test_a_stream_that_fails_says_so_after_its_text(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """The gateway's error event, with its code: never a text that merely ends."""

    async def breaks(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(chunk({"content": "half"}))
        wire.reset()

    gate = await gateway(UP.format((await provider(breaks)).url))
    texts = aiter(client(gate.url).stream(model=MODEL, messages=ask()))
    assert await anext(texts) == "half"
    with pytest.raises(StreamFailed) as failed:
        await anext(texts)
    assert (failed.value.code, failed.value.type) == ("provider_error", "api_error")


async def test_a_stream_that_is_gone_at_the_gateway_fails(
    gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """Another process answers: it says so at once, instead of trying for ever."""
    source = Told()
    toml = UP.format((await provider(source.script)).url)
    gate, other = await gateway(toml), await gateway(toml)
    between = await proxy(gate.port)
    texts = aiter(client(between.url).stream(model=MODEL, messages=ask()))
    first = asyncio.ensure_future(anext(texts))
    await until(lambda: bool(source.streams))
    source.say("a")
    assert await first == "a"
    between.port = other.port
    between.cut()
    with pytest.raises(StreamFailed) as failed:
        await anext(texts)
    assert failed.value.code == "not_found"


async def test_what_cannot_be_gone_on_with_is_given_up(
    gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """Nobody answers for `give_up_after`; or the gateway keeps no more streams than it may, and gave this one no id."""
    source = Told()
    gate = await gateway(UP.format((await provider(source.script)).url) + "[streams]\nmax_streams = 1\n")
    between = await proxy(gate.port)
    one = client(between.url, reconnect=Reconnect(first_wait=0.01, longest_wait=0.05, give_up_after=0.3))
    texts = [aiter(one.stream(model=MODEL, messages=ask(str(number)))) for number in range(2)]
    for number in range(2):
        first = asyncio.ensure_future(anext(texts[number]))
        await until(lambda number=number: len(source.streams) > number)  # type: ignore[misc]
        source.say("a", stream=number)
        assert await first == "a"
    between.refusing = True
    between.cut()
    with pytest.raises(ConnectionLost, match="does not keep"):
        await anext(texts[1])
    with pytest.raises(ConnectionLost, match=r"for 0\.3 seconds"):
        await anext(texts[0])


@pytest.mark.parametrize("how", ["break", "cancel", "task", "close"])
async def test_who_leaves_ends_the_call(
    how: str, gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """Out of the loop, by `cancel`, with its task, or with the client: the provider's connection ends though the stream
    could be resumed, and nothing of it is left at the gateway.
    """
    source = Told()
    up = await provider(source.script)
    gate = await gateway(UP.format(up.url))
    one = client(gate.url)
    stream = one.stream(model=MODEL, messages=ask())
    had: list[str] = []

    async def read() -> None:
        async for text in stream:
            had.append(text)
            if how == "break":
                break

    reading = asyncio.ensure_future(read())
    await until(lambda: bool(source.streams))
    source.say("a")
    await until(lambda: had == ["a"])
    if how == "cancel":
        await stream.cancel()
        await reading
    elif how == "task":
        reading.cancel()
    elif how == "close":
        await one.close()
        with pytest.raises(ConnectionLost, match="closed"):
            await reading
    await until(lambda: up.open == 0, seconds=1.0)
    await until(lambda: not len(gate.app.live.streams))
    await asyncio.gather(reading, return_exceptions=True)
    assert had == ["a"]


async def test_a_client_may_come_back_after_the_end(
    gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """The connection is lost behind the last event but one, and there is nothing more than the end to come."""
    words = Words()
    up = await provider(words.script)
    gate = await gateway(UP.format(up.url))
    whole = client(gate.url).stream(model=MODEL, messages=ask("5"))
    assert await _all(whole) == words.text(5)
    between = await proxy(gate.port)
    for size in range(700, 1400, 25):  # around the end of the answer
        sizes = iter([size])
        between.allow = partial(next, sizes, None)
        stream = client(between.url).stream(model=MODEL, messages=ask("5"))
        assert await _all(stream) == words.text(5)
        assert stream.finish_reason == "stop"


def _event(number: int, text: str) -> bytes:
    return b"id: %d\n" % number + word(text)


async def test_a_gateway_that_is_in_trouble_is_asked_again(provider: StartProvider, client: MakeClient) -> None:
    """It resets, is overloaded, does not answer: each time the same is asked for, until it is there."""
    asked: list[str | None] = []

    async def script(seen: Seen, wire: Wire) -> None:
        if seen.method == "POST":
            await wire.begin_stream({"x-runestone-stream-id": "s"})
            await wire.chunk(_event(1, "a") + b"id: 2\ndata: half")
            wire.close()
            return
        asked.append(seen.headers.get("last-event-id"))
        if len(asked) == 1:
            wire.reset()
        elif len(asked) == 2:
            await wire.answer({"error": {"message": "later"}}, status=503)
        elif len(asked) == 3:
            await wire.left()
        else:
            await wire.begin_stream()
            await wire.chunk(_event(2, "b") + b"id: 3\ndata: [DONE]\n\n")
            await wire.end_stream()

    up = await provider(script)
    stream = client(up.url, timeout=0.2).stream(model=MODEL, messages=ask())
    assert await _all(stream) == "ab"
    assert asked == ["1"] * 4
    assert stream.resumed == 1


async def test_nothing_more_is_an_end(provider: StartProvider, client: MakeClient) -> None:
    """204 says that the last event has been had."""

    async def script(seen: Seen, wire: Wire) -> None:
        if seen.method == "POST":
            await wire.begin_stream({"x-runestone-stream-id": "s"})
            await wire.chunk(_event(1, "a"))
            wire.close()
        else:
            await wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert await _all(client((await provider(script)).url).stream(model=MODEL, messages=ask())) == "a"


async def test_a_refusal_says_when_to_come_again(provider: StartProvider, client: MakeClient) -> None:
    """`retry_after` in seconds; an answer that is no error object has its status all the same."""

    async def script(seen: Seen, wire: Wire) -> None:
        if seen.json["messages"][0]["content"] == "limits":
            said = {"error": {"message": "slowly", "code": "rate_limit_exceeded", "type": "rate_limit_error"}}
            await wire.answer(said, status=429, headers={"retry-after": "2.5"})
        else:
            await wire.answer(b"<html>", status=502)

    one = client((await provider(script)).url)
    with pytest.raises(Refused, match="slowly") as limited:
        await one.chat(model=MODEL, messages=ask("limits"))
    assert (limited.value.status, limited.value.retry_after) == (429, 2.5)
    with pytest.raises(Refused, match="502") as other:
        await one.chat(model=MODEL, messages=ask())
    assert (other.value.status, other.value.code, other.value.retry_after) == (502, None, None)


@pytest.mark.parametrize(
    ("how", "error"), [("reset", ConnectionLost), ("hangs", TimedOut), ("no JSON", ConnectionLost)]
)
async def test_an_answer_that_is_none(
    how: str, error: type[ClientError], provider: StartProvider, client: MakeClient
) -> None:
    """Half of one, one that never ends, something else: never a half answer."""

    async def script(seen: Seen, wire: Wire) -> None:
        if how == "no JSON":
            await wire.answer(b"<html>")
            return
        await wire.answer(b'{"choices":', headers={"Content-Length": "100"})
        if how == "reset":
            wire.reset()
        else:
            await wire.left()

    with pytest.raises(error):
        await client((await provider(script)).url, timeout=0.3).chat(model=MODEL, messages=ask())


def test_what_makes_no_sense_is_said_at_once() -> None:
    """Waits and bounds are positive."""
    for make in (
        lambda: Client("http://127.0.0.1:4003", timeout=0),
        lambda: Client("http://127.0.0.1:4003", heartbeat=-1),
        lambda: Reconnect(first_wait=2.0, longest_wait=1.0),
        lambda: Limits(buffered=0),
    ):
        with pytest.raises(ValueError, match=r"positive|at least 1"):
            make()
