"""deploy/nginx/runestone.conf, run by a real nginx before real gateways: what a client of the front gets is what a
client of Runestone gets.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path

import aiohttp
import orjson
import pytest

from runestone.config.schema import Configuration
from tests.conftest import StartGateway, StartProvider, until
from tests.deploy.front import CONF, MOST, NAME, Front, front, needs_nginx
from tests.flows.talk import ANSWER, question
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import ENVIRON, Gateway, relay
from tests.provider import FakeProvider, Seen, Wire

pytestmark = needs_nginx

LARGE = 300_000
"""Bytes of a body here; that the file says what Runestone does is a test of its own."""
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
JSON = {"Content-Type": "application/json"}
KEYS = [f"rs-key-{number:02}" for number in range(24)]
SHOWN: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda key: {"Authorization": f"Bearer {key}"},
    "lower case": lambda key: {"Authorization": f"bearer {key}"},
    "bare": lambda key: {"Authorization": key},
    "x-api-key": lambda key: {"x-api-key": key},
    "api-key": lambda key: {"api-key": key},
}

StartFront = Callable[..., Awaitable[Front]]


@pytest.fixture
async def nginx(stack: AsyncExitStack, tmp_path: Path) -> StartFront:
    """`await nginx(gateway)`: a front before these gateways."""

    async def start(*gates: Gateway, most: int | None = None) -> Front:
        ports = [gate.port for gate in gates]
        return await stack.enter_async_context(front([*ports, *ports][:2], tmp_path, most))

    return start


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """One that takes every certificate; those that matter are checked in a test of their own."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=False), timeout=aiohttp.ClientTimeout(total=20)
    ) as session:
        yield session


async def answers(seen: Seen, wire: Wire) -> None:
    await wire.answer(ANSWER)


async def test_json_comes_through_as_it_is(
    gateway: StartGateway, provider: StartProvider, nginx: StartFront, http: aiohttp.ClientSession
) -> None:
    """Bytes, headers of ours, and over TLS that a client can verify; a client's id is one from end to end."""
    gate = await gateway(relay((await provider(answers)).url), ENVIRON)
    outside = await nginx(gate)
    url = outside.url + "/v1/chat/completions"
    async with http.post(gate.url + "/v1/chat/completions", json=ASK) as response:
        direct = await response.read()
    async with http.post(url, json=ASK, headers={"x-request-id": "mine-1"}, ssl=outside.tls) as response:
        assert (response.status, await response.read()) == (200, direct)
        assert response.headers["x-request-id"] == "mine-1"
        assert response.headers["x-runestone-provider"] == "up"
        assert "nginx/" not in response.headers["Server"]
    async with http.post(url, json=ASK, headers={"x-request-id": "a b"}, ssl=outside.tls) as response:
        assert response.headers["x-request-id"] not in ("", "a b")


async def test_old_tls_is_refused(gateway: StartGateway, nginx: StartFront) -> None:
    """Nothing below TLS 1.2."""
    outside = await nginx(await gateway("[providers.simulated]\n"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is not this side that refuses
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await asyncio.open_connection("127.0.0.1", outside.port, ssl=context, server_hostname=NAME)


async def test_events_arrive_one_by_one(
    gateway: StartGateway, provider: StartProvider, nginx: StartFront, client: aiohttp.ClientSession
) -> None:
    """The provider says its next event only when the client has had the last: what is held back anywhere is a stream
    that never ends.
    """
    read = asyncio.Queue[None]()
    events = [ROLE, *(chunk({"content": text}) for text in ("one", "two", "three")), STOP + DONE]

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for event in events:
            await wire.chunk(event)
            await read.get()
        await wire.end_stream()

    outside = await nginx(await gateway(relay((await provider(script)).url), ENVIRON))
    async with client.post(outside.url + "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        assert response.content_type == "text/event-stream"
        for event in events:
            assert await response.content.readexactly(len(event)) == event
            read.put_nowait(None)
        assert await response.content.read() == b""


async def test_a_websocket_comes_through(
    gateway: StartGateway, provider: StartProvider, nginx: StartFront, stack: AsyncExitStack
) -> None:
    """Streams over it, chunk by chunk; and a page of the front's own address is one of ours, as it is without it."""
    read = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE + chunk({"content": "one"}))
        await read.wait()
        await wire.chunk(STOP + DONE)
        await wire.end_stream()

    outside = await nginx(await gateway(relay((await provider(script)).url), ENVIRON))
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)))
    async with session.ws_connect(outside.url + "/ws", headers={"Origin": outside.url}) as ws:
        assert (await ws.receive_json(timeout=5))["event"] == "connected"
        await ws.send_json({"event": "chat:stream", "payload": question()})
        while (told := await ws.receive_json(timeout=5))["event"] != "stream:chunk":
            assert told["event"] == "stream:started"
        assert told["payload"]["chunk"] == "one"
        read.set()
        assert (await ws.receive_json(timeout=5))["event"] == "stream:complete"
    async with session.ws_connect(outside.url + "/ws", headers={"Origin": "https://evil.example"}) as ws:
        await ws.receive(timeout=5)
        assert ws.close_code == 1008


async def test_a_client_that_leaves_ends_the_call(
    gateway: StartGateway, provider: StartProvider, nginx: StartFront, client: aiohttp.ClientSession
) -> None:
    """Through the front too: nobody pays for an answer that nobody reads. (nginx sees the connection's end; of a client
    that says by TLS alone that it goes it hears at the next event.)
    """
    left = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE)
        await wire.left()
        left.set()

    outside = await nginx(await gateway(relay((await provider(script)).url), ENVIRON))
    async with client.post(outside.url + "/v1/chat/completions", json={**ASK, "stream": True}) as response:
        await response.content.readexactly(len(ROLE))
        assert response.connection is not None
        assert response.connection.transport is not None
        response.connection.transport.abort()
    async with asyncio.timeout(5):
        await left.wait()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_both_agree_on_what_is_too_large(
    path: str, gateway: StartGateway, provider: StartProvider, nginx: StartFront, client: aiohttp.ClientSession
) -> None:
    """The largest body passes, one byte more is the same refusal from nginx as from Runestone, chunked too."""
    up = await provider(answers)
    gate = await gateway(f'server.max_body = "{LARGE // 1000}KB"\n{relay(up.url)}', ENVIRON)
    outside = await nginx(gate, most=LARGE)
    told = {}
    for name, url in (("front", outside.url), ("direct", gate.url)):
        async with client.post(url + path, data=BytesIO(body_of(LARGE + 1)), headers=JSON) as no:
            told[name] = no.status, no.content_type, orjson.loads(await no.read())
            assert told[name][2].pop("request_id", "x-request-id") in (no.headers["x-request-id"], "x-request-id")
    assert told["front"] == told["direct"]
    assert told["front"][0] == 413

    async def parts() -> AsyncIterator[bytes]:
        whole = body_of(LARGE + 1)
        for at in range(0, len(whole), 1 << 16):
            yield whole[at : at + (1 << 16)]

    async with client.post(outside.url + path, data=parts(), headers=JSON) as no:
        assert no.status == 413
    assert not up.requests
    async with client.post(outside.url + path, data=BytesIO(body_of(LARGE)), headers=JSON) as yes:
        assert yes.status == 200, await yes.text()


HIDDEN = (
    *("/admin", "/admin/state", "/admin/providers/up/drain", "/metrics", "/metrics/", "/%61dmin/state"),
    *("//admin/state", "/v1/../admin/state", "/admin%2Fstate", "/./admin/state", "/metrics?x=1", "/v1/..%2fmetrics"),
    *("/%6detrics", "https://x/admin/state"),
)


async def test_operators_paths_are_not_there(gateway: StartGateway, nginx: StartFront) -> None:
    """However they are written: /admin and /metrics are Runestone's to operators, not to clients."""
    gate = await gateway("[providers.simulated]\n")
    outside = await nginx(gate)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", outside.port, ssl=context)
    for path in HIDDEN:
        for method in ("GET", "POST"):
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n\r\n".encode())
            async with asyncio.timeout(5):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r")[0])
                body = orjson.loads(await reader.readexactly(length))
            assert head.startswith("http/1.1 404 "), path
            assert body["error"]["message"] == "there is nothing here", path  # nginx's word, not Runestone's
    writer.close()
    await writer.wait_closed()


async def test_a_key_meets_one_instance(
    gateway: StartGateway, nginx: StartFront, client: aiohttp.ClientSession
) -> None:
    """Always the same, however it is shown, by HTTP and by WebSocket; and all keys do not meet the same one."""
    gates = [await gateway(f"[providers.{name}]\nkind = 'simulated'\nsimulated.ttft = '0s'\n") for name in ("a", "b")]
    outside = await nginx(*gates)
    ask = {**ASK, "model": "simulated", "max_tokens": 1}

    async def met(headers: dict[str, str]) -> str:
        async with client.post(outside.url + "/v1/chat/completions", json=ask, headers=headers) as response:
            return response.headers["x-runestone-provider"]

    first = {key: await met(SHOWN["bearer"](key)) for key in KEYS}
    assert set(first.values()) == {"a", "b"}
    for key in KEYS[:4]:
        assert {await met(show(key)) for show in SHOWN.values()} == {first[key]}
        sessions = {"a": gates[0].app.live.sessions, "b": gates[1].app.live.sessions}
        before = {name: own.tally.sent for name, own in sessions.items()}
        async with client.ws_connect(outside.url + "/ws", protocols=("runestone", f"runestone.key.{key}")) as ws:
            assert (await ws.receive_json(timeout=5))["event"] == "connected"
        assert [name for name, own in sessions.items() if own.tally.sent > before[name]] == [first[key]]
    assert len({await met({}) for _ in range(4)}) == 1  # nobody in particular, by address


async def test_an_instance_that_is_gone_is_passed_over(
    provider: StartProvider, nginx: StartFront, client: aiohttp.ClientSession, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Its keys are answered by another, at the first call; when none is left, by an error object and a retry-after."""
    there, gone = await provider(answers), await provider(answers)
    outside = await stack.enter_async_context(front([port_of(there), port_of(gone)], tmp_path))
    url = outside.url + "/v1/chat/completions"
    gone.kill()
    for key in KEYS[:12]:
        async with client.post(url, json=ASK, headers=SHOWN["bearer"](key)) as response:
            assert response.status == 200
    assert len(there.requests) == 12
    assert there.opened == 1, "the connections to an instance are kept"
    there.kill()
    async with client.post(url, json=ASK) as response:
        assert response.status == 503
        assert response.headers["Retry-After"].isdigit()
        assert (await response.json())["error"]["code"] == "service_unavailable"


async def test_what_an_instance_is_told(
    provider: StartProvider, nginx: StartFront, client: aiohttp.ClientSession, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """The client's own head, with an id and the name it asked for; and no upgrade that nobody wanted."""
    seen = await provider(answers)
    outside = await stack.enter_async_context(front([port_of(seen)] * 2, tmp_path))
    async with client.post(outside.url + "/v1/chat/completions?a=%20b", json=ASK, headers={"Host": NAME}) as response:
        assert response.status == 200
    (request,) = seen.requests
    assert request.path == "/v1/chat/completions?a=%20b"
    assert request.headers["host"] == NAME
    assert len(request.headers["x-request-id"]) == 32
    assert request.headers.get("connection", "keep-alive") == "keep-alive"
    assert "upgrade" not in request.headers


async def test_nothing_of_a_call_is_written_down(
    gateway: StartGateway, provider: StartProvider, nginx: StartFront, client: aiohttp.ClientSession
) -> None:
    """Neither prompts that are large nor keys reach a file of nginx."""
    looked = asyncio.Event()

    async def script(seen: Seen, wire: Wire) -> None:
        await looked.wait()
        await wire.answer(ANSWER)

    up = await provider(script)
    outside = await nginx(await gateway(relay(up.url), ENVIRON))
    ask = {**ASK, "messages": [{"role": "user", "content": "a private prompt " * 20_000}]}
    call = asyncio.create_task(
        client.post(outside.url + "/v1/chat/completions", json=ask, headers=SHOWN["bearer"]("rs-secret")).__aenter__()
    )
    await until(lambda: bool(up.requests))
    written = [path for path in outside.folder.rglob("*") if path.is_file() and path.suffix not in (".conf", ".pem")]
    looked.set()
    response = await call
    assert response.status == 200
    await response.read()
    assert {path.name for path in written} <= {"access.log", "pid", "runestone.toml"}
    await until(lambda: "/v1/chat" in (outside.folder / "access.log").read_text())
    assert "rs-secret" not in (outside.folder / "access.log").read_text()


def test_what_the_file_says_is_what_runestone_does() -> None:
    """Its numbers go with the defaults they name."""
    text = CONF.read_text()
    server, total = Configuration().server, Configuration().routing.timeouts.total
    assert f"client_max_body_size {server.max_body};" in text
    assert text.count(f"larger than {server.max_body} bytes") == 2
    assert str(server.max_body) == MOST
    assert f"keepalive_timeout {server.keep_alive:g}s;" in text
    read = re.search(r"proxy_read_timeout (\d+)s;", text)
    kept = re.search(r"keepalive_timeout (\d+)s;  #", text)
    assert read is not None
    assert kept is not None
    assert int(read.group(1)) > total
    assert int(kept.group(1)) < server.keep_alive


def body_of(size: int) -> bytes:
    """A question of exactly so many bytes."""

    def ask(text: str) -> bytes:
        return orjson.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": text}]})

    return ask("x" * (size - len(ask(""))))


def port_of(server: FakeProvider) -> int:
    return int(server.url.rpartition(":")[2])
