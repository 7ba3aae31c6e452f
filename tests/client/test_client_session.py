"""Sessions of the client while their connection holds: streams, answers, control, back-pressure, leaving."""

from __future__ import annotations

import asyncio

import pytest

from runestone.client import (
    Chunk,
    ConnectionLost,
    Limits,
    Overrun,
    Refused,
    Session,
    Stream,
    StreamFailed,
    TimedOut,
)
from runestone.client.conversation import Conversation
from tests.client.conftest import MakeClient, StartProxy, StartSpeaker
from tests.client.speaker import Speaker
from tests.client.talking import ANSWER, FAST, MODEL, UP, Told, Words, ask, works
from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import Gateway
from tests.provider import Seen, Wire


async def text_of(stream: Stream) -> str:
    return "".join([text async for text in stream])


async def begin(session: Session, source: Told, **fields: object) -> Stream:
    """A stream whose provider waits for what it shall say."""
    before = len(source.streams)
    stream = await session.stream(model=MODEL, messages=ask(f"question {before}"), **fields)  # type: ignore[arg-type]
    await until(lambda: len(source.streams) > before)
    return stream


async def test_many_streams_and_answers_at_once(gateway: StartGateway, client: MakeClient) -> None:
    """Each has its own text, the same as over HTTP; and says how it ended."""
    gate = await gateway(FAST)
    one = client(gate.url)
    async with one.session() as session:
        assert session.id is not None

        async def stream(number: int) -> str:
            begun = await session.stream(model="simulated", messages=ask(f"{number}"))
            text = await text_of(begun)
            assert begun.response["status"] == "completed"
            assert (begun.finish_reason, begun.model, begun.room) == ("stop", "simulated", None)
            assert begun.usage["completion_tokens"] > 0
            return text

        async def whole(number: int) -> str:
            answer = await session.chat(model="simulated", messages=ask(f"{number}"))
            return str(answer["choices"][0]["message"]["content"])

        streamed = await asyncio.gather(*(stream(number) for number in range(30)))
        assert len(set(streamed)) > 5
        assert await asyncio.gather(*(whole(number) for number in range(30))) == streamed
        answer = await one.chat(model="simulated", messages=ask("7"))
        assert answer["choices"][0]["message"]["content"] == streamed[7]


async def test_what_is_refused_has_its_code(gateway: StartGateway, client: MakeClient) -> None:
    """A model that is not there, a field that is wrong; what JSON cannot say is a TypeError. The session goes on."""
    gate = await gateway(FAST)
    async with client(gate.url).session() as session:
        with pytest.raises(Refused) as refused:
            await session.chat(model="nothing/of-the-kind", messages=ask())
        assert refused.value.code == "model_not_found"
        with pytest.raises(Refused) as refused:
            await session.stream(model="simulated", messages=ask(), temperature="warm")
        assert refused.value.code == "bad_request"
        with pytest.raises(Refused) as refused:
            await session.stream(model="simulated", messages=ask(), room="a room nobody joined")
        assert refused.value.code == "not_found"
        with pytest.raises(TypeError):
            await session.chat(model="simulated", messages=object())
        assert await text_of(await session.stream(model="simulated", messages=ask()))


async def test_chunks_hold_all_of_a_delta(gateway: StartGateway, provider: StartProvider, client: MakeClient) -> None:
    """Tool calls, other choices; the texts are those of the first choice."""
    call = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]}

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "a"}) + chunk(call) + chunk({"content": "other"}, index=1))
        await wire.chunk(chunk({"content": "b"}) + STOP + DONE)
        await wire.end_stream()

    gate = await gateway(UP.format((await provider(script)).url))
    one = client(gate.url)
    async with one.session() as session:
        chunks = [piece async for piece in (await session.stream(model=MODEL, messages=ask())).chunks()]
        assert Chunk("", 1, 0, call) in chunks
        assert Chunk("other", 2, 1, {"content": "other"}) in chunks
        assert await text_of(await session.stream(model=MODEL, messages=ask())) == "ab"
    over_http = [piece async for piece in one.stream(model=MODEL, messages=ask()).chunks()]
    assert [piece.delta for piece in over_http if piece.choice == 0 and "tool_calls" in piece.delta] == [call]
    assert "".join([text async for text in one.stream(model=MODEL, messages=ask())]) == "ab"


@pytest.fixture
async def told(gateway: StartGateway, provider: StartProvider) -> tuple[Gateway, Told]:
    source = Told()
    return await gateway(UP.format((await provider(source.script)).url)), source


async def test_a_paused_stream_says_nothing_until_it_is_resumed(told: tuple[Gateway, Told], client: MakeClient) -> None:
    """The gateway answers both, and nothing of the text is lost."""
    gate, source = told
    async with client(gate.url, timeout=0.3).session() as session:
        stream = await begin(session, source)
        texts = aiter(stream)
        source.say("a")
        assert await anext(texts) == "a"
        await stream.pause()
        assert stream.is_paused
        source.say("b")  # the gateway was waiting for it already, and keeps it
        with pytest.raises(TimedOut):
            await anext(texts)
        await stream.resume()
        assert not stream.is_paused
        source.say("c")
        source.end()
        assert await text_of(stream) == "bc"


async def test_a_cancelled_stream_just_ends(told: tuple[Gateway, Told], client: MakeClient) -> None:
    """What had come is read, the provider's call is over; once more, or after the end, it does nothing."""
    gate, source = told
    async with client(gate.url).session() as session:
        stream = await begin(session, source)
        source.say("a")
        await until(lambda: stream.waiting > 0)
        await stream.cancel()
        assert await text_of(stream) == "a"
        assert (stream.cancelled, stream.finish_reason) == (True, None)
        await stream.cancel()
        await stream.pause()
        await until(lambda: not works(gate))
        ended = await begin(session, source)
        source.end(stream=1)
        assert await text_of(ended) == ""
        await ended.cancel()
        assert not ended.cancelled


async def test_a_stream_that_fails_says_so_after_its_text(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """With the gateway's code; each who asks again hears it again."""

    async def breaks(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(chunk({"content": "half"}))
        wire.reset()

    gate = await gateway(UP.format((await provider(breaks)).url))
    async with client(gate.url).session() as session:
        stream = await session.stream(model=MODEL, messages=ask())
        texts = aiter(stream)
        assert await anext(texts) == "half"
        for _ in range(2):
            with pytest.raises(StreamFailed) as failed:
                await anext(texts)
            assert (failed.value.code, failed.value.type) == ("provider_error", "api_error")
        assert stream.error is not None
        assert stream.response is None


async def test_a_stream_that_nobody_reads_is_paused_and_bounded(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """Twenty megabytes come for a reader that is elsewhere: the gateway is asked to pause, others go on, and all of it
    is there, exactly, when it is read.
    """
    words = Words(size=20_000)
    gate = await gateway(UP.format((await provider(words.script)).url))
    async with client(gate.url, limits=Limits(buffered=100_000)).session() as session:
        slow = await session.stream(model=MODEL, messages=ask("1000"))
        await until(lambda: slow.is_paused)
        quick = await session.stream(model=MODEL, messages=ask("10"))
        assert await text_of(quick) == words.text(10)
        assert (await session.chat(model=MODEL, messages=ask())) == ANSWER
        assert await settled(lambda: slow.waiting, polls=20) < 2_000_000
        most, text = 0, []
        async for piece in slow:
            text.append(piece)
            most = max(most, slow.waiting)
        assert "".join(text) == words.text(1000)
        assert most < 2_000_000


async def test_a_pause_by_hand_outlives_a_full_buffer(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """Who paused a stream resumes it: reading what had come does not."""
    words = Words(size=20_000)
    gate = await gateway(UP.format((await provider(words.script)).url))
    async with client(gate.url, limits=Limits(buffered=100_000), timeout=0.5).session() as session:
        stream = await session.stream(model=MODEL, messages=ask("300"))
        await until(lambda: stream.is_paused)
        await stream.pause()
        text: list[str] = []
        with pytest.raises(TimedOut):
            await _read_into(text, stream)
        assert stream.is_paused
        await stream.resume()
        await _read_into(text, stream)
        assert "".join(text) == words.text(300)


async def _read_into(text: list[str], stream: Stream) -> None:
    async for piece in stream:
        text.append(piece)  # noqa: PERF401 - what came before a failure counts


async def test_a_gateway_that_does_not_pause_a_stream_is_given_up(speaker: StartSpeaker, client: MakeClient) -> None:
    """Memory is bounded all the same: the stream fails, is cancelled, and the others go on."""

    async def script(says: Speaker, number: int) -> None:
        await says.say("connected", 1, session_id="s")
        asked = await says.hear("chat:stream")
        await says.say("stream:started", 2, asked["ref"], stream_id="a", model="m")
        for index in range(30):
            await says.say("stream:chunk", 3 + index, stream_id="a", chunk="x" * 10_000, index=index)
        said = [(await says.hear("stream:control"))["payload"]["action"] for _ in range(2)]
        assert said == ["pause", "cancel"]
        asked = await says.hear("chat:message")
        await says.say("chat:response", 33, asked["ref"], fine=True)
        await says.silence()

    async with client(
        (await speaker(script)).url, limits=Limits(buffered=50_000, largest_read=100_000)
    ).session() as session:
        stream = await session.stream(model="m", messages=[])
        await stream.over.wait()
        with pytest.raises(Overrun):
            await text_of(stream)
        assert stream.waiting == 0
        assert await session.chat(model="m", messages=[]) == {"fine": True}


async def test_chunks_are_counted(speaker: StartSpeaker, client: MakeClient) -> None:
    """One that is missing is a failure of the stream, not a text with a hole."""

    async def script(says: Speaker, number: int) -> None:
        await says.say("connected", 1, session_id="s")
        asked = await says.hear("chat:stream")
        await says.say("stream:started", 2, asked["ref"], stream_id="a", model="m")
        await says.say("stream:chunk", 3, stream_id="a", chunk="one", index=0)
        await says.say("stream:chunk", 4, stream_id="a", chunk="three", index=2)
        await says.silence()

    async with client((await speaker(script)).url).session() as session:
        texts = aiter(await session.stream(model="m", messages=[]))
        assert await anext(texts) == "one"
        with pytest.raises(StreamFailed) as failed:
            await anext(texts)
        assert failed.value.code == "bad_index"


async def test_every_wait_has_a_deadline(told: tuple[Gateway, Told], proxy: StartProxy, client: MakeClient) -> None:
    """For an answer, for a piece of a stream, for the beginning of one; afterwards the session goes on."""
    gate, source = told
    between = await proxy(gate.port)
    source.release.clear()
    async with client(between.url, timeout=0.3).session() as session:
        with pytest.raises(TimedOut, match="chat:message"):
            await session.chat(model=MODEL, messages=ask())
        stream = await begin(session, source)
        with pytest.raises(TimedOut, match="nothing of the stream"):
            await anext(aiter(stream))
        source.say("a")
        source.end()
        assert await text_of(stream) == "a"
        between.flowing.clear()
        with pytest.raises(TimedOut, match="chat:stream"):
            await session.stream(model=MODEL, messages=ask("late"))
        between.flowing.set()  # it begins after all, for nobody
        await until(lambda: len(source.streams) == 2)
        source.release.set()
        await until(lambda: not works(gate))


async def test_a_stream_that_begins_for_nobody_is_cancelled(
    told: tuple[Gateway, Told], proxy: StartProxy, client: MakeClient
) -> None:
    """Who asked for it was cancelled meanwhile; the same for a room."""
    gate, _ = told
    between = await proxy(gate.port)
    async with client(between.url).session() as session:
        between.flowing.clear()
        asking = [
            asyncio.ensure_future(session.stream(model=MODEL, messages=ask())),
            asyncio.ensure_future(session.join("room")),
        ]
        await settled(lambda: 0, polls=5)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        between.flowing.set()
        await until(lambda: gate.app.live.sessions.tally.received >= 2)
        await until(lambda: not works(gate) and not len(gate.app.live.rooms))


async def test_leaving_the_with_block_of_a_stream_cancels_it(told: tuple[Gateway, Told], client: MakeClient) -> None:
    """Without waiting; without it, a stream that is left waits for the end of the session."""
    gate, source = told
    async with client(gate.url).session() as session:
        stays = await begin(session, source)
        async with await begin(session, source) as stream:
            source.say("a", "b", stream=1)
            async for _ in stream:
                break
        assert stream.cancelled
        await until(lambda: works(gate) == 1)
        assert await text_of(stream) in ("", "b")
        assert not stays.cancelled
    await until(lambda: not works(gate), seconds=1.0)


async def test_a_stream_is_read_by_one(told: tuple[Gateway, Told], client: MakeClient) -> None:
    """Two tasks would each have half of it."""
    gate, source = told
    async with client(gate.url).session() as session:
        stream = await begin(session, source)
        first = asyncio.ensure_future(text_of(stream))
        await settled(lambda: 0, polls=2)
        with pytest.raises(RuntimeError, match="one task"):
            await anext(aiter(stream))
        source.say("a")
        source.end()
        assert await first == "a"


async def test_a_closed_session_leaves_nothing(told: tuple[Gateway, Told], client: MakeClient) -> None:
    """Its streams end at the gateway, who waits learns it, no task or socket is left; and it may be closed twice."""
    gate, source = told
    source.release.clear()
    one = client(gate.url)
    session = one.session()
    await session.open()
    with pytest.raises(RuntimeError):
        await session.open()
    stream, other = await begin(session, source), await begin(session, source)
    room = await session.join("room")
    reading = asyncio.ensure_future(text_of(stream))
    asking = asyncio.ensure_future(session.chat(model=MODEL, messages=ask()))
    waiting = asyncio.ensure_future(anext(room))
    source.say("a", "b", stream=1)
    await until(lambda: works(gate) == 3 and other.waiting > 0)
    await session.close()
    await until(lambda: works(gate) <= 1, seconds=1.0)  # a whole answer cannot be called back
    assert not len(gate.app.live.rooms)
    for task in (reading, asking, waiting):
        with pytest.raises(ConnectionLost, match="closed"):
            await task
    with pytest.raises(ConnectionLost):
        await session.chat(model=MODEL, messages=ask())
    await other.pause()  # without effect: it is over
    await session.close()
    await until(lambda: gate.app.live.sessions.connections == 0, seconds=1.0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("a session")]
    source.release.set()


async def test_a_client_that_closes_closes_its_sessions(told: tuple[Gateway, Told], client: MakeClient) -> None:
    """In whatever order they are left; and nothing can be begun with it any more."""
    gate, source = told
    one = client(gate.url)
    sessions = [one.session() for _ in range(3)]
    for session in sessions:
        await session.open()
    stream = await begin(sessions[0], source)
    await one.close()
    await until(lambda: not works(gate) and gate.app.live.sessions.connections == 0, seconds=1.0)
    with pytest.raises(ConnectionLost):
        await text_of(stream)
    with pytest.raises(ConnectionLost, match="closed"):
        await one.session().open()
    with pytest.raises(ConnectionLost, match="closed"):
        await one.chat(model=MODEL, messages=ask())


async def test_a_burst_is_sent_no_faster_than_the_gateway_takes_it(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """More messages at once than a second may bring: none of them is refused."""
    gate = await gateway(UP.format((await provider(Words().script)).url) + "[websocket]\nmessages_per_second = 60\n")
    async with client(gate.url, limits=Limits(messages_per_second=50)).session() as session:
        answers = await asyncio.gather(*(session.chat(model=MODEL, messages=ask(str(one))) for one in range(100)))
    assert answers == [ANSWER] * 100


async def test_a_stream_that_ends_answers_what_is_asked_of_it(speaker: StartSpeaker, client: MakeClient) -> None:
    """A cancel that comes too late is not waited for: the stream is complete."""

    async def script(says: Speaker, number: int) -> None:
        await says.say("connected", 1, session_id="s")
        asked = await says.hear("chat:stream")
        await says.say("stream:started", 2, asked["ref"], stream_id="a", model="m")
        late = await says.hear("stream:control")
        await says.say("stream:complete", 3, stream_id="a", response={"finish_reason": "stop"})
        await says.say("error", 4, late["ref"], code="not_found", message="no such stream runs")
        await says.say("error", 5, code="bad_message", message="about nothing")
        await says.silence()

    async with client((await speaker(script)).url).session() as session:
        stream = await session.stream(model="m", messages=[])
        await stream.cancel()
        assert (stream.finish_reason, stream.cancelled) == ("stop", False)


async def test_who_leaves_in_the_moment_of_the_answer_leaves_no_stream(
    told: tuple[Gateway, Told], client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream has begun, and the task that asked for it is cancelled before it could have it."""
    gate, _ = told
    answer = Conversation._answer

    def answer_and_cancel(self: Conversation, ref: int | None, said: object) -> None:
        answer(self, ref, said)
        if isinstance(said, Stream):
            asking.cancel()

    monkeypatch.setattr(Conversation, "_answer", answer_and_cancel)
    async with client(gate.url).session() as session:
        asking = asyncio.ensure_future(session.stream(model=MODEL, messages=ask()))
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: gate.app.live.sessions.tally.received == 2 and not works(gate))


async def test_closing_has_a_deadline(
    told: tuple[Gateway, Told], proxy: StartProxy, client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that takes no notice is left without it; so is one that is not there, by who does not wait for it."""
    monkeypatch.setattr("runestone.client.session.GOODBYE", 0.1)
    gate, source = told
    between = await proxy(gate.port)
    session = client(between.url).session()
    await session.open()
    await begin(session, source)
    between.flowing.clear()
    async with asyncio.timeout(2.0):
        await session.close()
    opening = asyncio.ensure_future(client(between.url).session().open())
    await settled(lambda: 0, polls=2)
    opening.cancel()
    async with asyncio.timeout(2.0):
        await asyncio.gather(opening, return_exceptions=True)
    assert opening.cancelled()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("a session")]
