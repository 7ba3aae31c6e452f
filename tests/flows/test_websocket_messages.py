"""What a client may not say over a WebSocket: a clear error, and the conversation goes on."""

from __future__ import annotations

import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.talk import Raw, Speaker, masked, message, question, talking
from tests.flows.test_failing_providers import failing
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire

Standing = tuple[Gateway, FakeProvider, Speaker]


@pytest.fixture
async def standing(gateway: StartGateway, provider: StartProvider) -> Standing:
    speaker = Speaker()
    up = await provider(speaker.script)
    return await gateway(relay(up.url), ENVIRON), up, speaker


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{",
        "[]",
        "null",
        '{"event":7}',
        '{"event":"ping","event":"ping"}',
        '{"event":"chat:stream","payload":[]}',
        '{"event":"chat:stream","payload":{"model":"m","model":"n"}}',
        '{"event":"ping","ref":{}}',
        '{"event":"ping","ref":true}',
        "\x00",
        "\ufeff" + '{"event":"ping"}',
    ],
)
async def test_a_text_that_is_no_message_is_told_so(text: str, standing: Standing) -> None:
    """`bad_message` with a reason and no ref; a stream that runs is not touched, the connection lives on."""
    gate, up, speaker = standing
    async with talking(gate) as talk:
        stream_id = await talk.start("one")
        await talk.ws.send_str(text)
        told = await talk.next()
        assert told["event"] == "error"
        assert "ref" not in told
        assert told["payload"].keys() == {"code", "message", "ref"}
        assert (told["payload"]["code"], told["payload"]["ref"]) == ("bad_message", None)
        assert told["payload"]["message"]
        speaker.say("one", "a")
        assert (await talk.wait("stream:chunk"))["payload"]["stream_id"] == stream_id
        assert (await talk.ask("ping"))["event"] == "pong"
    assert len(up.requests) == 1


async def test_a_binary_frame_is_told_so(standing: Standing) -> None:
    """`bad_message`, also where it holds a good message."""
    gate, up, _ = standing
    async with talking(gate) as talk:
        for data in (b"", b"\xff\xfe", message("chat:stream", question()).encode()):
            await talk.ws.send_bytes(data)
            told = await talk.next()
            assert (told["event"], told["payload"]["code"]) == ("error", "bad_message")
            assert "binary" in told["payload"]["message"]
        assert (await talk.ask("ping"))["event"] == "pong"
    assert not up.requests


@pytest.mark.parametrize("event", ["", "nothing", "CHAT:STREAM", "stream:chunk", "connected", "phx_join", "__init__"])
async def test_an_unknown_event_is_told_so(event: str, standing: Standing) -> None:
    """`unknown_event`, with what there is."""
    gate, _, _ = standing
    async with talking(gate) as talk:
        assert await talk.refused(event, {}) == "unknown_event"
        assert "chat:stream" in talk.heard[-1]["payload"]["message"]
        assert (await talk.ask("ping"))["event"] == "pong"


@pytest.mark.parametrize(
    ("event", "payload", "code"),
    [
        ("stream:control", None, "bad_message"),
        ("stream:control", {"stream_id": "stream_x"}, "bad_message"),
        ("stream:control", {"action": "cancel"}, "bad_message"),
        ("stream:control", {"action": "explode", "stream_id": "stream_x"}, "bad_message"),
        ("stream:control", {"action": ["cancel"], "stream_id": "stream_x"}, "bad_message"),
        ("stream:control", {"action": "cancel", "stream_id": 7}, "bad_message"),
        ("stream:control", {"action": "cancel", "stream_id": ""}, "bad_message"),
        ("stream:control", {"action": "cancel", "stream_id": "x" * 10_000}, "bad_message"),
        ("stream:control", {"action": "cancel", "stream_id": "stream_x"}, "not_found"),
        ("stream:control", {"action": "pause", "stream_id": "stream_x"}, "not_found"),
        ("stream:control", {"action": "resume", "stream_id": "answer req_x"}, "not_found"),
        ("room:join", {}, "bad_message"),
        ("room:join", {"room": ""}, "bad_message"),
        ("room:join", {"room": "x" * 201}, "bad_message"),
        ("room:join", {"room": 7}, "bad_message"),
        ("room:leave", {"room": "nowhere"}, "not_found"),
        ("chat:stream", question(room="nowhere"), "not_found"),
        ("chat:stream", question(room=7), "bad_message"),
        ("chat:stream", question(room=""), "bad_message"),
        ("chat:stream", question(room=None), "bad_message"),
        ("session:resume", {}, "bad_message"),
        ("session:resume", {"session_id": "session_x"}, "bad_message"),
        ("session:resume", {"session_id": "session_x", "last_seq": "1"}, "bad_message"),
        ("session:resume", {"session_id": "session_x", "last_seq": -1}, "bad_message"),
        ("session:resume", {"session_id": "session_x", "last_seq": 1.5}, "bad_message"),
        ("session:resume", {"session_id": "session_x", "last_seq": True}, "bad_message"),
        ("session:resume", {"session_id": ["session_x"], "last_seq": 1}, "bad_message"),
        ("chat:stream", {}, "bad_request"),
        ("chat:stream", {"model": "m"}, "bad_request"),
        ("chat:stream", {"messages": []}, "bad_request"),
        ("chat:stream", {"model": 7, "messages": []}, "bad_request"),
        ("chat:stream", {"model": "m", "messages": "hi"}, "bad_request"),
        ("chat:message", {}, "bad_request"),
        ("chat:message", {"model": "m", "messages": 7}, "bad_request"),
    ],
)
async def test_what_cannot_be_obeyed_is_answered(event: str, payload: object, code: str, standing: Standing) -> None:
    """Every wrong field has its code, the ref comes back, nobody is asked, and the connection lives on."""
    gate, up, _ = standing
    async with talking(gate) as talk:
        assert await talk.refused(event, payload) == code
        assert (await talk.ask("ping"))["event"] == "pong"
        assert len(talk.heard) == 3, "one answer to one message"
    assert not up.requests


@pytest.mark.parametrize("ref", ["r", 7, 0, "", -1.5, "x" * 200, "\u00e9\U0001f9ff"])
async def test_a_ref_comes_back_as_it_was(ref: object, standing: Standing) -> None:
    """Whatever was asked: strings and numbers, the empty and zero too."""
    gate, _, speaker = standing
    async with talking(gate) as talk:
        for event, payload in (
            ("ping", None),
            ("nothing", None),
            ("chat:stream", question("one")),
            ("chat:stream", {}),
            ("room:join", {"room": "r"}),
            ("room:leave", {"room": "r"}),
        ):
            await talk.say(event, payload, ref)
            told = await talk.next()
            assert told["ref"] == ref
            assert type(told["ref"]) is type(ref)
            assert told["event"] != "error" or told["payload"]["ref"] == ref
        speaker.say("whole", "now")
        await talk.say("chat:message", question("whole"), ref)
        assert (await talk.wait("chat:response"))["ref"] == ref


async def test_a_refused_call_has_the_codes_of_http(gateway: StartGateway, provider: StartProvider) -> None:
    """An unknown model, a model the key may not use, a provider that fails, one that refuses: as over HTTP."""

    async def refuses(seen: Seen, wire: Wire) -> None:
        error = {"message": "no such voice", "type": "invalid_request_error", "code": "bad_voice", "param": "voice"}
        await wire.answer({"error": error}, status=400)

    up = await provider(failing(500))
    key = '[[auth.keys]]\nname = "k"\nkey = "env:K"\nmodels = ["m", "nobody"]\n'
    gate = await gateway(relay(up.url, extra=key), {**ENVIRON, "K": "key-k"})

    async def failed(event: str, payload: dict[str, object]) -> object:
        told = await talk.ask(event, payload)
        if told["event"] == "stream:started":
            told = await talk.wait("stream:error")
            return told["payload"]["error"]
        assert told["event"] == "error"
        return told["payload"]["code"]

    async with talking(gate, headers={"x-api-key": "key-k"}) as talk:
        for model, code in (
            ("up/secret", "insufficient_permissions"),
            ("nobody", "model_not_found"),
            ("m", "provider_error"),
        ):
            assert await failed("chat:message", question(model=model)) == code
            told = await failed("chat:stream", question(model=model))
            assert isinstance(told, dict)
            assert told["code"] == code
        up.script = refuses
        assert await failed("chat:message", question()) == "bad_voice"
        assert await failed("chat:stream", question()) == {
            "message": "no such voice",
            "type": "invalid_request_error",
            "code": "bad_voice",
            "param": "voice",
        }


async def test_an_answer_that_is_none_breaks_no_frame(gateway: StartGateway, provider: StartProvider) -> None:
    """A provider whose JSON is not UTF-8, or no JSON: an error, not a text frame that ends the connection; white space
    in an answer changes nothing of it.
    """

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer(bodies.pop())

    spaced = b'{\n  "choices": [ ],\r\n  "a": "\\u2028"\n}\n'
    bad = [b'{"choices":[{"message":{"content":"\xff"}}]}', b"<html>", b"", b'{"choices":[]}{"a":1}']
    bodies = [spaced, *bad]
    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        for _ in bad:
            assert await talk.refused("chat:message", question()) == "provider_error"
        assert (await talk.ask("chat:message", question()))["payload"] == orjson.loads(spaced)


async def test_a_message_of_the_largest_size_is_taken(gateway: StartGateway, provider: StartProvider) -> None:
    """`max_message` bytes are allowed, whole or in fragments; one more is a 1009."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra='[websocket]\nmax_message = "4096B"\n'), ENVIRON)

    def sized(size: int) -> bytes:
        bare = message("ping", {"pad": ""}, "r")
        return message("ping", {"pad": "x" * (size - len(bare))}, "r").encode()

    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        assert len(sized(4096)) == 4096
        await raw.write(masked(sized(4096)))
        assert (await raw.next())["event"] == "pong"
        text = sized(4096)
        await raw.write(masked(text[:1000], final=False) + masked(text[1000:], 0))
        assert (await raw.next())["event"] == "pong"
        await raw.write(masked(sized(4097)))
        assert await raw.closed() == 1009


@pytest.mark.parametrize("how", ["one frame", "fragments"])
async def test_a_message_that_is_too_large_closes_with_1009(
    how: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """Also for a client that sends all of it before it reads: the code reaches it, and the memory is not filled."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra='[websocket]\nmax_message = "64KB"\n'), ENVIRON)
    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        if how == "one frame":
            await raw.write(masked(b"x" * 1_000_000))
        else:
            await raw.write(
                masked(b"x" * 10_000, final=False) + b"".join(masked(b"x" * 10_000, 0, final=False) for _ in range(20))
            )
        assert await raw.closed() == 1009
    await until(lambda: gate.app.live.sessions.connections == 0)


async def test_a_text_that_is_no_utf8_ends_the_connection(standing: Standing) -> None:
    """As WebSockets do: 1007; and a frame against the protocol is a 1002."""
    gate, _, _ = standing
    for data, code in ((masked(b"\xff"), 1007), (b"\x83\x80abcd", 1002), (masked(b"x", 0), 1002)):
        async with Raw.connected(gate) as raw:
            await raw.wait("connected")
            await raw.write(data)
            assert await raw.closed() == code


@pytest.mark.parametrize("end", [b"\x83\x80abcd", masked(b"\x03\xe8", 8)], ids=["a broken frame", "a close"])
async def test_what_was_said_before_the_end_is_answered_before_it(end: bytes, standing: Standing) -> None:
    """Messages and the end of the connection in one segment: first the answers, then the close frame."""
    gate, _, _ = standing
    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        await raw.write(masked(message("ping", ref=1).encode()) + masked(message("ping", ref=2).encode()) + end)
        assert [(await raw.next())["ref"] for _ in range(2)] == [1, 2]
        assert (await raw.frame())[0] == 8


async def test_more_messages_than_allowed_are_refused(gateway: StartGateway, provider: StartProvider) -> None:
    """`messages_per_second`: the excess is told `rate_limited`, what was within it is done, and the connection lives
    on; another connection has its own.
    """
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[websocket]\nmessages_per_second = 20\n"), ENVIRON)
    async with talking(gate) as talk, talking(gate) as other:
        for number in range(60):
            await talk.say("ping", ref=number)
        told = [await talk.next() for _ in range(60)]
        assert [one["ref"] for one in told] == list(range(60)), "each has its answer, in order"
        done = [one for one in told if one["event"] == "pong"]
        assert 20 <= len(done) <= 30
        refused = {one["payload"]["code"] for one in told if one["event"] == "error"}
        assert refused == {"rate_limited"}
        assert all("20" in one["payload"]["message"] for one in told if one["event"] == "error")
        assert (await other.ask("ping"))["event"] == "pong"


@pytest.mark.parametrize("how", ["too many", "binary", "garbage"])
async def test_a_client_that_does_not_stop_is_sent_away(
    how: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """Thousands of messages that cannot be taken: the connection is closed with 1008, and the code reaches a client
    that reads only afterwards.
    """
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[websocket]\nmessages_per_second = 5\n"), ENVIRON)
    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        data = {"too many": masked(b'{"event":"ping"}'), "binary": masked(b"x", 2), "garbage": masked(b"x")}[how]
        await raw.write(data * 1000)
        assert await raw.closed() == 1008
    await until(lambda: gate.app.live.sessions.connections == 0)


async def test_no_limit_is_no_limit(gateway: StartGateway, provider: StartProvider) -> None:
    """`messages_per_second = 0`: all are answered."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[websocket]\nmessages_per_second = 0\n"), ENVIRON)
    async with talking(gate) as talk:
        for number in range(1000):
            await talk.say("ping", ref=number)
        assert {(await talk.next())["event"] for _ in range(1000)} == {"pong"}


async def test_more_streams_than_allowed_are_refused(gateway: StartGateway, provider: StartProvider) -> None:
    """`max_streams` counts streams and answers under way, and is free again when one ends, however it ends."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[websocket]\nmax_streams = 3\n"), ENVIRON)
    async with talking(gate) as talk:
        one, two = await talk.start("one"), await talk.start("two")
        await talk.say("chat:message", question("whole"))
        await until(lambda: len(up.requests) == 3)
        for event in ("chat:stream", "chat:message"):
            assert await talk.refused(event, question("more")) == "too_many_streams"
        speaker.say("whole", "now")
        await talk.wait("chat:response")
        three = await talk.start("three")
        assert await talk.refused("chat:stream", question("more")) == "too_many_streams"
        await talk.control("cancel", one)
        four = await talk.start("four")
        speaker.end("two")
        await talk.wait("stream:complete", stream_id=two)
        await talk.start("five")
        assert await talk.refused("chat:stream", question("more")) == "too_many_streams"
        assert three != four
    assert "more" not in speaker.asked


async def test_messages_are_counted(standing: Standing) -> None:
    """/metrics: connections, messages in and out, streams."""
    from tests.flows.drill import client, scrape  # noqa: PLC0415

    gate, _, speaker = standing
    async with client() as http:
        async with talking(gate) as talk:
            await talk.start("one")
            await talk.ask("ping")
            await until(lambda: speaker.asked == ["one"])
            metrics = await scrape(http, gate)
            assert metrics.total("websocket_connections") == 1
            assert metrics.total("streams_active") == 1
            assert metrics.by("websocket_messages_total", "direction") == {("in",): 2, ("out",): 3}
        await until(lambda: gate.app.live.sessions.connections == 0)
        assert (await scrape(http, gate)).total("websocket_connections") == 0
