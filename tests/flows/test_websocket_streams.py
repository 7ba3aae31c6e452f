"""Streams over a WebSocket: many at once, each controlled by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.talk import ANSWER, Flood, Speaker, question, talking, text_of
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire

Standing = tuple[Gateway, FakeProvider, Speaker]


@pytest.fixture
async def standing(gateway: StartGateway, provider: StartProvider) -> Standing:
    speaker = Speaker()
    up = await provider(speaker.script)
    return await gateway(relay(up.url), ENVIRON), up, speaker


def is_now(timestamp: str) -> bool:
    """ISO 8601 in UTC, of the last minute."""
    assert timestamp.endswith("Z")
    return (
        timedelta(0)
        <= datetime.now(UTC) - datetime.fromisoformat(timestamp) + timedelta(seconds=1)
        < timedelta(minutes=1)
    )


async def test_a_stream_from_its_beginning_to_its_end(standing: Standing) -> None:
    """The events of docs/websocket.md, with the fields they have there and no others."""
    gate, up, speaker = standing
    async with talking(gate) as talk:
        (connected,) = talk.heard
        assert connected.keys() == {"event", "seq", "payload"}
        assert connected["payload"].keys() == {"session_id", "timestamp", "resumable_for"}
        assert connected["payload"]["resumable_for"] == 120
        assert is_now(connected["payload"]["timestamp"])
        await talk.say("chat:stream", question("hi"), "mine")
        started = await talk.next()
        assert (started["event"], started["seq"], started["ref"]) == ("stream:started", 2, "mine")
        assert started["payload"].keys() == {"stream_id", "model", "timestamp"}
        assert started["payload"]["model"] == "m"
        assert is_now(started["payload"]["timestamp"])
        stream_id = started["payload"]["stream_id"]
        speaker.say("hi", "hello")
        told = await talk.next()
        assert told == {
            "event": "stream:chunk",
            "seq": 3,
            "payload": {"stream_id": stream_id, "chunk": "hello", "index": 0},
        }
        speaker.end("hi")
        assert await talk.next() == {
            "event": "stream:complete",
            "seq": 4,
            "payload": {
                "stream_id": stream_id,
                "response": {
                    "status": "completed",
                    "finish_reason": "stop",
                    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
                    "provider": "up",
                    "model": "m",
                    "cache": "none",
                },
            },
        }
    sent = up.requests[0].json
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["messages"] == question("hi")["messages"]
    assert "room" not in sent


async def test_that_it_began_is_said_before_a_provider_has_answered(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """So a call to a slow provider can be cancelled: within a second the provider is rid of it."""

    async def silent(seen: Seen, wire: Wire) -> None:
        await wire.left(30)
        wire.close()

    up = await provider(silent)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start()
        await until(lambda: len(up.requests) == 1)
        cancelled = await talk.control("cancel", stream_id)
        assert cancelled["event"] == "stream:cancelled"
        assert cancelled["payload"]["stream_id"] == stream_id
        await until(lambda: up.open == 0, seconds=1.0)


async def test_a_hundred_streams_share_a_connection(standing: Standing) -> None:
    """Each has its own text, whatever order they speak in, its own end, and nothing of another's."""
    gate, _, speaker = standing
    names = [f"question {number}" for number in range(100)]
    async with talking(gate) as talk:
        ids = {name: await talk.start(name) for name in names}
        assert len(set(ids.values())) == 100
        for turn in range(5):
            for name in names if turn % 2 else reversed(names):
                speaker.say(name, f"{name}, turn {turn}. ")
        for name in reversed(names):
            speaker.end(name)
        ends = 0
        while ends < 100:
            ends += (await talk.next())["event"] == "stream:complete"
        for name in names:
            assert text_of(talk.heard, ids[name]) == "".join(f"{name}, turn {turn}. " for turn in range(5))
    per_stream = Counter(told["payload"]["stream_id"] for told in talk.heard if told["event"] == "stream:complete")
    assert set(per_stream.values()) == {1}


async def test_answers_and_streams_go_beside_each_other(standing: Standing) -> None:
    """A chat:message is answered whole while streams run, with the provider's own bytes."""
    gate, up, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("long")
        speaker.say("whole", "now")
        told = await talk.ask("chat:message", question("whole", stream=True, stream_options={"include_usage": True}))
        assert (told["event"], told["payload"]) == ("chat:response", ANSWER)
        assert up.requests[-1].json.get("stream") in (None, False)
        assert "stream_options" not in up.requests[-1].json
        speaker.say("long", "still here")
        assert (await talk.wait("stream:chunk"))["payload"]["stream_id"] == stream_id


async def test_pause_and_resume(standing: Standing) -> None:
    """Paused, nothing is told of it while another stream goes on, also not what was being read; resumed, it goes on
    where it was.
    """
    gate, _, speaker = standing
    async with talking(gate) as talk:
        one, other = await talk.start("one"), await talk.start("other")
        speaker.say("one", "a")
        await talk.wait("stream:chunk", stream_id=one)
        paused = await talk.control("pause", one)
        assert paused["event"] == "stream:paused"
        assert paused["payload"].keys() == {"stream_id", "timestamp"}
        before = len(talk.heard)
        for word in "bcd":
            speaker.say("one", word)
            await talk.ask("ping")
        for number in range(5):
            speaker.say("other", str(number))
            await talk.wait("stream:chunk", stream_id=other)
        assert [told for told in talk.heard[before:] if told["payload"].get("stream_id") == one] == []
        resumed = await talk.control("resume", one)
        assert resumed["event"] == "stream:resumed"
        speaker.end("one")
        await talk.wait("stream:complete", stream_id=one)
        assert text_of(talk.heard, one) == "abcd"


async def test_pausing_twice_and_resuming_what_runs_change_nothing(standing: Standing) -> None:
    """Each is answered, and the text is whole."""
    gate, _, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        events = [(await talk.control(action, stream_id))["event"] for action in ("resume", "pause", "pause", "resume")]
        assert events == ["stream:resumed", "stream:paused", "stream:paused", "stream:resumed"]
        speaker.say("one", "a")
        speaker.end("one")
        await talk.wait("stream:complete")
        assert text_of(talk.heard, stream_id) == "a"


@pytest.mark.parametrize("is_paused", [False, True])
async def test_cancel_ends_the_provider_call_within_a_second(is_paused: bool, standing: Standing) -> None:
    """Streaming or paused; one last word is said of it, then it is unknown; the others go on."""
    gate, up, speaker = standing
    async with talking(gate) as talk:
        one, other = await talk.start("one"), await talk.start("other")
        speaker.say("one", "a")
        await talk.wait("stream:chunk", stream_id=one)
        if is_paused:
            await talk.control("pause", one)
        told = await talk.control("cancel", one)
        assert told["event"] == "stream:cancelled"
        assert told["payload"].keys() == {"stream_id", "timestamp"}
        await until(lambda: speaker.gone == {"one"} and up.open == 1, seconds=1.0)
        refused = {"action": "cancel", "stream_id": one}
        assert await talk.refused("stream:control", refused) == "not_found"
        speaker.say("other", "b")
        speaker.end("other")
        await talk.wait("stream:complete", stream_id=other)
        assert [told["event"] for told in talk.heard if told["payload"].get("stream_id") == one][
            -1
        ] == "stream:cancelled"


async def test_a_chunk_is_what_one_read_brought(gateway: StartGateway, provider: StartProvider) -> None:
    """Fifty tokens in one write of the provider are one message; tokens in a write each come as they come."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + b"".join(chunk({"content": f"{number} "}) for number in range(50)))
        await until(lambda: len(talk.heard) > 2)
        await wire.chunk(chunk({"content": "51"}))
        await until(lambda: len(talk.heard) > 3)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        await talk.start()
        await talk.wait("stream:complete")
        chunks = [told["payload"]["chunk"] for told in talk.heard if told["event"] == "stream:chunk"]
        assert chunks == ["".join(f"{number} " for number in range(50)), "51"]


async def test_more_than_text_comes_through(gateway: StartGateway, provider: StartProvider) -> None:
    """Tool calls, reasoning, a second choice and log probabilities, beside the text and in order."""
    call = {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        events = (
            chunk({"content": "a"})
            + chunk({"reasoning_content": "hm"})
            + chunk(call)
            + chunk({"content": "z"}, index=1)
        )
        await wire.chunk(ROLE + events + chunk({"content": "b"}) + chunk({}, "tool_calls") + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start(n=2, tools=[{"type": "function", "function": {"name": "f"}}])
        done = await talk.wait("stream:complete")
    chunks = [told["payload"] for told in talk.heard if told["event"] == "stream:chunk"]
    assert [{name: value for name, value in told.items() if name != "stream_id"} for told in chunks] == [
        {"chunk": "a", "index": 0},
        {"chunk": "", "index": 1, "delta": {"reasoning_content": "hm"}},
        {"chunk": "", "index": 2, "delta": call},
        {"chunk": "z", "index": 3, "choice": 1},
        {"chunk": "b", "index": 4},
    ]
    assert done["payload"]["response"]["finish_reason"] == "tool_calls"
    assert {told["stream_id"] for told in chunks} == {stream_id}


async def test_an_anthropic_model_streams_like_any_other(gateway: StartGateway, provider: StartProvider) -> None:
    """The chunks, the reason and the usage are OpenAI's, whoever the provider is."""

    def event(name: str, **fields: object) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        begun = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None}
        await wire.chunk(event("message_start", message={**begun, "usage": {"input_tokens": 3, "output_tokens": 1}}))
        await wire.chunk(event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        for word in ("he", "llo"):
            await wire.chunk(event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}))
        await wire.chunk(event("content_block_stop", index=0))
        await wire.chunk(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}))
        await wire.chunk(event("message_stop"))
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url, dialect="anthropic"), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start(max_tokens=9)
        response = (await talk.wait("stream:complete"))["payload"]["response"]
        assert text_of(talk.heard, stream_id) == "hello"
    assert response["finish_reason"] == "stop"
    assert response["usage"]["prompt_tokens"] == 3
    assert response["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("end", ["fin", "reset", "error event", "garbage"])
async def test_a_stream_that_was_cut_says_so(end: str, gateway: StartGateway, provider: StartProvider) -> None:
    """The text that came, then stream:error as the last word: no complete, and the connection lives on."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "hel"}))
        if end == "error event":
            await wire.chunk(b'data: {"error":{"message":"overloaded","type":"server_error","code":"overloaded"}}\n\n')
            await wire.end_stream()
        elif end == "garbage":
            await wire.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"lo"}\n\n' + STOP + DONE)
            await wire.end_stream()
        elif end == "fin":
            wire.close()
        else:
            await until(lambda: len(talk.heard) > 2)
            wire.reset()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start()
        while (told := await talk.next())["event"] == "stream:chunk":
            pass
        assert told["event"] == "stream:error"
        assert told["payload"].keys() == {"stream_id", "error"}
        assert told["payload"]["error"]["type"] == "api_error"
        assert told["payload"]["error"]["code"] == "provider_error"
        assert told["payload"]["error"]["message"]
        assert text_of(talk.heard, stream_id) == "hel"
        assert talk.heard[-1]["payload"]["stream_id"] == stream_id
        assert (await talk.ask("ping"))["event"] == "pong"
    assert not [told for told in talk.heard if told["event"] == "stream:complete"]


async def test_a_paused_stream_stops_the_provider(gateway: StartGateway, provider: StartProvider) -> None:
    """Paused in the middle of 24 MB, the provider gets rid of no more than sockets hold, and the gateway holds almost
    nothing; resumed, every byte comes.
    """
    flood = Flood(24_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        stream_id = await talk.start()
        await talk.wait("stream:chunk")
        await talk.control("pause", stream_id)
        stopped = await settled(lambda: flood.sent)
        assert stopped < 16_000_000
        (session,) = gate.app.live.sessions
        kept = session.outbox._bytes
        for _ in range(20):
            await talk.ask("ping")
        assert flood.sent == stopped
        assert session.outbox._bytes < kept + 20 * 200
        assert session.outbox._bytes < 2_000_000
        await talk.control("resume", stream_id)
        await talk.wait("stream:complete")
        assert text_of(talk.heard, stream_id) == flood.text


async def test_a_stream_that_was_left_paused_ends_with_its_call(gateway: StartGateway, provider: StartProvider) -> None:
    """The time of a call is the time of a call: paused past it, the provider is let go of and the client hears why."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate, headers={"x-runestone-timeout": "300ms"}) as talk:
        stream_id = await talk.start("one")
        await until(lambda: speaker.asked == ["one"])
        await talk.control("pause", stream_id)
        speaker.say("one", "a")
        told = await talk.wait("stream:error")
        assert told["payload"]["error"]["code"] == "timeout"
        await until(lambda: up.open == 0, seconds=1.0)


async def test_a_client_that_leaves_for_good_ends_its_streams(gateway: StartGateway, provider: StartProvider) -> None:
    """Past `resumable_for` the provider calls end, as over HTTP; nothing of the session is left, not a byte."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra='[websocket]\nresumable_for = "100ms"\n'), ENVIRON)
    async with talking(gate) as talk:
        for number in range(5):
            await talk.start(f"{number}")
        await talk.say("chat:message", question("whole"))
        await until(lambda: len(up.requests) == 6)
    await until(lambda: up.open == 0, seconds=2.0)
    sessions = gate.app.live.sessions
    await until(lambda: sessions.away == 0 and sessions.connections == 0 and not gate.app.running._tasks)
    await asyncio.sleep(0)
    assert sessions._ledger.bytes == 0
    assert gate.app.running.streams == 0


async def test_without_resuming_a_lost_client_ends_its_streams_at_once(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """`resumable_for = "0s"`: within a second; and no session waits."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra='[websocket]\nresumable_for = "0s"\n'), ENVIRON)
    async with talking(gate) as talk:
        assert talk.heard[0]["payload"]["resumable_for"] == 0
        await talk.start("one")
        await until(lambda: len(up.requests) == 1)
        talk.lose()
        await until(lambda: up.open == 0, seconds=1.0)
    async with talking(gate) as again:
        assert (await again.resume(talk.session, talk.seq))["event"] == "session:lost"
