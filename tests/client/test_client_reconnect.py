"""Sessions of the client that lose their connection: nothing is lost, nothing comes twice, and what ends says why."""

from __future__ import annotations

import asyncio
import random

import pytest

from runestone.client import (
    ClientError,
    ConnectionLost,
    Limits,
    QueueFull,
    Reconnect,
    Refused,
    SessionLost,
    State,
    TooLarge,
)
from tests.client.conftest import SOON, MakeClient, StartProxy, StartSpeaker
from tests.client.proxy import Proxy
from tests.client.speaker import Speaker
from tests.client.talking import ANSWER, MODEL, UP, Told, Words, ask, works
from tests.client.test_client_session import begin, text_of
from tests.conftest import StartGateway, StartProvider, settled, until
from tests.gateway import Gateway
from tests.provider import FakeProvider, Seen, Wire


class Standing:
    """A provider that says what it is told, a gateway, and a proxy in front of it."""

    source: Told
    up: FakeProvider
    gate: Gateway
    between: Proxy


@pytest.fixture
async def stood(gateway: StartGateway, provider: StartProvider, proxy: StartProxy) -> Standing:
    standing = Standing()
    standing.source = Told()
    standing.up = await provider(standing.source.script)
    standing.gate = await gateway(UP.format(standing.up.url))
    standing.between = await proxy(standing.gate.port)
    return standing


@pytest.mark.parametrize("gently", [False, True], ids=["reset", "closed"])
async def test_a_stream_survives_its_connection(gently: bool, stood: Standing, client: MakeClient) -> None:
    """It is the same session and the same object; an application that wants to know is told."""
    states: list[State] = []
    async with client(stood.between.url).session(on_state=states.append) as session:
        identity = session.id
        stream = await begin(session, stood.source)
        texts = aiter(stream)
        stood.source.say("a")
        assert await anext(texts) == "a"
        stood.between.refusing = True
        stood.between.cut(gently=gently)
        await until(lambda: session.state is State.DISCONNECTED)
        stood.source.say("b")
        stood.between.refusing = False
        await until(lambda: session.state is State.RESUMED)
        stood.source.say("c")
        stood.source.end()
        assert await text_of(stream) == "bc"
        assert (session.id, stream.finish_reason, len(stood.up.requests)) == (identity, "stop", 1)
    await until(lambda: len(states) == 4)
    assert states == [State.CONNECTED, State.DISCONNECTED, State.RESUMED, State.CLOSED]
    assert session.error is None


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_cut_anywhere_is_exact(
    seed: int, gateway: StartGateway, provider: StartProvider, proxy: StartProxy, client: MakeClient
) -> None:
    """Dozens of connections, each lost after some hundred bytes, in the middle of a frame or a handshake: three streams
    and ten answers are whole, and the provider was asked once for each.
    """
    words, dice = Words(), random.Random(seed)
    up = await provider(words.script)
    gate = await gateway(UP.format(up.url))
    between = await proxy(gate.port)
    between.allow = lambda: dice.randrange(100, 4000)
    async with client(between.url).session() as session:
        streams = [await session.stream(model=MODEL, messages=ask(str(count))) for count in (100, 200, 300)]
        texts = asyncio.gather(*(text_of(stream) for stream in streams))
        answers = await asyncio.gather(*(session.chat(model=MODEL, messages=ask(str(one))) for one in range(10)))
        assert await texts == [words.text(100), words.text(200), words.text(300)]
        assert answers == [ANSWER] * 10
        between.allow = lambda: None
    assert len(up.requests) == 13
    assert between.opened > 10


async def test_what_is_sent_while_there_is_no_connection_goes_out_later(stood: Standing, client: MakeClient) -> None:
    """Streams, answers, control: in order, once."""
    async with client(stood.between.url).session() as session:
        stream = await begin(session, stood.source)
        stood.between.refusing = True
        stood.between.cut()
        await until(lambda: session.state is State.DISCONNECTED)
        answer = asyncio.ensure_future(session.chat(model=MODEL, messages=ask("while away")))
        begun = asyncio.ensure_future(session.stream(model=MODEL, messages=ask("begun while away")))
        cancelled = asyncio.ensure_future(stream.cancel())
        await settled(lambda: len(stood.up.requests), polls=10)
        assert len(stood.up.requests) == 1
        stood.between.refusing = False
        assert await answer == ANSWER
        await cancelled
        assert stream.cancelled
        await begun
        assert sorted(seen.json["messages"][0]["content"] for seen in stood.up.requests[1:]) == [
            "begun while away",
            "while away",
        ]


async def test_what_never_arrived_is_sent_again(stood: Standing, client: MakeClient) -> None:
    """A message that went into a dead connection; one that arrived, but whose answer did not come, is not."""
    async with client(stood.between.url).session() as session:
        stood.source.release.clear()
        arrived = asyncio.ensure_future(session.chat(model=MODEL, messages=ask("arrived")))
        await until(lambda: len(stood.up.requests) == 1)
        stood.between.sunk = True
        swallowed = asyncio.ensure_future(session.chat(model=MODEL, messages=ask("swallowed")))
        await settled(lambda: len(stood.up.requests), polls=10)
        stood.between.sunk = False
        stood.between.cut()
        await until(lambda: len(stood.up.requests) == 2)
        stood.source.release.set()
        assert await arrived == await swallowed == ANSWER
        assert [seen.json["messages"][0]["content"] for seen in stood.up.requests] == ["arrived", "swallowed"]


@pytest.mark.parametrize("bound", [{"queued_messages": 3}, {"queued_bytes": 400}], ids=["messages", "bytes"])
async def test_the_queue_is_bounded(bound: dict[str, int], stood: Standing, client: MakeClient) -> None:
    """One message more is a clear error at once; those before it go out, and then there is room again."""
    async with client(stood.between.url, limits=Limits(**bound)).session() as session:
        stood.between.refusing = True
        stood.between.cut()
        await until(lambda: session.state is State.DISCONNECTED)
        asking = [asyncio.ensure_future(session.chat(model=MODEL, messages=ask(str(one)))) for one in range(3)]
        await settled(lambda: 0, polls=2)
        with pytest.raises(QueueFull, match="3 messages"):
            await session.chat(model=MODEL, messages=ask("one more"))
        stood.between.refusing = False
        assert await asyncio.gather(*asking) == [ANSWER] * 3
        assert await session.chat(model=MODEL, messages=ask("then")) == ANSWER
        assert len(stood.up.requests) == 4


async def test_many_answers_under_way_do_not_fill_the_queue(stood: Standing, client: MakeClient) -> None:
    """The gateway is asked what has arrived, so what only waits for an answer takes no room."""
    stood.source.release.clear()
    async with client(stood.between.url, limits=Limits(queued_messages=10)).session() as session:
        asking = []
        for number in range(30):
            asking.append(asyncio.ensure_future(session.chat(model=MODEL, messages=ask(str(number)))))
            await until(lambda: len(stood.up.requests) == len(asking))
        stood.between.cut()
        stood.source.release.set()
        assert await asyncio.gather(*asking) == [ANSWER] * 30
        assert len(stood.up.requests) == 30


async def test_a_lost_session_fails_what_was_waiting_and_goes_on(
    stood: Standing, gateway: StartGateway, client: MakeClient
) -> None:
    """Another process answers. Streams, rooms, answers that were under way fail with SessionLost, after what had come;
    what was never sent goes out in the new session.
    """
    other = await gateway(UP.format(stood.up.url))
    states: list[State] = []
    stood.source.release.clear()
    async with client(stood.between.url).session(on_state=states.append) as session:
        identity = session.id
        room = await session.join("room")
        stream = await begin(session, stood.source)
        stood.source.say("a")
        await until(lambda: stream.waiting > 0)
        under_way = asyncio.ensure_future(session.chat(model=MODEL, messages=ask("under way")))
        await until(lambda: len(stood.up.requests) == 2)
        stood.between.refusing = True
        stood.between.cut()
        await until(lambda: session.state is State.DISCONNECTED)
        waiting = [
            asyncio.ensure_future(session.chat(model=MODEL, messages=ask("waiting"))),
            asyncio.ensure_future(session.join("another room")),
        ]
        leaving = asyncio.ensure_future(room.leave())
        stood.between.port, stood.between.refusing = other.port, False
        stood.source.release.set()
        for lost in (under_way, leaving):
            with pytest.raises(SessionLost, match=r"^the session was lost: there is no such session"):
                await lost
        texts = aiter(stream)
        assert await anext(texts) == "a"
        with pytest.raises(SessionLost):
            await anext(texts)
        with pytest.raises(SessionLost):
            await anext(room)
        assert await waiting[0] == ANSWER
        joined = await waiting[1]
        assert joined.is_open
        assert not room.is_open
        assert session.id != identity
        await stream.cancel()  # without effect: it is over
        assert await session.chat(model=MODEL, messages=ask("then")) == ANSWER
    await until(lambda: State.CLOSED in states)
    assert states == [State.CONNECTED, State.DISCONNECTED, State.LOST, State.CLOSED]


async def test_a_gateway_that_is_not_there_is_given_up(stood: Standing, client: MakeClient) -> None:
    """After `give_up_after`, and not before: what waits fails, and the session says why. From the start, too."""
    patience = Reconnect(first_wait=0.01, longest_wait=0.05, give_up_after=0.4)
    one = client(stood.between.url, reconnect=patience)
    async with one.session() as session:
        stream = await begin(session, stood.source)
        stood.between.refusing = True
        stood.between.cut()
        await until(lambda: session.state is State.DISCONNECTED)
        opened, began = stood.between.opened, asyncio.get_running_loop().time()
        with pytest.raises(ConnectionLost, match=r"for 0\.4 seconds"):
            await session.chat(model=MODEL, messages=ask())
        assert asyncio.get_running_loop().time() - began > 0.3
        assert stood.between.opened > opened + 3
        with pytest.raises(ConnectionLost):
            await text_of(stream)
        with pytest.raises(ConnectionLost, match=r"for 0\.4 seconds"):
            await session.join("room")
        assert isinstance(session.error, ConnectionLost)
    with pytest.raises(ConnectionLost, match=r"for 0\.4 seconds"):
        await one.session().open()


async def test_a_gateway_that_falls_silent_is_noticed(stood: Standing, client: MakeClient) -> None:
    """The connection stays open and says nothing, not even to a ping: another one is sought."""
    async with client(stood.between.url, heartbeat=0.1).session() as session:
        stream = await begin(session, stood.source)
        stood.between.flowing.clear()
        stood.source.say("a")
        await until(lambda: session.state is State.DISCONNECTED, seconds=2.0)
        stood.between.flowing.set()
        await until(lambda: session.state is State.RESUMED)
        stood.source.end()
        assert await text_of(stream) == "a"


async def test_a_full_gateway_is_asked_again(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """1013 says later, and later there is room."""
    gate = await gateway(UP.format((await provider(Words().script)).url) + "[websocket]\nmax_connections = 1\n")
    one = client(gate.url)
    first, second = one.session(), one.session()
    await first.open()
    opening = asyncio.ensure_future(second.open())
    await settled(lambda: 0, polls=20)
    assert not opening.done()
    await first.close()
    await opening
    assert await second.chat(model=MODEL, messages=ask()) == ANSWER


async def test_a_message_that_is_too_large_ends_the_session(
    gateway: StartGateway, provider: StartProvider, client: MakeClient
) -> None:
    """For the gateway (1009), or for us: it would be so again. What is known to be too large is not sent."""
    gate = await gateway(UP.format((await provider(Words().script)).url) + '[websocket]\nmax_message = "10KB"\n')
    async with client(gate.url).session() as session:
        with pytest.raises(TooLarge):
            await session.chat(model=MODEL, messages=ask("x" * 20_000))
        assert isinstance(session.error, TooLarge)
    async with client(gate.url, limits=Limits(largest_read=250)).session() as session:
        with pytest.raises(TooLarge):
            await session.chat(model=MODEL, messages=ask())
    async with client(gate.url, limits=Limits(largest_sent=10_000)).session() as session:
        with pytest.raises(TooLarge, match="10000 may be sent"):
            await session.chat(model=MODEL, messages=ask("x" * 20_000))
        assert await session.chat(model=MODEL, messages=ask()) == ANSWER


@pytest.mark.parametrize(
    ("code", "error"), [(1008, Refused), (1009, TooLarge), (1001, None), (1011, None), (1013, None), (1000, None)]
)
async def test_what_close_codes_mean(
    code: int, error: type[ClientError] | None, speaker: StartSpeaker, client: MakeClient
) -> None:
    """1008 and 1009 are the end, with the reason the gateway gave; after all others the session is resumed."""

    async def script(says: Speaker, number: int) -> None:
        await says.say("connected", 1, session_id=f"s{number}")
        if number == 1:
            await says.hear("chat:message")
            await says.ws.close(code=code, message=b"because")
        else:
            resume = await says.hear("session:resume")
            assert resume["payload"] == {"session_id": "s1", "last_seq": 1}
            await says.say("chat:response", 2, ref=says.heard[0]["ref"], fine=True)
            await says.say("session:resumed", 3, resume["ref"], session_id="s1", replayed=1, received=1)
            await says.silence()

    says = await speaker(script)
    async with client(says.url).session() as session:
        if error is None:
            assert await session.chat(model="m", messages=[]) == {"fine": True}
            assert says.connections == 2
        else:
            with pytest.raises(error, match="because") as raised:
                await session.chat(model="m", messages=[])
            assert session.error is not None
            assert raised.value is not session.error
            assert says.connections == 1


async def test_messages_are_handled_once_and_in_order(speaker: StartSpeaker, client: MakeClient) -> None:
    """One that comes again is passed over; where one is missing, the session is resumed after the last that was had."""

    async def script(says: Speaker, number: int) -> None:
        await says.say("connected", 1, session_id="s")
        if number == 1:
            asked = await says.hear("chat:stream")
            await says.say("stream:started", 2, asked["ref"], stream_id="a", model="m")
            await says.say("stream:chunk", 3, stream_id="a", chunk="one ", index=0)
            await says.say("stream:chunk", 3, stream_id="a", chunk="one ", index=0)
            await says.say("stream:chunk", 5, stream_id="a", chunk="three ", index=2)
            await says.silence()
            return
        resume = await says.hear("session:resume")
        assert resume["payload"]["last_seq"] == 3
        await says.say("stream:chunk", 3, stream_id="a", chunk="one ", index=0)
        await says.say("stream:chunk", 4, stream_id="a", chunk="two ", index=1)
        await says.say("stream:chunk", 5, stream_id="a", chunk="three ", index=2)
        await says.say("session:resumed", 6, resume["ref"], session_id="s", replayed=2, received=1)
        await says.say("something:new", 7, of="no interest")
        await says.say("stream:complete", 8, stream_id="a", response={"finish_reason": "stop"})
        await says.silence()

    async with client((await speaker(script)).url).session() as session:
        stream = await session.stream(model="m", messages=[])
        assert await text_of(stream) == "one two three "
        assert stream.finish_reason == "stop"


@pytest.mark.parametrize(
    "nonsense",
    [
        "no JSON",
        "[]",
        '{"event":"pong"}',
        '{"event":"stream:chunk","seq":2,"payload":{"stream_id":"a"}}',
        '{"event":"stream:started","seq":2,"payload":{}}',
        b"",
    ],
)
async def test_nonsense_is_a_reason_to_connect_anew(
    nonsense: str | bytes, speaker: StartSpeaker, client: MakeClient
) -> None:
    """Whatever it is, the session lives."""

    async def script(says: Speaker, number: int) -> None:
        await says.say("connected", 1, session_id="s")
        if number == 1:
            await (says.ws.send_str(nonsense) if isinstance(nonsense, str) else says.ws.send_bytes(nonsense))
            await says.silence()
            return
        resume = await says.hear("session:resume")
        last = resume["payload"]["last_seq"]
        await says.say("session:resumed", last + 1, resume["ref"], session_id="s", replayed=0, received=0)
        asked = await says.hear("chat:message")
        await says.say("chat:response", last + 2, asked["ref"], fine=True)
        await says.silence()

    async with client((await speaker(script)).url).session() as session:
        assert await session.chat(model="m", messages=[]) == {"fine": True}


@pytest.mark.parametrize("misdeed", ["drops", "greets wrongly", "says nothing", "counts wrongly"])
async def test_a_gateway_that_is_of_no_use_is_given_up(misdeed: str, speaker: StartSpeaker, client: MakeClient) -> None:
    """It takes connections, and nothing comes of them: that is no progress, and patience ends."""

    async def script(says: Speaker, number: int) -> None:
        if misdeed == "greets wrongly" and number > 1:
            await says.say("pong", 1)
        if misdeed == "says nothing" and number > 1:
            await says.silence()
            return
        await says.say("connected", 1, session_id="s")
        if number > 1:
            resume = await says.hear("session:resume")
            received = 7 if misdeed == "counts wrongly" else 0
            await says.say("session:resumed", number, resume["ref"], session_id="s", replayed=0, received=received)
            if misdeed == "counts wrongly":
                await says.silence()

    patience = Reconnect(first_wait=0.01, longest_wait=0.05, give_up_after=0.5, attempt=0.1)
    says = await speaker(script)
    async with client(says.url, reconnect=patience).session() as session:
        with pytest.raises(ConnectionLost, match=r"for 0\.5 seconds"):
            await asyncio.wait_for(session.chat(model="m", messages=[]), 4.0)
    assert 2 < says.connections < 200


async def test_the_key_is_shown_again(stood: Standing, gateway: StartGateway, client: MakeClient) -> None:
    """A session that comes back shows the key it began with; one that is not known any more is refused for good."""
    locked = '[auth]\nrequired = true\n[[auth.keys]]\nname = "one"\nsha256 = "{}"\n'
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of "foo"
    open_to_foo, closed = await gateway(locked.format(digest)), await gateway(locked.format("0" * 64))
    stood.between.port = open_to_foo.port
    async with client(stood.between.url, key="foo").session() as session:
        stood.between.cut()
        await until(lambda: session.state is State.RESUMED)
        stood.between.port = closed.port
        stood.between.cut()
        await until(lambda: session.state is State.CLOSED)
        assert isinstance(session.error, Refused)
        assert "foo" not in str(session.error)


async def test_closing_does_not_wait_for_a_connection(stood: Standing, client: MakeClient) -> None:
    """With nobody there it is done at once."""
    session = client(stood.between.url).session()
    await session.open()
    stream = await begin(session, stood.source)
    stood.between.refusing = True
    stood.between.cut()
    await until(lambda: session.state is State.DISCONNECTED)
    async with asyncio.timeout(0.5):
        await session.close()
    with pytest.raises(ConnectionLost):
        await text_of(stream)
    assert works(stood.gate) == 1  # it waits for a client that will not come, for `websocket.resumable_for`
    assert SOON.give_up_after > 0.5


async def test_what_nobody_waits_for_any_more_is_not_sent(stood: Standing, client: MakeClient) -> None:
    """Asked while there was no connection, and given up before there was one."""
    async with client(stood.between.url).session() as session:
        stood.between.refusing = True
        stood.between.cut()
        await until(lambda: session.state is State.DISCONNECTED)
        given_up = asyncio.ensure_future(session.chat(model=MODEL, messages=ask("given up")))
        await settled(lambda: 0, polls=2)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        stood.between.refusing = False
        assert await session.chat(model=MODEL, messages=ask("wanted")) == ANSWER
        assert [seen.json["messages"][0]["content"] for seen in stood.up.requests] == ["wanted"]


async def test_a_handshake_that_is_refused(gateway: StartGateway, provider: StartProvider, client: MakeClient) -> None:
    """Where there is no WebSocket endpoint it is said at once; where there is trouble, it is tried again."""
    gate = await gateway("[websocket]\nenabled = false\n")
    with pytest.raises(Refused) as refused:
        await client(gate.url).session().open()
    assert refused.value.status == 404

    async def trouble(seen: Seen, wire: Wire) -> None:
        await wire.answer(b"", status=503)

    up = await provider(trouble)
    with pytest.raises(ConnectionLost, match="503"):
        await (
            client(up.url, reconnect=Reconnect(first_wait=0.01, longest_wait=0.05, give_up_after=0.3)).session().open()
        )
    assert len(up.requests) > 3
