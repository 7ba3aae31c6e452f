"""SSE streams that survive a lost connection: who has the id reads on after any event, exactly."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anthropic
import openai
import orjson
import pytest

from runestone.core.event_log import EventLog
from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.drill import client, scrape
from tests.flows.talk import Flood, Speaker, question
from tests.flows.test_relay_stream import DONE, ROLE, STOP, STREAMS, chunk, sliced
from tests.flows.test_websocket_drain import served
from tests.gateway import ENVIRON, Gateway, relay
from tests.process import serve
from tests.provider import FakeProvider, Seen, Wire

Standing = tuple[Gateway, FakeProvider, Speaker]
RESUMABLE = {"x-runestone-resumable": "true"}
ID = "x-runestone-stream-id"


@pytest.fixture
async def standing(gateway: StartGateway, provider: StartProvider) -> Standing:
    speaker = Speaker()
    up = await provider(speaker.script)
    return await gateway(relay(up.url), ENVIRON), up, speaker


@pytest.fixture
async def many() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as session:
        yield session


@asynccontextmanager
async def begun(
    http: aiohttp.ClientSession,
    gate: Gateway,
    text: str = "one",
    headers: dict[str, str] | None = None,
    path: str = "/v1/chat/completions",
    **more: object,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The POST that begins a stream."""
    body = question(text, stream=True, **more)
    async with http.post(gate.url + path, json=body, headers={**RESUMABLE, **(headers or {})}) as response:
        assert response.status == 200
        yield response


@asynccontextmanager
async def rejoined(
    http: aiohttp.ClientSession,
    gate: Gateway,
    stream_id: str,
    last: int | str | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    after = {"Last-Event-ID": str(last)} if last is not None else {}
    async with http.get(f"{gate.url}/v1/streams/{stream_id}", headers={**after, **(headers or {})}) as response:
        yield response


async def status_of(http: aiohttp.ClientSession, gate: Gateway, stream_id: str, **more: object) -> int:
    async with rejoined(http, gate, stream_id, **more) as response:  # type: ignore[arg-type]
        return response.status


async def read_to(response: aiohttp.ClientResponse, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        block = await response.content.readany()
        assert block, f"the stream ended before {end!r}: {got!r}"
        got += block
    return got


class EventSource:
    """What a browser's EventSource makes of the bytes, as the WHATWG standard has it: data and last event id."""

    def __init__(self) -> None:
        self.last = ""
        self.events: list[tuple[str, str]] = []
        self._rest = b""

    def feed(self, data: bytes) -> None:
        data = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, self._rest = data.split(b"\n\n")
        for event in events:
            lines = [line.partition(b":") for line in event.decode().encode().split(b"\n")]
            said = [value.removeprefix(b" ") for name, _, value in lines if name == b"data"]
            for name, _, value in lines:
                if name == b"id":
                    self.last = value.removeprefix(b" ").decode()
            if said:
                self.events.append((b"\n".join(said).decode(), self.last))


def without_ids(data: bytes) -> bytes:
    """What the provider wrote."""
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith((b"id: ", b"retry: ")))


def numbers(data: bytes) -> list[int]:
    return [int(line[4:]) for line in data.splitlines() if line.startswith(b"id: ")]


async def test_every_event_has_a_number(standing: Standing, many: aiohttp.ClientSession) -> None:
    """1, 2, 3 ... before the provider's own bytes, which are not changed; the answer has an id and is SSE."""
    gate, _, speaker = standing
    async with begun(many, gate) as response:
        assert response.headers[ID].startswith("stream_")
        assert len(response.headers[ID]) >= 32
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["x-runestone-provider"] == "up"
        speaker.say("one", "a", "b")
        speaker.end("one")
        data = await response.read()
    assert data.startswith(b"retry: 500\nid: 1\ndata: ")
    assert data.count(b"retry: ") == 1
    assert numbers(data) == list(range(1, 7))
    assert without_ids(data).startswith(ROLE + chunk({"content": "a"}) + chunk({"content": "b"}) + STOP)
    assert data.endswith(DONE)


async def test_without_asking_nothing_is_different(standing: Standing, many: aiohttp.ClientSession) -> None:
    """No id, no numbers, and a client that leaves ends the provider call within a second; `false` is no either."""
    gate, up, speaker = standing
    for headers in ({}, {"x-runestone-resumable": "false"}, {"x-runestone-resumable": "perhaps"}):
        response = await many.post(
            gate.url + "/v1/chat/completions", json=question("one", stream=True), headers=headers
        )
        assert ID not in response.headers
        assert await read_to(response, ROLE) == ROLE
        response.close()
        await until(lambda: up.open == 0, seconds=1.0)
        speaker.gone.clear()
    assert len(gate.app.live.streams) == 0


async def test_whole_answers_have_no_id(standing: Standing, many: aiohttp.ClientSession) -> None:
    """There is nothing to rejoin: neither JSON nor a refused stream."""
    gate, _, speaker = standing
    speaker.say("whole", "now")
    for body, status in ((question("whole"), 200), (question(model="nobody", stream=True), 404)):
        async with many.post(gate.url + "/v1/chat/completions", json=body, headers=RESUMABLE) as response:
            assert response.status == status
            assert ID not in response.headers
    assert len(gate.app.live.streams) == 0


async def test_a_lost_reader_goes_on_where_it_was(standing: Standing, many: aiohttp.ClientSession) -> None:
    """The provider call goes on without it; after Last-Event-ID come exactly the events it has not had, then live."""
    gate, up, speaker = standing
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        speaker.say("one", "a")
        first = await read_to(response, chunk({"content": "a"}))
        response.close()
    await until(lambda: not gate.app.live.streams._held[stream_id].readers)
    speaker.say("one", "b")
    await until(lambda: gate.app.live.streams._held[stream_id].log.last == 3)
    assert up.open == 1
    async with rejoined(many, gate, stream_id, numbers(first)[-1]) as response:
        assert response.status == 200
        assert response.headers[ID] == stream_id
        assert response.headers["Content-Type"].startswith("text/event-stream")
        missed = await read_to(response, chunk({"content": "b"}))
        assert numbers(missed) == [3]
        speaker.say("one", "c")
        speaker.end("one")
        rest = await response.read()
    assert numbers(first + missed + rest) == list(range(1, 8))
    assert without_ids(first + missed + rest).startswith(ROLE + b"".join(chunk({"content": word}) for word in "abc"))
    assert len(up.requests) == 1


async def test_without_a_number_it_comes_from_the_beginning(standing: Standing, many: aiohttp.ClientSession) -> None:
    """Also when it is over, byte for byte, as often as one likes; and after the last event there is a 204."""
    gate, _, speaker = standing
    speaker.say("one", "a", "b")
    speaker.end("one")
    async with begun(many, gate) as response:
        stream_id, data = response.headers[ID], await response.read()
    last = numbers(data)[-1]
    for after in (None, "", "0", 0):
        async with rejoined(many, gate, stream_id, after) as response:
            assert await response.read() == data
    for after in range(last):
        async with rejoined(many, gate, stream_id, after) as response:
            assert numbers(await response.read()) == list(range(after + 1, last + 1))
    async with rejoined(many, gate, stream_id, last) as response:
        assert (response.status, await response.read()) == (204, b"")


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "1 ", "\u0661", "9" * 30, "msg_1", "0x1"])
async def test_a_number_that_is_none_is_a_400(after: str, standing: Standing, many: aiohttp.ClientSession) -> None:
    """With the field's name; white space around it is HTTP's own."""
    gate, _, speaker = standing
    speaker.end("one")
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        await response.read()
    async with rejoined(many, gate, stream_id, after.encode().decode("latin-1")) as response:
        if after.strip() == "1":
            assert response.status == 200
            return
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "last-event-id"


async def test_what_is_not_there_is_a_404(standing: Standing, many: aiohttp.ClientSession) -> None:
    """Unknown streams, and events that have not been said."""
    gate, _, _ = standing
    assert await status_of(many, gate, "stream_" + "0" * 32) == 404
    assert await status_of(many, gate, "x", last=1) == 404
    async with begun(many, gate) as response:
        await read_to(response, ROLE)
        assert await status_of(many, gate, response.headers[ID], last=2) == 404
        async with many.delete(gate.url + "/v1/streams/x") as refused:
            assert refused.status == 404


KEYS = "".join(
    f'[[auth.keys]]\nname = "{name}"\nkey = "env:{name.upper()}"\n{more}'
    for name, more in (("a", 'tenant = "t"\n'), ("b", 'tenant = "t"\n'), ("anonymous", ""))
)
SECRETS = {**ENVIRON, "A": "key-a", "B": "key-b", "ANONYMOUS": "key-anonymous"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "b"), ("a", None), (None, "a"), ("anonymous", None), (None, "anonymous")],
)
async def test_another_key_finds_nothing(
    first: str | None, second: str | None, gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """404, the same words as for a stream that never was; it can neither be read nor ended."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra=KEYS), SECRETS)

    def headers(name: str | None) -> dict[str, str]:
        return {"x-api-key": f"key-{name}"} if name else {}

    async with begun(many, gate, headers=headers(first)) as response:
        stream_id = response.headers[ID]
        async with rejoined(many, gate, stream_id, headers=headers(second)) as stolen:
            assert stolen.status == 404
            told = (await stolen.json())["error"]["message"]
        async with rejoined(many, gate, "stream_" + "0" * 32, headers=headers(second)) as unknown:
            assert (await unknown.json())["error"]["message"] == told
        async with many.delete(f"{gate.url}/v1/streams/{stream_id}", headers=headers(second)) as refused:
            assert refused.status == 404
        speaker.end("one")
        assert (await response.read()).endswith(DONE)
    assert await status_of(many, gate, stream_id, headers=headers(first)) == 200


@pytest.mark.parametrize("is_read", [False, True])
async def test_delete_ends_the_provider_call(is_read: bool, standing: Standing, many: aiohttp.ClientSession) -> None:
    """Within a second; it is gone for everybody, and who was reading it hears an error event: it was cut, and says
    so.
    """
    gate, up, _ = standing
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        first = await read_to(response, ROLE)
        if not is_read:
            response.close()
        async with many.delete(f"{gate.url}/v1/streams/{stream_id}") as ended:
            assert (ended.status, await ended.read()) == (204, b"")
        await until(lambda: up.open == 0, seconds=1.0)
        assert await status_of(many, gate, stream_id) == 404
        assert len(gate.app.live.streams) == 0
        if is_read:
            rest = await response.read()
            assert b"[DONE]" not in first + rest
            assert b'"error"' in rest
    assert (await scrape(many, gate)).total("requests_total", status="499") == 1


async def test_nobody_came_back(gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession) -> None:
    """After `resumable_for` without a reader the provider call ends, and the stream is a 404; while somebody reads, it
    does not.
    """
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra='[streams]\nresumable_for = "150ms"\n'), ENVIRON)
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        await read_to(response, ROLE)
        async with begun(many, gate, "other") as other:
            await read_to(other, ROLE)
            response.close()
            await until(lambda: speaker.gone == {"one"}, seconds=1.5)
            assert await status_of(many, gate, stream_id) == 404
            assert up.open == 1
            speaker.end("other")
            assert (await other.read()).endswith(DONE)
            assert await status_of(many, gate, other.headers[ID], last=1) == 200
    await until(lambda: len(gate.app.live.streams) == 0, seconds=1.5)
    assert gate.app.running.streams == 0


async def test_who_comes_back_in_time_resets_the_clock(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """A reader that is lost again and again, each time for less than `resumable_for`."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra='[streams]\nresumable_for = "400ms"\n'), ENVIRON)
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        await read_to(response, ROLE)
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 0.8:
        speaker.say("one", ".")
        async with rejoined(many, gate, stream_id, 1) as response:
            assert response.status == 200
            assert await response.content.readany()
            response.close()
    assert up.open == 1


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_provider_that_fails_is_the_last_event(
    is_there: bool, standing: Standing, many: aiohttp.ClientSession
) -> None:
    """Whether somebody reads in that moment or comes later: an error event with the next number, no [DONE], and then
    nothing more, which is a 204.
    """
    gate, up, _ = standing
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        data = await read_to(response, ROLE)
        if is_there:
            up.kill()
            data += await response.read()
    if not is_there:
        up.kill()
        await until(lambda: gate.app.live.streams._held[stream_id].is_over)
    async with rejoined(many, gate, stream_id) as response:
        again = await response.read()
        assert again.startswith(data)
    assert numbers(again) == [1, 2]
    error = orjson.loads(again.rpartition(b"data: ")[2])["error"]
    assert (error["type"], error["code"]) == ("api_error", "provider_error")
    assert b"[DONE]" not in again
    assert await status_of(many, gate, stream_id, last=2) == 204


@pytest.mark.parametrize("how", ["whole", "bytes", "random"])
@pytest.mark.parametrize("name", [*(name for name in STREAMS if "megabyte" not in name), "bom", "lone CR"])
async def test_whatever_a_stream_looks_like_it_can_be_cut_after_every_event(
    name: str, how: str, gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """A browser's EventSource that is cut after each event hears the same as one that is not: CRLF, comments, ids of
    the provider's own, a byte order mark, an end without line breaks.
    """
    events = ROLE + chunk({"content": "a"}) + STOP + DONE
    stream = {**STREAMS, "bom": b"\xef\xbb\xbf" + events, "lone CR": events.replace(b"\n", b"\r")}[name]

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for piece in sliced(stream, how):
            await wire.chunk(piece)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url), ENVIRON)
    expected = EventSource()
    expected.feed(stream.removeprefix(b"\xef\xbb\xbf").rstrip() + b"\n\n")
    async with begun(many, gate) as response:
        stream_id, whole = response.headers[ID], await response.read()
    source = EventSource()
    source.feed(whole)
    assert [data for data, _ in source.events] == [data for data, _ in expected.events]
    heard, last = [], "0"
    while True:
        async with rejoined(many, gate, stream_id, last) as response:
            if response.status == 204:
                break
            assert response.status == 200, (last, await response.text())
            one = EventSource()
            one.feed(await response.read())
            heard.append(one.events[0])
            assert heard[-1][1] != last, "each event moves on"
            last = heard[-1][1]
    assert [data for data, _ in heard] == [data for data, _ in expected.events]


async def test_events_larger_than_all_that_is_kept(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """Images come as one event: each passes, and who is lost in between goes on with the next one."""
    flood = Flood(3_000_000, block=500_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra='[streams]\nmax_kept = "100KB"\n'), ENVIRON)
    async with begun(many, gate) as response:
        async with asyncio.timeout(5):
            data = await response.read()
    assert numbers(data) == list(range(1, len(flood.blocks) + 5))
    assert b"".join(flood.blocks) in without_ids(data)


async def test_cut_after_every_byte(standing: Standing, many: aiohttp.ClientSession) -> None:
    """Of what a connection brought only whole events count; the rest comes again, and the text is exact."""
    gate, _, speaker = standing
    speaker.say("one", "a", "b")
    speaker.end("one")
    async with begun(many, gate) as response:
        stream_id, whole = response.headers[ID], await response.read()
    for cut in range(0, len(whole), 3):
        had = whole[: whole.rfind(b"\n\n", 0, cut) + 2] if b"\n\n" in whole[:cut] else b""
        last = numbers(had)[-1] if had else 0
        async with rejoined(many, gate, stream_id, last) as response:
            assert had + await response.read() == whole


async def test_cut_while_it_runs(standing: Standing, many: aiohttp.ClientSession) -> None:
    """Twenty streams, each cut after every event it has brought, while they go on: the texts are exact."""
    gate, up, speaker = standing
    words = [f"{number} " for number in range(10)]

    async def follow(name: str) -> bytes:
        async with begun(many, gate, name) as response:
            stream_id = response.headers[ID]
            heard = await read_to(response, b"\n\n")
        while True:
            last = numbers(heard)[-1]
            async with rejoined(many, gate, stream_id, last) as response:
                if response.status == 204:
                    return heard
                got = await response.content.readuntil(b"\n\n")
                assert numbers(got) == [last + 1]
                heard += got
                response.close()

    names = [f"q{number}" for number in range(20)]
    following = [asyncio.ensure_future(follow(name)) for name in names]
    for word in words:
        for name in names:
            speaker.say(name, f"{name}: {word}")
        await asyncio.sleep(0.005)
    for name in names:
        speaker.end(name)
    for name, heard in zip(names, await asyncio.gather(*following), strict=True):
        expected = ROLE + b"".join(chunk({"content": f"{name}: {word}"}) for word in words) + STOP
        assert without_ids(heard).startswith(expected)
        assert heard.endswith(DONE)
    assert len(up.requests) == 20


async def test_a_reader_of_a_silent_stream_is_answered(standing: Standing, many: aiohttp.ClientSession) -> None:
    """The provider thinks: who comes back hears at once that the stream is there, not only with its next event."""
    gate, _, speaker = standing
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        await read_to(response, ROLE)
    async with asyncio.timeout(2):
        async with rejoined(many, gate, stream_id, 1) as response:
            assert response.status == 200
            speaker.end("one")
            assert (await response.read()).endswith(DONE)


async def test_two_readers_at_once(standing: Standing, many: aiohttp.ClientSession) -> None:
    """Each from where it says, live; one that goes does not end the other's."""
    gate, up, speaker = standing
    async with begun(many, gate) as first:
        stream_id = first.headers[ID]
        await read_to(first, ROLE)
        speaker.say("one", "a")
        await read_to(first, chunk({"content": "a"}))
        async with rejoined(many, gate, stream_id) as second, rejoined(many, gate, stream_id, 1) as third:
            assert numbers(await read_to(second, chunk({"content": "a"}))) == [1, 2]
            assert numbers(await read_to(third, chunk({"content": "a"}))) == [2]
            first.close()
            speaker.say("one", "b")
            speaker.end("one")
            assert await second.read() == await third.read()
    assert len(up.requests) == 1


@asynccontextmanager
async def stalled(gate: Gateway, path: str, body: bytes = b"") -> AsyncIterator[socket.socket]:
    """A reader that reads nothing, and does not go."""
    method = b"POST" if body else b"GET"
    head = b"%b %b HTTP/1.1\r\nHost: x\r\nx-runestone-resumable: true\r\ncontent-type: application/json\r\n"
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", gate.port))
        data = head % (method, path.encode()) + b"content-length: %d\r\n\r\n" % len(body) + body
        await loop.sock_sendall(sock, data)
        yield sock


async def test_with_nobody_there_a_fast_provider_waits(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """Of 24 MB `max_kept` is kept, the provider is slowed down, and who comes back has all of it."""
    flood = Flood(24_000_000)
    flood.go.clear()
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with begun(many, gate) as response:
        stream_id = response.headers[ID]
        first = await response.content.readuntil(b"\n\n")
        response.close()
    await until(lambda: not gate.app.live.streams._held[stream_id].readers)
    flood.go.set()
    stopped = await settled(lambda: flood.sent)
    assert stopped < 16_000_000
    held = gate.app.live.streams._held[stream_id]
    assert held.log._size < 2_000_000
    async with rejoined(many, gate, stream_id, 1) as response:
        data = first + await response.read()
    assert numbers(data) == list(range(1, len(flood.blocks) + 5))
    assert b"".join(flood.blocks) in without_ids(data)


async def test_a_reader_that_is_stuck_holds_nobody_up(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """A network that lost a connection without a word is why clients come back: the old connection is there still and
    takes nothing, and the new one has the whole stream.
    """
    flood = Flood(20_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    body = orjson.dumps(question(stream=True))
    async with stalled(gate, "/v1/chat/completions", body):
        await until(lambda: len(gate.app.live.streams) == 1)
        (stream_id,) = gate.app.live.streams._held
        await settled(lambda: flood.sent)
        held = gate.app.live.streams._held[stream_id]
        async with rejoined(many, gate, stream_id, held.log.first - 1) as response:
            async with asyncio.timeout(5):
                data = await response.read()
            assert data.endswith(DONE)


async def test_what_a_lost_connection_held_can_be_read_again(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """A slow reader of a fast stream: what its socket held when it was lost is less than what is kept, so it reads on
    from the event it had.
    """
    flood = Flood(30_000_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url), ENVIRON)
    body = orjson.dumps(question(stream=True))
    async with stalled(gate, "/v1/chat/completions", body) as sock:
        loop, got = asyncio.get_running_loop(), b""
        while got.count(b"\nid: ") < 3:
            got += await loop.sock_recv(sock, 4096)
        (stream_id,) = gate.app.live.streams._held
        await settled(lambda: flood.sent)
    had = numbers(got)[-2]
    async with rejoined(many, gate, stream_id, had) as response:
        assert response.status == 200, await response.text()
        assert numbers(await response.read()) == list(range(had + 1, len(flood.blocks) + 5))


async def test_what_is_not_kept_any_more_is_a_404(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """An id so old that what came after it is gone: never a stream with a hole."""
    flood = Flood(1_000_000, block=10_000)
    up = await provider(flood.script)
    gate = await gateway(relay(up.url, extra='[streams]\nmax_kept = "100KB"\n'), ENVIRON)
    async with begun(many, gate) as response:
        stream_id, data = response.headers[ID], await response.read()
    last = numbers(data)[-1]
    kept = [after for after in range(last + 1) if await status_of(many, gate, stream_id, last=after) != 404]
    assert kept == list(range(kept[0], last + 1))
    assert 5 < len(kept) < 20
    async with rejoined(many, gate, stream_id, kept[0]) as response:
        assert numbers(await response.read()) == list(range(kept[0] + 1, last + 1))
    assert await status_of(many, gate, stream_id) == 404


async def test_only_so_many_are_kept(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """`max_streams`: beyond it a stream is one like any other, and says so by no id; those that are over make room."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[streams]\nmax_streams = 2\n"), ENVIRON)
    async with begun(many, gate, "one") as one, begun(many, gate, "two") as two, begun(many, gate, "three") as three:
        assert {one.headers[ID], two.headers[ID]} == set(gate.app.live.streams._held)
        assert ID not in three.headers
        speaker.end("three")
        assert numbers(await three.read()) == []
        speaker.end("one")
        await one.read()
        async with begun(many, gate, "four") as four:
            assert ID in four.headers
            assert await status_of(many, gate, one.headers[ID]) == 404
            speaker.end("four")
            await four.read()


async def test_it_can_be_so_for_all(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """`[streams] resumable = true`: without the header too; `false` in the header says no."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[streams]\nresumable = true\n"), ENVIRON)
    for headers, is_kept in (({}, True), ({"x-runestone-resumable": "false"}, False)):
        speaker.end("one")
        body = question("one", stream=True)
        async with many.post(gate.url + "/v1/chat/completions", json=body, headers=headers) as response:
            assert (ID in response.headers) is is_kept
            assert bool(numbers(await response.read())) is is_kept


async def test_an_answer_from_memory_can_be_rejoined_too(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """Hit or miss, collapsed or not: a stream is a stream. Nothing of the numbers is kept in the cache."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url, extra="[cache]\n"), ENVIRON)
    speaker.say("one", "a")
    speaker.end("one")
    async with begun(many, gate) as response:
        first = await response.read()
    async with begun(many, gate) as response:
        assert "hit" in response.headers["Cache-Status"]
        stream_id, second = response.headers[ID], await response.read()
    async with rejoined(many, gate, stream_id, 1) as response:
        assert second.endswith(await response.read())
    async with begun(many, gate, headers={"x-runestone-resumable": "false"}) as response:
        plain = await response.read()
    assert without_ids(second) == without_ids(first) == plain
    assert len(up.requests) == 1


def anthropic_event(name: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))


MESSAGE = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None}
ANTHROPIC = [
    anthropic_event("message_start", message={**MESSAGE, "usage": {"input_tokens": 3, "output_tokens": 1}}),
    anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    anthropic_event("ping"),
    anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hel"}),
    anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"}),
    anthropic_event("content_block_stop", index=0),
    anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    anthropic_event("message_stop"),
]


@pytest.mark.parametrize("end", ["whole", "cut"])
async def test_messages_of_anthropic_can_be_rejoined(
    end: str, gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """Each event keeps its name and its bytes behind its number; a cut one ends in Anthropic's own error event."""
    said = ANTHROPIC if end == "whole" else ANTHROPIC[:4]

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for event in said:
            await wire.chunk(event)
        if end == "whole":
            await wire.end_stream()
        else:
            wire.close()

    up = await provider(script)
    gate = await gateway(relay(up.url, dialect="anthropic"), ENVIRON)
    async with begun(many, gate, path="/v1/messages", max_tokens=9) as response:
        stream_id, whole = response.headers[ID], await response.read()
    assert without_ids(whole).startswith(b"".join(said))
    count = len(said) + (end == "cut")
    assert numbers(whole) == list(range(1, count + 1))
    for after in range(count):
        async with rejoined(many, gate, stream_id, after) as response:
            assert whole.endswith(await response.read())
    if end == "cut":
        last = whole.rpartition(b"id: 5\n")[2]
        assert last.startswith(b"event: error\ndata: ")
        assert orjson.loads(last.partition(b"data: ")[2])["error"]["type"] == "api_error"


async def test_both_sdks_read_numbered_streams(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession
) -> None:
    """The numbers do not disturb them."""

    async def script(seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for event in ANTHROPIC:
            await wire.chunk(event)
        await wire.end_stream()

    up = await provider(script)
    gate = await gateway(relay(up.url, dialect="anthropic", extra="[streams]\nresumable = true\n"), ENVIRON)
    messages = [{"role": "user", "content": "hi"}]
    async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key="any", max_retries=0) as sdk:
        stream = await sdk.chat.completions.create(model="m", messages=messages, stream=True)  # type: ignore[call-overload]
        assert "".join([part.choices[0].delta.content or "" async for part in stream if part.choices]) == "hello"
    async with (
        anthropic.AsyncAnthropic(base_url=gate.url, api_key="any", max_retries=0) as other,
        other.messages.stream(model="m", max_tokens=9, messages=messages) as told,  # type: ignore[arg-type]
    ):
        assert await told.get_final_text() == "hello"


async def test_a_draining_gateway_tells_readers(provider: StartProvider, tmp_path: Path) -> None:
    """Who reads a stream that outlasts the drain hears an error event; one that nobody reads holds nothing up."""
    speaker = Speaker()
    up = await provider(speaker.script)
    async with client() as http, serve(served(up, drain="300ms"), tmp_path) as gate:
        async with begun(http, gate, "one") as one, begun(http, gate, "two") as two:  # type: ignore[arg-type]
            data = await read_to(one, ROLE)
            await read_to(two, ROLE)
            two.close()
            gate.signal(signal.SIGTERM)
            rest = await one.read()
        assert await gate.ended() == 0
    assert b"[DONE]" not in data + rest
    assert b'"service_unavailable"' in rest
    assert rest.count(b'"error"') == 1
    await until(lambda: up.open == 0)


async def test_our_own_fault_is_no_clean_end(
    gateway: StartGateway, provider: StartProvider, many: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw, in the middle of a stream: an error event with the request's id and nothing else."""
    speaker = Speaker()
    up = await provider(speaker.script)
    gate = await gateway(relay(up.url), ENVIRON)
    async with begun(many, gate) as response:
        await read_to(response, ROLE)

        def fails(self: EventLog, event: bytes) -> None:
            monkeypatch.undo()
            raise KeyError("a secret")

        monkeypatch.setattr(EventLog, "put", fails)
        speaker.say("one", "a")
        rest = await response.read()
    assert b"internal error; the request id is " in rest
    assert b"secret" not in rest
    assert b"[DONE]" not in rest
