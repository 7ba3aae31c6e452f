"""Fast providers, slow clients, many of both: what waits is bounded, who reads is not held up, and writes are few."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from runestone.edge.websocket.session import Session
from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.talk import ANSWER, Flood, Raw, Speaker, masked, message, question, talking, text_of
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import Seen, Wire

STALL = 'stall = "200ms"\n'
MANY = "routing.adaptive_concurrency = false\npool.default_size = 500\n"


def there(gate: Gateway, identity: str) -> Session:
    (session,) = (one for one in gate.app.live.sessions if one.id == identity)
    return session


def waiting(session: Session) -> int:
    """Bytes of a session's own that wait for its client."""
    transport = session.socket._protocol.transport if session.socket is not None else None
    return session.socket._size + transport.get_write_buffer_size() if session.socket and transport else 0


@pytest.fixture
def cuts() -> Iterator[list[str]]:
    """What the log says of clients that were cut."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    listener, log = Listener(), logging.getLogger("runestone.websocket")
    log.addHandler(listener)
    yield told
    log.removeHandler(listener)


async def test_who_does_not_read_slows_its_provider_and_is_bounded(
    gateway: StartGateway, provider: StartProvider, cuts: list[str]
) -> None:
    """Of 24 MB the provider gets rid of what sockets hold; what the gateway keeps is bounded; another client's stream
    runs; and when the slow one reads again it has every byte.
    """
    flood = Flood(24_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as other, Raw.connected(gate, buffer=4096) as slow:
        await slow.wait("connected")
        await slow.say("chat:stream", question())
        stopped = await settled(lambda: flood.sent)
        assert stopped < 16_000_000
        session = there(gate, slow.session)
        assert waiting(session) < 700_000
        assert session.outbox._bytes < 2_100_000
        assert (await other.ask("ping"))["event"] == "pong"
        heard = []
        while not heard or heard[-1]["event"] != "stream:complete":
            heard.append(await slow.next())
        assert text_of(heard, heard[-1]["payload"]["stream_id"]) == flood.text
    assert not cuts


async def test_who_reads_nothing_for_too_long_is_cut_and_may_come_back(
    gateway: StartGateway, provider: StartProvider, cuts: list[str]
) -> None:
    """After `stall` the connection is ended with a line in the log; the session waits, and nothing of the stream is
    lost.
    """
    flood = Flood(10_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra="[websocket]\n" + STALL), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as slow:
        await slow.wait("connected")
        await slow.say("chat:stream", question())
        await until(lambda: gate.app.live.sessions.connections == 0)
    assert cuts == ["a WebSocket client was cut: it has taken nothing for too long"]
    async with talking(gate) as again:
        assert (await again.resume(slow.session, slow.seq))["event"] == "session:resumed"
        done = await again.wait("stream:complete")
        assert text_of(again.heard, done["payload"]["stream_id"]) == flood.text


async def test_who_reads_slowly_but_steadily_is_not_cut(
    gateway: StartGateway, provider: StartProvider, cuts: list[str]
) -> None:
    """`stall` is how long a client may take nothing: a large answer over a slow line takes longer than that."""
    content = "x" * 1_500_000

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.answer({**ANSWER, "choices": [{"index": 0, "message": {"content": content}}]})

    up = await provider(script)
    gate = await gateway(relay(up.url, extra='[websocket]\nstall = "300ms"\n'), ENVIRON)
    async with Raw.connected(gate, buffer=16_384) as slow:
        await slow.wait("connected")
        await slow.say("chat:message", question())
        size = 0
        async with asyncio.timeout(10):
            while size < len(content):
                data = await slow.read(20_000)
                size += len(data)
                await asyncio.sleep(0.012)  # the pace of the line
    assert not cuts


async def test_a_slow_reader_of_many_fast_streams_is_not_cut(
    gateway: StartGateway, provider: StartProvider, cuts: list[str]
) -> None:
    """Fifty streams, each with more on its way than the next: together they wait for the client, as one does."""
    flood = Flood(300_000, block=60_000)
    flood.go.clear()
    up = await provider(flood.script)
    gate = await gateway(MANY + relay(up.url), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as slow:
        await slow.wait("connected")
        for number in range(50):
            await slow.say("chat:stream", question(f"{number}"))
        for _ in range(50):
            await slow.wait("stream:started")
        flood.go.set()
        await settled(lambda: flood.sent)
        session = there(gate, slow.session)
        assert waiting(session) < 1_000_000
        heard = []
        while sum(told["event"] == "stream:complete" for told in heard) < 50:
            heard.append(await slow.next())
        for told in heard[-1:]:
            assert text_of(heard, told["payload"]["stream_id"]) == flood.text
    assert not cuts


@pytest.mark.parametrize("said", ["messages", "pings", "both"])
async def test_who_talks_and_does_not_listen_is_bounded(
    said: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """Answers to what it says pile up, bounded, and then its connection is ended, by what waits for it or by the
    heartbeat; frames of the protocol are no way round.
    """
    up = await provider(Speaker().script)
    extra = '[websocket]\nmessages_per_second = 0\nheartbeat = "300ms"\n'
    gate = await gateway(relay(up.url, extra=extra + STALL), ENVIRON)
    messages, pings = masked(message("nothing").encode()) * 50, masked(b"x" * 120, 9) * 50
    data = {"messages": messages, "pings": pings, "both": messages + pings}[said]
    async with Raw.connected(gate, buffer=4096) as mute:
        await mute.wait("connected")
        session, most = there(gate, mute.session), 0
        talking = asyncio.ensure_future(_talk(mute, data))
        try:
            async with asyncio.timeout(5):
                while gate.app.live.sessions.connections:
                    most = max(most, waiting(session))
                    await asyncio.sleep(0)
        finally:
            talking.cancel()
            await asyncio.wait((talking,))
    assert 10_000 < most < 3_000_000


async def _talk(raw: Raw, data: bytes) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        while True:
            await raw.write(data)
            await asyncio.sleep(0)


async def test_ten_slow_readers_beside_a_hundred_fast_ones(
    gateway: StartGateway, provider: StartProvider, cuts: list[str]
) -> None:
    """The fast ones have all of theirs while the slow ones have taken nothing; what waits for each is bounded."""
    flood = Flood(100_000, block=10_000)
    endless = Flood(100_000_000)

    async def script(seen: Seen, wire: Wire) -> None:
        await (endless if "slow" in seen.body.decode() else flood).script(seen, wire)

    up = await provider(script)
    gate = await gateway(MANY + relay(up.url), ENVIRON)
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(Raw.connected(gate, buffer=4096)) for _ in range(10)]
        for raw in slow:
            await raw.wait("connected")
            await raw.say("chat:stream", question(f"slow {raw.session}"))
        await until(lambda: all(there(gate, raw.session).is_full for raw in slow))

        async def fast(number: int) -> str:
            async with talking(gate) as talk:
                stream_id = await talk.start(f"fast {number}")
                await talk.wait("stream:complete")
                return text_of(talk.heard, stream_id)

        assert set(await asyncio.gather(*(fast(number) for number in range(100)))) == {flood.text}
        for raw in slow:
            session = there(gate, raw.session)
            assert session.is_full
            assert waiting(session) < 700_000
        assert endless.sent < 10 * 12_000_000
    assert not cuts


async def test_many_fast_streams_make_few_writes(
    gateway: StartGateway, provider: StartProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred streams of thirty tokens on one connection: what is told in a turn of the loop leaves in one
    write, so there are far fewer than tokens, and every text is exact.
    """
    writes: Counter[Any] = Counter()
    write = _SelectorSocketTransport.write

    def counted(transport: Any, data: bytes) -> None:
        writes[transport] += 1
        write(transport, data)

    begin = asyncio.Event()
    words = [f"{number} " for number in range(30)]

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE)
        await begin.wait()
        for word in words:
            await wire.chunk(chunk({"content": word}))
            await asyncio.sleep(0)
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(MANY + relay(up.url, extra="[websocket]\nmessages_per_second = 0\n"), ENVIRON)
    async with talking(gate) as talk:
        for number in range(200):
            await talk.say("chat:stream", question(f"{number}"), number)
        ids = [(await talk.wait("stream:started"))["payload"]["stream_id"] for _ in range(200)]
        await until(lambda: len(up.requests) == 200)
        session = there(gate, talk.session)
        assert session.socket is not None
        transport = session.socket._protocol.transport
        monkeypatch.setattr(_SelectorSocketTransport, "write", counted)
        before = session.outbox.last
        begin.set()
        for _ in ids:
            await talk.wait("stream:complete")
        messages = session.outbox.last - before
        assert {text_of(talk.heard, stream_id) for stream_id in ids[::50]} == {"".join(words)}
        tokens = 200 * len(words)
        assert messages <= tokens + 200
        assert writes[transport] < tokens / 20, (writes[transport], messages, tokens)


async def test_a_message_leaves_at_once(gateway: StartGateway, provider: StartProvider) -> None:
    """Nothing is held back for company: each token that comes alone is heard before the next is said."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with talking(gate) as talk:
        await talk.start("one")
        for number in range(50):
            speaker.say("one", str(number))
            assert (await talk.next())["payload"]["chunk"] == str(number)


async def test_a_client_that_does_not_read_its_close_is_closed_all_the_same(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """Its session goes on elsewhere, its own socket is full: within `stall` nothing of it is left."""
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra="[websocket]\n" + STALL), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as old, talking(gate) as new:
        await old.wait("connected")
        await old.say("chat:stream", question())
        session = there(gate, old.session)
        await until(lambda: session.is_full)
        assert session.socket is not None
        transport = session.socket._protocol.transport
        assert transport is not None
        seq = session.outbox.last
        assert (await new.resume(old.session, seq))["event"] == "session:resumed"
        reading = asyncio.ensure_future(new.wait("stream:complete"))
        await until(lambda: gate.app.live.sessions.connections == 1 and transport.get_write_buffer_size() == 0)
        await reading


async def test_a_client_that_says_goodbye_and_reads_nothing_leaves_nothing_behind(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """Much was on its way to it: what its socket does not take in `stall` is let go of, and its connection with it."""
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra="[websocket]\n" + STALL), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as mute:
        await mute.wait("connected")
        await mute.say("chat:stream", question())
        session = there(gate, mute.session)
        await until(lambda: session.is_full)
        assert session.socket is not None
        transport = session.socket._protocol.transport
        assert transport is not None
        await mute.write(masked(b"\x03\xe8", 8))
        await until(lambda: gate.app.live.sessions.connections == 0)
        await until(lambda: transport.get_write_buffer_size() == 0, seconds=2.0)


async def test_nothing_follows_a_close(gateway: StartGateway, provider: StartProvider) -> None:
    """The session goes on elsewhere while answers still wait for its old connection, whose socket is full: after the
    close frame no other comes (RFC 6455, 5.5.1).
    """
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as old, talking(gate) as new:
        await old.wait("connected")
        await old.say("chat:stream", question())
        session = there(gate, old.session)
        await until(lambda: session.is_full)
        for _ in range(5):
            await old.say("ping")
        await until(lambda: session.received == 1 and session.socket is not None and session.socket._size > 0)
        resumed = await new.resume(old.session, session.outbox.last)
        assert resumed["event"] == "session:resumed"
        reading = asyncio.ensure_future(new.wait("stream:complete"))
        assert await old.closed() == 1008
        with pytest.raises((EOFError, ConnectionError)):
            await old.read(1)
        await reading


async def test_what_is_old_is_let_go_of_though_nothing_new_is_said(
    gateway: StartGateway, provider: StartProvider
) -> None:
    """A client that is there and silent had its messages long ago: they are not kept for as long as it stays, at the
    cost of what may be kept for others.
    """
    flood = Flood(500_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra='[websocket]\nresumable_for = "100ms"\nheartbeat = "100ms"\n'), ENVIRON)
    async with talking(gate) as talk:
        await talk.start()
        await talk.wait("stream:complete")
        listening = asyncio.ensure_future(talk.ws.receive())  # which answers pings
        try:
            await until(lambda: gate.app.live.sessions._ledger.bytes < 100_000, seconds=2.0)
        finally:
            listening.cancel()
