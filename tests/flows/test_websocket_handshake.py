"""Who may open a WebSocket, how many may, and who is still there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.talk import Flood, Raw, Speaker, masked, question, talking
from tests.flows.test_cached_answers import answers
from tests.gateway import ENVIRON, Gateway, relay

KEYS = (
    "[auth]\nrequired = true\n"
    '[[auth.keys]]\nname = "good"\nkey = "env:GOOD"\n'
    '[[auth.keys]]\nname = "off"\nkey = "env:OFF"\nactive = false\n'
    '[[auth.keys]]\nname = "old"\nkey = "env:OLD"\nexpires = 2020-01-01T00:00:00Z\n'
)
SECRETS = {**ENVIRON, "GOOD": "rs-good_key-1", "OFF": "rs-off", "OLD": "rs-old"}


async def code_of(
    gate: Gateway, *, headers: dict[str, str] | None = None, protocols: tuple[str, ...] = ()
) -> int | None:
    """The close code of a connection that ends before it is greeted; None where it is greeted."""
    async with talking(gate, headers=headers, protocols=protocols, greeted=False) as talk:
        told = await talk.ws.receive(timeout=10)
        if told.type is aiohttp.WSMsgType.TEXT:
            return None
        assert told.extra, "the close says why"
        assert "rs-" not in told.extra
        return talk.ws.close_code


@pytest.mark.parametrize("path", ["/ws", "/socket", "/socket/websocket"])
async def test_every_path_is_the_same(path: str, gateway: StartGateway, provider: StartProvider) -> None:
    """And nothing of aiohttp is told."""
    gate = await gateway(relay((await provider(answers)).url), ENVIRON)
    async with talking(gate, path=path) as talk:
        assert (await talk.ask("ping"))["event"] == "pong"
        assert talk.ws._response.headers["Server"] == "runestone"
        assert "x-request-id" in talk.ws._response.headers
        assert "Sec-WebSocket-Extensions" not in talk.ws._response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer rs-good_key-1"},
        {"Authorization": "rs-good_key-1"},
        {"x-api-key": "rs-good_key-1"},
        {"api-key": "rs-good_key-1"},
    ],
)
async def test_a_key_in_any_header(headers: dict[str, str], gateway: StartGateway, provider: StartProvider) -> None:
    """The four that HTTP takes."""
    gate = await gateway(relay((await provider(answers)).url, extra=KEYS), SECRETS)
    async with talking(gate, headers=headers) as talk:
        assert (await talk.ask("chat:message", question()))["event"] == "chat:response"


@pytest.mark.parametrize(
    "protocols", [("runestone", "runestone.key.rs-good_key-1"), ("runestone.key.rs-good_key-1", "runestone")]
)
async def test_a_key_as_a_sub_protocol(
    protocols: tuple[str, ...], gateway: StartGateway, provider: StartProvider
) -> None:
    """As browsers send it; the answer names `runestone`, and never the key."""
    gate = await gateway(relay((await provider(answers)).url, extra=KEYS), SECRETS)
    async with talking(gate, protocols=protocols) as talk:
        assert talk.ws.protocol == "runestone"
        assert "rs-good" not in str(talk.ws._response.headers)
        assert (await talk.ask("chat:message", question()))["event"] == "chat:response"


async def test_a_key_without_the_protocol_is_told_nobody(
    gateway: StartGateway, provider: StartProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that offers the key alone: whatever it is answered, neither the answer nor a log holds the key."""
    gate = await gateway(relay((await provider(answers)).url, extra=KEYS), SECRETS)
    answer: object
    try:
        async with talking(gate, protocols=("runestone.key.rs-good_key-1",), greeted=False) as talk:
            answer = talk.ws._response.headers
    except aiohttp.WSServerHandshakeError as error:
        answer = error.headers
    assert "rs-good" not in str(answer)
    assert "rs-good" not in caplog.text


@pytest.mark.parametrize("subprotocols", [("chat", "v2.chat"), ("runestone", "chat")])
async def test_a_known_protocol_is_chosen_before_others(
    subprotocols: tuple[str, ...], gateway: StartGateway, provider: StartProvider
) -> None:
    """A client that offers others only (Phoenix's, say) gets its first, so that browsers do not give up."""
    gate = await gateway(relay((await provider(answers)).url), ENVIRON)
    async with talking(gate, protocols=subprotocols) as talk:
        assert talk.ws.protocol == subprotocols[0]


@pytest.mark.parametrize("presented", ["rs-wrong", "rs-off", "rs-old", "", None])
@pytest.mark.parametrize("how", ["header", "protocol"])
async def test_a_bad_key_is_closed_with_1008(
    how: str, presented: str | None, gateway: StartGateway, provider: StartProvider
) -> None:
    """Unknown, disabled, expired, empty or none: after the handshake, so that browsers can read why."""
    up = await provider(answers)
    gate = await gateway(relay(up.url, extra=KEYS), SECRETS)
    if how == "header":
        code = await code_of(gate, headers={} if presented is None else {"x-api-key": presented})
    else:
        code = await code_of(
            gate, protocols=("runestone", *(() if presented is None else (f"runestone.key.{presented}",)))
        )
    assert code == 1008
    await until(lambda: gate.app.live.sessions.connections == 0)
    assert not list(gate.app.live.sessions)


async def test_what_a_refused_client_says_is_not_done(gateway: StartGateway, provider: StartProvider) -> None:
    """Though it sends at once, with the handshake."""
    up = await provider(answers)
    gate = await gateway(relay(up.url, extra=KEYS), SECRETS)
    async with Raw.connected(gate, head="x-api-key: rs-wrong\r\n") as raw:
        await raw.say("chat:stream", question())
        assert await raw.closed() == 1008
    assert not up.requests


async def test_the_key_is_not_read_from_the_url(gateway: StartGateway, provider: StartProvider) -> None:
    """URLs stand in logs."""
    gate = await gateway(relay((await provider(answers)).url, extra=KEYS), SECRETS)
    async with talking(
        gate, path="/ws?api_key=rs-good_key-1&key=rs-good_key-1&token=rs-good_key-1", greeted=False
    ) as talk:
        assert (await talk.ws.receive()).type is aiohttp.WSMsgType.CLOSE
        assert talk.ws.close_code == 1008


@pytest.mark.parametrize("headers", [{}, {"Upgrade": "websocket"}, {"Upgrade": "h2c", "Connection": "Upgrade"}])
async def test_who_speaks_no_websocket_is_told_so(
    headers: dict[str, str], gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """400 with our error object; 401 without a key."""
    gate = await gateway(relay((await provider(answers)).url, extra=KEYS), SECRETS)
    async with http.get(gate.url + "/ws", headers={**headers, "x-api-key": "rs-good_key-1"}) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "bad_request"
    async with http.get(gate.url + "/ws") as response:
        assert response.status == 401


async def test_switched_off_there_is_no_endpoint(
    gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """`enabled = false`: 404, also for a handshake."""
    gate = await gateway(relay((await provider(answers)).url, extra="[websocket]\nenabled = false\n"), ENVIRON)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(gate.url + "/ws")
    assert caught.value.status == 404


ORIGINS = '[server]\ncors_origins = ["https://app.example", "http://localhost:3000"]\n'


@pytest.mark.parametrize(
    ("origin", "extra", "code"),
    [
        (None, "", None),
        ("http://HOST", "", None),
        ("https://HOST", "", None),
        ("http://evil.example", "", 1008),
        ("null", "", 1008),
        ("file://", "", 1008),
        ("http://HOST.evil.example", "", 1008),
        ("http://evil.example/HOST", "", 1008),
        ("http://evil@HOST", "", 1008),
        ("http://127.0.0.1", "", 1008),
        ("https://app.example", ORIGINS, None),
        ("http://localhost:3000", ORIGINS, None),
        ("http://app.example", ORIGINS, 1008),
        ("https://app.example:444", ORIGINS, 1008),
        ("https://app.example.evil.example", ORIGINS, 1008),
        ("http://localhost:3001", ORIGINS, 1008),
        ("http://evil.example", '[server]\ncors_origins = ["*"]\n', None),
        ("null", '[server]\ncors_origins = ["*"]\n', None),
    ],
)
async def test_pages_of_other_origins(
    origin: str | None, extra: str, code: int | None, gateway: StartGateway, provider: StartProvider
) -> None:
    """Without a key only our own pages and those of `cors_origins` may connect: 1008 for others. Programs send no
    origin.
    """
    gate = await gateway(relay((await provider(answers)).url, extra=extra), ENVIRON)
    headers = {"Origin": origin.replace("HOST", gate.url.partition("//")[2])} if origin is not None else {}
    assert await code_of(gate, headers=headers) == code


async def test_a_key_opens_the_door_to_any_page(gateway: StartGateway, provider: StartProvider) -> None:
    """Only who knows the key can send it; a key that is not known here is none."""
    keys = KEYS.replace("required = true", "required = false")
    gate = await gateway(relay((await provider(answers)).url, extra=keys), SECRETS)
    origin = {"Origin": "http://other.example"}
    assert await code_of(gate, headers={**origin, "x-api-key": "rs-good_key-1"}) is None
    assert await code_of(gate, headers=origin, protocols=("runestone", "runestone.key.rs-good_key-1")) is None
    assert await code_of(gate, headers={**origin, "x-api-key": "rs-unknown"}) == 1008
    assert await code_of(gate, headers=origin) == 1008


MOST = "[websocket]\nmax_connections = {}\n"


async def test_one_connection_too_many_is_closed_with_1013(gateway: StartGateway, provider: StartProvider) -> None:
    """The others live on, and when one has gone the next one may come."""
    gate = await gateway(relay((await provider(answers)).url, extra=MOST.format(2)), ENVIRON)
    async with talking(gate) as one:
        async with talking(gate) as two:
            assert await code_of(gate) == 1013
            for talk in (one, two):
                assert (await talk.ask("ping"))["event"] == "pong"
        await until(lambda: gate.app.live.sessions.connections == 1)
        assert await code_of(gate) is None


@pytest.mark.parametrize("refused", ["too many", "bad key"])
async def test_who_was_refused_takes_nobodys_place(
    refused: str, gateway: StartGateway, provider: StartProvider
) -> None:
    """A refused client that does not answer the close (and needs no key for that) keeps nobody out."""
    most = MOST.format(1)
    gate = await gateway(relay((await provider(answers)).url, extra=KEYS + most), SECRETS)
    good = {"x-api-key": "rs-good_key-1"}
    async with AsyncExitStack() as stack:
        if refused == "too many":
            async with talking(gate, headers=good):
                await stack.enter_async_context(Raw.connected(gate, head="x-api-key: rs-good_key-1\r\n"))
            await until(lambda: gate.app.live.sessions.connections <= 1)
        else:
            await stack.enter_async_context(Raw.connected(gate, head="x-api-key: rs-wrong\r\n"))
        assert await code_of(gate, headers=good) is None


async def test_clients_come_and_go(gateway: StartGateway, provider: StartProvider) -> None:
    """Hundreds, politely or not: afterwards nothing is left of them."""
    gate = await gateway(relay((await provider(answers)).url, extra='[websocket]\nresumable_for = "0s"\n'), ENVIRON)

    async def visit(number: int) -> None:
        async with Raw.connected(gate) as raw:
            if number % 4:
                await raw.wait("connected")
            if number % 4 == 1:
                await raw.write(masked(b"\x03\xe8", 8))
                assert await raw.closed() == 1000
            elif number % 4 == 2:
                raw.cut()

    await asyncio.gather(*(visit(number) for number in range(300)))
    sessions = gate.app.live.sessions
    await until(lambda: sessions.connections == 0)
    assert (list(sessions), sessions.away, sessions._ledger.bytes) == ([], 0, 0)


BEAT = '[websocket]\nheartbeat = "100ms"\n'


async def test_who_answers_the_heartbeat_stays(gateway: StartGateway, provider: StartProvider) -> None:
    """A client that says nothing for many beats, but answers pings."""
    gate = await gateway(relay((await provider(answers)).url, extra=BEAT), ENVIRON)
    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        for _ in range(4):
            opcode, payload = await raw.frame()
            assert opcode == 9
            await raw.write(masked(payload, 10))
        await raw.say("ping")
        assert (await raw.next())["event"] == "pong"


async def test_a_dead_peer_is_found(gateway: StartGateway, provider: StartProvider) -> None:
    """Who does not answer is gone in a beat and a half, and its session waits."""
    gate = await gateway(relay((await provider(answers)).url, extra=BEAT), ENVIRON)
    async with Raw.connected(gate) as raw:
        await raw.wait("connected")
        sessions = gate.app.live.sessions
        await until(lambda: sessions.connections == 0, seconds=2.0)
        assert sessions.away == 1
        async with talking(gate) as talk:
            assert (await talk.resume(raw.session, raw.seq))["event"] == "session:resumed"


async def test_a_dead_peer_leaves_no_socket_behind(gateway: StartGateway, provider: StartProvider) -> None:
    """Who neither answers nor reads, with a stream on its way to it: the connection is ended for good, not kept until
    somebody reads what was left in it.
    """
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra=BEAT), ENVIRON)
    async with Raw.connected(gate, buffer=4096) as raw:
        await raw.wait("connected")
        await raw.say("chat:stream", question())
        (session,) = gate.app.live.sessions
        assert session.socket is not None
        transport = session.socket._protocol.transport
        assert transport is not None
        await until(lambda: gate.app.live.sessions.connections == 0, seconds=3.0)
        await until(lambda: transport.get_write_buffer_size() == 0, seconds=1.0)


async def test_pings_of_the_client_are_answered(gateway: StartGateway, provider: StartProvider) -> None:
    """By frames of the protocol, while a stream runs, never inside another frame."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with Raw.connected(gate) as raw:
        await raw.say("chat:stream", question("one"))
        await until(lambda: speaker.asked == ["one"])
        for number in range(100):
            speaker.say("one", f"{number} ")
            await raw.write(masked(b"%d" % number, 9))
        speaker.end("one")
        text, pongs = "", []
        while True:
            opcode, payload = await raw.frame()
            if opcode == 10:
                pongs.append(payload)
            elif b'"stream:complete"' in payload:
                break
            elif b'"stream:chunk"' in payload:
                text += payload.partition(b'"chunk":"')[2].partition(b'"')[0].decode()
        assert text == "".join(f"{number} " for number in range(100))
        while len(pongs) < 100:
            pongs.append((await raw.frame())[1])
        assert pongs == [b"%d" % number for number in range(100)]
