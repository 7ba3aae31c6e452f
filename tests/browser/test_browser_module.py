"""/runestone.js in a real browser: exact through cuts, bounded, and quiet about keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from runestone.core.keys import digest
from tests.browser.chromium import Page, PageError
from tests.browser.conftest import StartProxy
from tests.browser.proxy import Proxy
from tests.conftest import StartGateway, StartProvider, settled, until
from tests.flows.test_relay_stream import DONE, ROLE, STOP, USAGE, chunk
from tests.gateway import ENVIRON, relay
from tests.provider import FakeProvider, Seen, Wire

pytestmark = pytest.mark.xdist_group("browser")

WORDS = [f"wörd {number}, " for number in range(300)]
TEXT = "".join(WORDS)
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
RESUMED = "session:resumed"
KEY = "rs-browser-key-1"
OPEN = """
const { Client } = await import("/runestone.js");
window.states = [];
window.open = async (options, url) => {
  const session = new Client({ url, ...options }).session(options);
  session.addEventListener("state", ({ detail }) => states.push(detail.state));
  await session.connected;
  return session;
};
window.ask = args[0];
window.read = async (stream) => { let text = ""; for await (const piece of stream) text += piece; return text; };
"""
Up = tuple[Page, Proxy, FakeProvider]
StartUp = Callable[..., Awaitable[Up]]


class Told:
    """A provider whose streams say what it is told, and that knows when they were left."""

    def __init__(self) -> None:
        self.left = 0
        self._says: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, *words: str, end: bool = False) -> None:
        for word in words:
            self._says.put_nowait(word)
        if end:
            self._says.put_nowait(None)

    async def script(self, seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        await wire.chunk(ROLE)
        leaving = asyncio.ensure_future(wire.left(30))
        while not leaving.done():
            saying = asyncio.ensure_future(self._says.get())
            await asyncio.wait((saying, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not saying.done():
                saying.cancel()
                break
            word = saying.result()
            if word is None:
                leaving.cancel()
                await asyncio.wait((leaving,))  # the connection may be read again
                await wire.chunk(STOP + USAGE + DONE)
                await wire.end_stream()
                return
            await wire.chunk(chunk({"content": word}))
        self.left += 1
        wire.close()


class Much:
    """A provider that says 30 MB: more than all sockets on the way hold."""

    count = 1500
    text = "".join(f"{number} {'x' * 20_000}" for number in range(count))

    def __init__(self) -> None:
        self.sent = 0

    async def script(self, seen: Seen, wire: Wire) -> None:
        await wire.begin_stream()
        for number in range(self.count):
            await wire.chunk(chunk({"content": f"{number} {'x' * 20_000}"}))
            self.sent += 1
        await wire.chunk(STOP + DONE)
        await wire.end_stream()


async def words(seen: Seen, wire: Wire) -> None:
    """All of TEXT, a word an event; as JSON where no stream was asked for."""
    if not seen.json.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
        await wire.answer({"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice]})
        return
    await wire.begin_stream()
    for event in (ROLE, *(chunk({"content": word}) for word in WORDS), STOP + USAGE + DONE):
        await wire.chunk(event)
    await wire.end_stream()


@pytest.fixture
async def up(page: Page, provider: StartProvider, gateway: StartGateway, proxy: StartProxy) -> StartUp:
    """`await up(script, extra)`: a page in the origin of a proxy before a gateway before a provider."""

    async def start(script: Callable[[Seen, Wire], Awaitable[None]] = words, extra: str = "") -> Up:
        source = await provider(script)
        way = await proxy(await gateway(relay(source.url, extra=extra), ENVIRON))
        await page.open(way.url + "/health")
        await page.run(OPEN, ASK)
        return page, way, source

    return start


async def test_a_whole_answer(up: StartUp) -> None:
    """chat() gives the completion; what the gateway refuses is a Refused with its code and status."""
    page, _, _ = await up()
    answer = await page.run("return new (await import('/runestone.js')).Client().chat(ask)")
    assert answer["choices"][0]["message"]["content"] == TEXT
    told = await page.run(
        "const { Client, Refused } = await import('/runestone.js');"
        "return new Client().chat({ ...ask, model: 'nowhere/x' })"
        ".catch((error) => [error instanceof Refused, error.name, error.code, error.status])"
    )
    assert told == [True, "Refused", "model_not_found", 404]


async def test_a_stream_over_http_is_exact_through_cuts(up: StartUp) -> None:
    """Cut three times, in the middle of events: the same text, each event once, and the provider was asked once."""
    page, proxy, source = await up()
    proxy.cuts.extend((9_000, 1_500, 7_001))
    told = await page.run(
        "const stream = new (await import('/runestone.js')).Client().stream(ask);"
        "const chunks = []; for await (const chunk of stream.chunks()) chunks.push(chunk);"
        "const texts = chunks.map((one) => one.choices[0]?.delta.content ?? null);"
        "return [texts, stream.finishReason, stream.usage, stream.id]"
    )
    assert proxy.cut == 3
    assert told[0] == [None, *WORDS, None, None]
    assert (told[1], told[2]["total_tokens"]) == ("stop", 5)
    assert told[3].startswith("stream_")
    assert len(source.requests) == 1


async def test_a_stream_over_http_asks_for_what_comes_next(up: StartUp) -> None:
    """After a loss only what follows the last event is asked for, and what is said meanwhile is not missed."""
    told = Told()
    page, proxy, _ = await up(told.script)
    told.say("a", "b")
    await page.run(
        "window.text = ''; window.stream = new (await import('/runestone.js')).Client().stream(ask);"
        "window.reading = (async () => { for await (const piece of stream) text += piece; })();"
    )
    await seen(page, "return text === 'ab'")
    proxy.lose()
    told.say("c", end=True)
    assert await page.run("await reading; return text") == "abc"
    assert b"\r\nlast-event-id: 3\r\n" in proxy.heard.lower()


async def test_a_stream_over_http_that_nobody_finds_again_ends_in_an_error(up: StartUp) -> None:
    """When no connection comes for `giveUpAfter`, the reader has what came, then ConnectionLost."""
    told = Told()
    page, proxy, _ = await up(told.script)
    told.say("a", "b")
    await page.run(
        "window.text = ''; window.reading = (async () => {"
        "  const stream = new (await import('/runestone.js')).Client({ giveUpAfter: 500 }).stream(ask);"
        "  for await (const piece of stream) text += piece; })(); reading.catch(() => {});"
    )
    await seen(page, "return text === 'ab'")
    proxy.is_refusing = True
    proxy.lose()
    with pytest.raises(PageError) as failure:
        await page.run("await reading")
    assert (failure.value.name, failure.value.code) == ("ConnectionLost", "connection_lost")


@pytest.mark.parametrize("how", ["http", "session"])
async def test_leaving_the_loop_ends_the_providers_call(how: str, up: StartUp) -> None:
    """A break tells the gateway, which would go on otherwise, since the stream is resumable."""
    told = Told()
    page, _, _ = await up(told.script)
    told.say("a")
    begin = {
        "http": "const stream = new (await import('/runestone.js')).Client().stream(ask);",
        "session": "const stream = await (await open()).stream(ask);",
    }
    await page.run(begin[how] + "for await (const piece of stream) break;")
    await until(lambda: told.left == 1)


async def test_a_native_event_source_reads_on_by_itself(up: StartUp) -> None:
    """The browser's own EventSource has each event of a cut stream once, and stops after the last (204)."""
    page, proxy, source = await up()
    identity = await page.run(
        "const headers = { 'content-type': 'application/json', 'x-runestone-resumable': 'true' };"
        "const body = JSON.stringify({ ...ask, stream: true });"
        "const response = await fetch('/v1/chat/completions', { method: 'POST', body, headers });"
        "await response.body.cancel(); return response.headers.get('x-runestone-stream-id')"
    )
    proxy.cuts.append(20_000)
    told = await page.run(
        "const source = new EventSource(`/v1/streams/${args[0]}`); const heard = []; let opened = 0;"
        "source.onopen = () => { opened += 1; };"
        "source.onmessage = ({ lastEventId, data }) => heard.push([Number(lastEventId), data]);"
        "await new Promise((over) => { source.onerror = () => source.readyState === EventSource.CLOSED && over(); });"
        "return [heard, opened]",
        identity,
    )
    heard, opened = told
    assert (proxy.cut, opened) == (1, 2)
    assert [number for number, _ in heard] == list(range(1, len(heard) + 1))
    data = [text for _, text in heard]
    assert data.pop() == "[DONE]"
    assert [event["choices"][0]["delta"].get("content") for event in map(orjson.loads, data[1:-2])] == WORDS
    assert len(source.requests) == 1


async def test_a_session_is_exact_through_cuts(up: StartUp) -> None:
    """Cut three times: each stream has its text, each whole answer comes once, and nothing is asked twice."""
    page, proxy, source = await up()
    await page.run("window.session = await open()")
    proxy.cuts.extend((4_000, 700, 5_000))
    told = await page.run(
        "const streams = await Promise.all([session.stream(ask), session.stream(ask)]);"
        "const texts = await Promise.all(streams.map(read));"
        "const { choices } = await session.chat(ask);"
        "const end = (one) => [one.isOver, one.finishReason, one.usage.total_tokens, one.response.provider];"
        "return [[...texts, choices[0].message.content], streams.map(end)]"
    )
    assert proxy.cut == 3
    assert told == [[TEXT] * 3, [[True, "stop", 5, "up"]] * 2]
    assert len(source.requests) == 3
    await seen(page, "return session.state === 'resumed'")
    assert set(await page.run("return states")) == {"connected", "connecting", "resumed"}


async def test_a_paused_stream_is_not_read_until_it_is_resumed(up: StartUp) -> None:
    """While it is paused the provider is held back; resumed, it is exact."""
    much = Much()
    page, _, _ = await up(much.script)
    await page.run(
        "window.stream = await (await open({ maxBuffered: 1e9 })).stream(ask);"
        "await stream.pause(); window.reading = read(stream);"
    )
    assert await settled(lambda: much.sent) < much.count
    assert await page.run("await stream.resume(); return [...(await reading).matchAll(/\\d+/g)].map(Number)") == [
        *range(much.count)
    ]


async def test_a_cancelled_stream_just_ends(up: StartUp) -> None:
    """cancel() ends the provider's call and the loop; pause, resume and cancel are then without effect."""
    told = Told()
    page, _, _ = await up(told.script)
    told.say("a")
    await page.run("window.text = ''; window.stream = await (await open()).stream(ask);")
    await page.run("window.reading = (async () => { for await (const piece of stream) text += piece; })();")
    await seen(page, "return text === 'a'")
    facts = await page.run("await stream.cancel(); await reading; return [text, stream.isOver, stream.cancelled]")
    assert facts == ["a", True, True]
    await until(lambda: told.left == 1)
    await page.run("await stream.pause(); await stream.resume(); await stream.cancel();")


async def test_an_unread_stream_is_paused_and_loses_nothing(up: StartUp) -> None:
    """What is not read holds the provider back, at a bound; read later, the text is exact."""
    much = Much()
    page, _, _ = await up(much.script)
    await page.run("window.stream = await (await open({ maxBuffered: 200_000 })).stream(ask)")
    assert 0 < await settled(lambda: much.sent) < much.count
    text = await page.run("const text = await read(stream); return [text.length, text.replaceAll('x', '')]")
    assert text == [len(much.text), much.text.replace("x", "")]


async def test_a_room_hears_a_stream(up: StartUp) -> None:
    """Who is there hears all of it, who comes later what was said so far and the rest; who began it does not hear it
    twice, and who left hears no more.
    """
    told = Told()
    page, _, _ = await up(told.script)
    told.say("a")
    await page.run(
        "const [host, guest] = [await open(), await open()];"
        "const hosts = await host.join('r'); const guests = await guest.join('r');"
        "if (await guest.join('r') !== guests || guests.members !== 2) throw new Error('joined twice');"
        "window.mine = await host.stream({ ...ask, room: 'r' });"
        "window.heard = []; hosts[Symbol.asyncIterator]().next().then(() => heard.push('mine'), () => {});"
        "const next = async (room) => (await room[Symbol.asyncIterator]().next()).value;"
        "const theirs = await next(guests);"
        "window.texts = [read(mine), read(theirs)];"
        "Object.assign(window, { late: await open(), next, leaver: guests });"
        "window.facts = [theirs.room, theirs.isMine, theirs.id === mine.id];"
    )
    assert await page.run("return facts") == ["r", False, True]
    told.say("b")
    text = await page.run(
        "const room = await late.join('r'); const stream = await next(room);"
        "const texts = stream[Symbol.asyncIterator](); window.lateTexts = texts;"
        "let text = ''; while (text !== 'ab') text += (await texts.next()).value; return text"
    )
    assert text == "ab"
    left = await page.run("await leaver.leave(); return texts[1]")
    assert left == "ab"
    told.say("c", end=True)
    rest = "let text = ''; for (let one; !(one = await lateTexts.next()).done; ) text += one.value;"
    assert await page.run(rest + "return [text, await texts[0], heard]") == ["c", "abc", []]


async def test_a_key_goes_by_sub_protocol(up: StartUp) -> None:
    """A good key opens a session and answers; nothing of it is to be seen in the client or the URL."""
    page, _, _ = await up(extra=f'\n[auth]\nrequired = true\n[[auth.keys]]\nname = "k"\nsha256 = "{digest(KEY)}"\n')
    told = await page.run(
        "const { Client } = await import('/runestone.js'); const client = new Client({ key: args[0] });"
        "const session = client.session(); await session.connected;"
        "const texts = [await read(await session.stream(ask)), await read(client.stream(ask))];"
        "return [texts, JSON.stringify([client, session, Object.entries(client), Object.entries(session)])]",
        KEY,
    )
    assert told[0] == [TEXT, TEXT]
    assert KEY not in told[1]


async def test_a_key_that_is_not_known_is_refused_once(up: StartUp) -> None:
    """The reason arrives, nothing is tried again, and no error holds the key."""
    page, proxy, _ = await up(extra=f'\n[auth]\nrequired = true\n[[auth.keys]]\nname = "k"\nsha256 = "{digest(KEY)}"\n')
    opened = proxy.opened
    told = await page.run(
        "const { Client } = await import('/runestone.js'); const errors = []; const states = [];"
        "for (const key of [args[0], undefined, args[1]]) {"
        "  const client = new Client({ key });"
        "  await client.chat(ask).catch((error) => errors.push(error));"
        "  try { const session = client.session();"
        "    session.addEventListener('state', ({ detail }) => states.push(detail.state));"
        "    await session.connected; } catch (error) { errors.push(error); }"
        "}"
        "const told = (one) => [one.name, one.code, one.closeCode ?? one.status ?? null, one.message];"
        "return [errors.map(told), states, errors.map((error) => error.stack + JSON.stringify(error)).join()]",
        "rs-unknown-secret",
        "rs bad secret",
    )
    errors, states, all_of_it = told
    assert [error[:3] for error in errors] == [
        ["Refused", "invalid_api_key", 401],
        ["Refused", "connection_refused", 1008],
        ["Refused", "missing_authorization", 401],
        ["Refused", "connection_refused", 1008],
        ["Refused", "invalid_api_key", 401],
        ["Refused", "invalid_api_key", None],
    ]
    assert errors[1][3]
    assert states == ["closed", "closed"]
    assert "secret" not in all_of_it
    assert proxy.opened - opened <= 2 + len(errors)


@pytest.mark.parametrize("origins", ['["*"]', '["http://pages.example"]'])
async def test_pages_of_other_origins_need_leave(origins: str, up: StartUp) -> None:
    """A page of a listed origin may do everything; one of another reads no answer and is refused with the reason."""
    page, proxy, source = await up(extra=f"\n[server]\ncors_origins = {origins}\n")
    is_listed = origins == '["*"]'
    url = f"http://127.0.0.1:{proxy.to}"
    told = await page.run(
        "const { Client } = await import(args[1] + '/runestone.js');"
        "const client = new Client({ giveUpAfter: 300, ...args[0] });"
        "const note = ({ code, message }) => [code, message];"
        "const asked = [client.chat(ask).then((one) => one.choices[0].message.content), read(client.stream(ask)),"
        "  client.session().stream(ask).then(read)];"
        "return [client.url, ...(await Promise.all(asked.map((one) => one.catch(note))))]",
        {} if is_listed else {"url": url},
        url if is_listed else "",
    )
    assert told.pop(0) == url
    if is_listed:
        assert told == [TEXT] * 3
    else:
        assert [code for code, _ in told] == ["connection_lost", "connection_lost", "connection_refused"]
        assert "cors_origins" in told[2][1]
        assert source.requests == []


async def test_what_is_sent_without_a_connection_waits_up_to_a_bound(up: StartUp) -> None:
    """One message more than `maxQueued` is refused at once; the others arrive once each, when there is a connection."""
    page, proxy, source = await up()
    await page.run("window.session = await open({ maxQueued: 5 })")
    proxy.is_refusing = True
    proxy.lose()
    await seen(page, "return session.state === 'connecting'")
    code = await page.run(
        "window.answers = [1, 2, 3, 4, 5].map(() => session.chat(ask));"
        "return session.chat(ask).catch((error) => [error.name, error.code])"
    )
    assert code == ["QueueFull", "queue_full"]
    proxy.is_refusing = False
    told = await page.run("return (await Promise.all(answers)).map((one) => one.choices[0].message.content)")
    assert told == [TEXT] * 5
    assert len(source.requests) == 5


async def test_a_connection_that_does_not_come_back_is_given_up(up: StartUp) -> None:
    """After `giveUpAfter` what waits ends in ConnectionLost, the session is closed, and nothing more can be sent."""
    told = Told()
    page, proxy, _ = await up(told.script)
    await page.run("window.session = await open({ giveUpAfter: 400 }); window.stream = await session.stream(ask);")
    proxy.is_refusing = True
    proxy.lose()
    codes = await page.run(
        "const codes = []; const note = (error) => codes.push([error.name, error.code]);"
        "await read(stream).catch(note); await session.chat(ask).catch(note); await session.connected;"
        "return [codes, session.state]"
    )
    assert codes == [[["ConnectionLost", "connection_lost"], ["ConnectionLost", "closed"]], "closed"]


async def test_a_gateway_that_falls_silent_is_left(up: StartUp) -> None:
    """A connection that is open and dead is noticed by its pings, and the session goes on with another."""
    told = Told()
    page, proxy, _ = await up(told.script)
    await page.run("window.session = await open({ pingEvery: 200 }); window.stream = await session.stream(ask);")
    proxy.freeze()
    told.say("a", "b", end=True)
    assert await page.run("return read(stream)") == "ab"
    assert await page.run("return states") == ["connected", "connecting", "resumed"]


async def test_a_session_that_is_lost_says_so_and_goes_on_anew(up: StartUp) -> None:
    """What the gateway knows no more ends in SessionLost, never silently; then the session can be used again."""
    page, proxy, _ = await up(Told().script, extra='\n[websocket]\nresumable_for = "0s"\n')
    await page.run("window.session = await open(); window.stream = await session.stream(ask)")
    proxy.lose()
    name = await page.run(
        "return read(stream).catch(async (error) => { const { members } = await session.join('r');"
        "  return [error.name, error.code, states, members]; })"
    )
    assert name == ["SessionLost", "session_lost", ["connected", "connecting", "lost"], 1]


async def test_close_ends_what_runs(up: StartUp) -> None:
    """close() does not leave the provider working for a session that nobody will resume."""
    told = Told()
    page, _, _ = await up(told.script)
    told.say("a")
    code = await page.run(
        "const session = await open(); const stream = await session.stream(ask);"
        "const texts = stream[Symbol.asyncIterator](); await texts.next(); session.close();"
        "return texts.next().catch((error) => [error.code, session.state])"
    )
    assert code == ["closed", "closed"]
    await until(lambda: told.left == 1)


@pytest.fixture
async def liar(stack: Any) -> Callable[..., Awaitable[tuple[str, list[list[Any]]]]]:
    """`await liar(*talk)`: a WebSocket server that says in its n-th connection what `talk[n]` is, each after as many
    messages of the client as stand with it, and closes where that says so; its URL, and what each connection was sent.
    """

    async def start(*talk: list[tuple[int, list[dict[str, Any]]]]) -> tuple[str, list[list[Any]]]:
        got: list[list[Any]] = []

        async def handle(request: web.Request) -> web.WebSocketResponse:
            ws = web.WebSocketResponse(protocols=("runestone",))
            await ws.prepare(request)
            mine: list[Any] = []
            got.append(mine)
            for count, messages in talk[min(len(got), len(talk)) - 1]:
                while len(mine) < count:
                    mine.append(await ws.receive_json())
                for message in messages:
                    if "close" in message:
                        await ws.close(code=message["close"], message=b"because")
                        return ws
                    await ws.send_json({"ref": mine[0]["ref"], **message} if message["event"] == RESUMED else message)
            while (await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            return ws

        app = web.Application()
        app.router.add_get("/ws", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}", got

    return start


def hello(identity: str) -> dict[str, Any]:
    return {"event": "connected", "seq": 1, "payload": {"session_id": identity, "resumable_for": 9}}


async def test_a_gap_is_asked_for_again_and_what_came_twice_is_told_once(up: StartUp, liar: Any) -> None:
    """After a missing number the client resumes from the last one it has; a number it has had is passed over."""
    page, _, _ = await up()

    def piece(seq: int, text: str) -> dict[str, Any]:
        return {"event": "stream:chunk", "seq": seq, "payload": {"stream_id": "s", "chunk": text, "index": seq}}

    started = {"event": "stream:started", "seq": 2, "ref": 1, "payload": {"stream_id": "s", "model": "m"}}
    end = {"event": "stream:complete", "seq": 7, "payload": {"stream_id": "s", "response": {"finish_reason": "stop"}}}
    resumed = {"event": RESUMED, "seq": 6, "payload": {"session_id": "one", "replayed": 2, "received": 1}}
    url, got = await liar(
        [(0, [hello("one")]), (1, [started, piece(3, "a"), piece(5, "c")])],
        [(1, [hello("two"), piece(3, "a"), piece(4, "b"), piece(5, "c"), resumed, end])],
    )
    text = await page.run("const session = await open({}, args[0]); return read(await session.stream(ask))", url)
    assert text == "abc"
    assert [(one["event"], one["payload"]) for one in got[1]] == [
        ("session:resume", {"session_id": "one", "last_seq": 3})
    ]


async def test_only_what_never_arrived_is_sent_again(up: StartUp, liar: Any) -> None:
    """`received` says how many messages the gateway had; those after it are sent once more, in order, as they were.
    What an earlier connection should have been told of that is sent again too, and is old.
    """
    page, _, _ = await up()
    stale = {"event": RESUMED, "seq": 2, "ref": "another", "payload": {"session_id": "one", "received": 0}}
    resumed = {"event": RESUMED, "seq": 3, "payload": {"session_id": "one", "replayed": 1, "received": 1}}
    answers = [{"event": "chat:response", "seq": ref + 3, "ref": ref, "payload": {"n": ref}} for ref in (1, 2, 3)]
    gap = {"event": "pong", "seq": 9, "ref": 0, "payload": {}}
    url, got = await liar([(0, [hello("one")]), (3, [gap])], [(1, [hello("two"), stale, resumed]), (3, answers)])
    told = await page.run(
        "const session = await open({}, args[0]);"
        "return Promise.all(['a', 'b', 'c'].map((model) => session.chat({ model, messages: [] })))",
        url,
    )
    assert told == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [(one["ref"], one["payload"]["model"]) for one in got[0]] == [(1, "a"), (2, "b"), (3, "c")]
    assert [(one["ref"], one["payload"]["model"]) for one in got[1][1:]] == [(2, "b"), (3, "c")]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013])
async def test_a_close_that_may_mend_is_followed_by_another_attempt(code: int, up: StartUp, liar: Any) -> None:
    """A gateway that shuts down, is full or had a fault is asked again, and the session begins all the same."""
    page, _, _ = await up()
    url, got = await liar([(0, [{"close": code}])], [(0, [hello("one")])])
    assert await page.run("return (await open({}, args[0])).id", url) == "one"
    assert len(got) == 2


async def test_a_message_that_is_too_large_ends_the_session(up: StartUp) -> None:
    """Sending it again would be no use: the reason arrives, and nothing is tried again."""
    page, _, source = await up()
    await page.run("window.session = await open()")
    told = await page.run(
        "const content = 'x'.repeat(5_000_000);"
        "return session.chat({ ...ask, messages: [{ role: 'user', content }] })"
        ".catch((error) => [error.name, error.code, error.closeCode, session.state])"
    )
    assert told == ["Refused", "request_too_large", 1009, "closed"]
    assert source.requests == []


async def test_what_was_never_sent_goes_on_when_the_session_is_lost(up: StartUp) -> None:
    """A call that waited for a connection is made in the new session; what was of the old one ends in SessionLost."""
    page, proxy, source = await up(extra='\n[websocket]\nresumable_for = "0s"\n')
    await page.run("window.session = await open(); window.room = await session.join('r')")
    proxy.is_refusing = True
    proxy.lose()
    await seen(page, "return session.state === 'connecting'")
    await page.run(
        "const code = (one) => one.then(() => 'done', (error) => error.code);"
        "window.ends = [session.chat(ask), session.stream({ ...ask, room: 'r' }), session.join('s')].map(code);"
    )
    proxy.is_refusing = False
    assert await page.run("return Promise.all(ends)") == ["done", "session_lost", "session_lost"]
    assert len(source.requests) == 1
    assert await page.run("return (await session.join('r')) !== room") is True


async def seen(page: Page, condition: str) -> None:
    """Waits until something is so in the page."""
    async with asyncio.timeout(5):
        while not await page.run(condition):
            pass
