"""Calls in flight while the configuration is replaced: they end as they would have, exactly, and when the last one has
ended nothing of the old configuration is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.conftest import until
from tests.flows.reloading import TEAM, TOP, UNSAVED, Reloadable, chat, keys, provider, reloadable
from tests.flows.talk import question, talking, text_of
from tests.flows.test_relay_stream import DONE, ROLE, STOP, USAGE, chunk
from tests.provider import FakeProvider, Seen, Wire

SAVING = "[cache]\nenabled = {}\n[batch]\ntimeout = '30s'\nadaptive_sizing = false\n"


class Desk:
    """A provider that ends its answers when `go` is set, and says who it is; `asked` are the questions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.refuse = 0
        """Calls that fail, from now on."""
        self.go = asyncio.Event()

    def whole(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": f"{self.name} to {text}"}
        return {"id": "c1", "model": "m-2", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    @property
    def events(self) -> list[bytes]:
        return [ROLE + chunk({"content": self.name}), chunk({"content": " goes on"}) + STOP + USAGE + DONE]

    async def script(self, seen: Seen, wire: Wire) -> None:
        if "input" in seen.json:
            asked = seen.json["input"]
            texts = asked if isinstance(asked, list) else [asked]
            self.asked.append("+".join(texts))
            await self.go.wait()
            data = [{"object": "embedding", "index": at, "embedding": [ord(text)]} for at, text in enumerate(texts)]
            await wire.answer({"object": "list", "model": self.name, "data": data, "usage": {"prompt_tokens": 9}})
        elif self.refuse:
            self.refuse -= 1
            await wire.answer({"error": {"message": "no"}}, status=500, headers={"Retry-After": "1"})
        else:
            await self._chat(seen.json["messages"][-1]["content"], seen, wire)

    async def _chat(self, text: str, seen: Seen, wire: Wire) -> None:
        self.asked.append(text)
        if seen.json.get("stream"):
            await wire.begin_stream()
            await wire.chunk(self.events[0])
            await self.go.wait()
            await wire.chunk(self.events[1])
            await wire.end_stream()
        else:
            await self.go.wait()
            await wire.answer(self.whole(text))


class Scene:
    """A call is begun, then `swap` puts the other configuration in force, then `old.go` lets the provider answer."""

    def __init__(self, http: aiohttp.ClientSession, gate: Reloadable, old: Desk, swap: Callable[[], Awaitable[None]]):
        self.http = http
        self.gate = gate
        self.old = old
        self._swap = swap

    async def go_on(self) -> None:
        await self._swap()
        self.old.go.set()

    def asking(self, text: str, **more: Any) -> asyncio.Task[tuple[int, Any]]:
        return asyncio.ensure_future(chat(self.http, self.gate, text, **more))

    async def at(self, stage: str, calls: int = 1) -> None:
        """Waits until so many calls are there."""
        await until(lambda: self.gate.app.lasting.inflight.stages().get(stage) == calls)

    @asynccontextmanager
    async def streaming(self, path: str = "/v1/chat/completions", **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with self.http.post(self.gate.url + path, json=more.pop("json", body), **more) as response:
            yield response


async def whole(scene: Scene) -> None:
    asking = scene.asking("hi")
    await until(lambda: scene.old.asked == ["hi"])
    await scene.go_on()
    assert await asking == (200, scene.old.whole("hi"))


async def streamed(scene: Scene) -> None:
    async with scene.streaming() as response:
        begun = await response.content.readexactly(len(scene.old.events[0]))
        await scene.go_on()
        assert begun + await response.read() == b"".join(scene.old.events)


async def joined(scene: Scene) -> None:
    """Two who ask the same, and hear one answer."""
    async with scene.streaming() as one, scene.streaming() as other:
        first = scene.old.events[0]
        assert [await response.content.readexactly(len(first)) for response in (one, other)] == [first, first]
        await scene.go_on()
        assert await one.read() == await other.read() == scene.old.events[1]
    assert scene.old.asked == ["hi"]


async def resumable(scene: Scene) -> None:
    """Nobody reads it while the configuration changes."""
    async with scene.streaming(headers={"x-runestone-resumable": "true"}) as response:
        path = f"{scene.gate.url}/v1/streams/{response.headers['x-runestone-stream-id']}"
        await response.content.readuntil(b"\n\n")
    await scene.go_on()
    async with scene.http.get(path) as response:
        said = (await response.read()).split(b"\n")
    assert [line for line in said if line.startswith(b"data")] == b"".join(scene.old.events).split(b"\n\n")[:-1]


async def over_a_websocket(scene: Scene) -> None:
    async with talking(scene.gate) as talk:
        stream = await talk.start("hi")
        await until(lambda: scene.old.asked == ["hi"])
        await scene.go_on()
        told = await talk.wait("stream:complete")
        assert told["payload"]["response"]["provider"] == "up"
        assert text_of(talk.heard, stream) == "old goes on"


async def whole_over_a_websocket(scene: Scene) -> None:
    async with talking(scene.gate) as talk:
        await talk.say("chat:message", question("hi"), "mine")
        await until(lambda: scene.old.asked == ["hi"])
        await scene.go_on()
        assert (await talk.wait("chat:response"))["payload"] == scene.old.whole("hi")


async def many_at_once(scene: Scene) -> None:
    """Lines that had not begun belong to the same call."""
    batch = {"requests": [{"body": {"model": "m", **question(text)}} for text in "abc"], "max_concurrency": 1}
    asking = asyncio.ensure_future(scene.http.post(scene.gate.url + "/v1/batch", json=batch))
    await until(lambda: scene.old.asked == ["a"])
    await scene.go_on()
    async with await asking as response:
        answers = (await response.json())["data"]
    assert [answer["response"]["body"] for answer in answers] == [scene.old.whole(text) for text in "abc"]


async def many_at_once_as_events(scene: Scene) -> None:
    lines = [{"body": {"model": "m", "stream": True, **question(text)}} for text in "ab"]
    async with scene.streaming("/v1/batch", json={"requests": lines, "stream": True, "max_concurrency": 1}) as response:
        await until(lambda: scene.old.asked == ["a"])
        await scene.go_on()
        said = await response.read()
    assert said.endswith(DONE)
    assert said.count(b" goes on") == 2
    assert scene.old.asked == ["a", "b"]


async def embeddings_that_wait_for_each_other(scene: Scene) -> None:
    async def embed(text: str) -> tuple[int, Any]:
        async with scene.http.post(scene.gate.url + "/v1/embeddings", json={"model": "m", "input": text}) as response:
            return response.status, await response.json()

    asking = [asyncio.ensure_future(embed("a"))]
    await until(lambda: scene.old.asked == ["a"])
    asking += [asyncio.ensure_future(embed(text)) for text in "bc"]
    await scene.at("batch", 2)
    await scene.go_on()
    answers = await asyncio.gather(*asking)
    assert [answer["data"][0]["embedding"] for _, answer in answers] == [[97], [98], [99]]
    assert [sorted(text) for text in scene.old.asked] == [["a"], ["+", "b", "c"]]


async def in_the_queue_of_its_key(scene: Scene) -> None:
    one = scene.asking("one", headers=TEAM)
    await until(lambda: scene.old.asked == ["one"])
    other = scene.asking("other", headers=TEAM)
    await scene.at("limits")
    await scene.go_on()
    assert await asyncio.gather(one, other) == [(200, scene.old.whole(text)) for text in ("one", "other")]


async def with_half_its_body_sent(scene: Scene) -> None:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "slowly"}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(scene.gate.url.rpartition(":")[2]))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body[:20]))
    await until(lambda: scene.gate.app.running.count == 1)
    await scene.go_on()
    writer.write(body[20:])
    head, _, said = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert orjson.loads(said) == scene.old.whole("slowly")


async def between_two_attempts(scene: Scene) -> None:
    scene.old.refuse = 1
    asking = scene.asking("again")
    await scene.at("retry")
    await scene.go_on()
    assert await asking == (200, scene.old.whole("again"))


FLIGHTS = [
    *(whole, streamed, joined, resumable, over_a_websocket, whole_over_a_websocket, many_at_once),
    *(many_at_once_as_events, embeddings_that_wait_for_each_other, in_the_queue_of_its_key, with_half_its_body_sent),
    between_two_attempts,
]


@pytest.mark.parametrize("goes", ["moved", "gone"])
@pytest.mark.parametrize("flight", FLIGHTS, ids=[flight.__name__ for flight in FLIGHTS])
async def test_a_call_ends_as_it_began(
    flight: Callable[[Scene], Awaitable[None]], goes: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The provider of a call in flight is moved or taken away, with the keys, limits and bounds it began under: its
    answer is whole and the old provider's, the next call is the new one's, and then the old connections are closed.
    """
    old, new = Desk("old"), Desk("new")
    new.go.set()
    async with FakeProvider(old.script) as before, FakeProvider(new.script) as after:
        saving = SAVING.format(str(flight is joined).lower())
        top = TOP.replace("retries = 0", "retries = 1")
        began = top + provider("up", before.url) + keys("concurrent_requests = 1\nqueue = '20s'")
        name = "up" if goes == "moved" else "other"
        then = f'server.max_body = "300B"\n{TOP}{provider(name, after.url)}{UNSAVED}'
        async with reloadable(began + saving, tmp_path) as gate:
            replaced = gate.upstream("up")

            async def swap() -> None:
                await gate.reload(then)
                assert await chat(http, gate, "next") == (200, new.whole("next"))
                assert gate.retiring == ["retire configuration 1"]
                assert not replaced.pool.session.closed

            await flight(Scene(http, gate, old, swap))
            assert new.asked == ["next"]
            await gate.retired()
            assert replaced.pool.session.closed
            assert (replaced.pool.active, replaced.pool.waiting) == (0, 0)
            await until(lambda: before.open == 0)


async def test_what_a_younger_one_uses_is_not_closed_with_an_older(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Two reloads while calls run: the first configuration is over before the second, whose call has not come to its
    provider yet. The third has no such provider, and the call is answered all the same.
    """
    old, new = Desk("old"), Desk("new")
    async with FakeProvider(old.script) as before, FakeProvider(new.script) as after:
        new.go.set()
        first = TOP + provider("up", before.url) + keys() + UNSAVED
        async with reloadable(first, tmp_path) as gate:
            one = asyncio.ensure_future(chat(http, gate, "one"))
            await until(lambda: old.asked == ["one"])
            await gate.reload(first + "[models.second]\ntargets = ['up/m']\n")
            shared = gate.upstream("up")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.url.rpartition(":")[2]))
            body = orjson.dumps({"model": "second", "messages": [{"role": "user", "content": "two"}]})
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
            await until(lambda: gate.app.running.count == 2)
            await gate.reload(TOP + provider("other", after.url))
            old.go.set()
            assert await one == (200, old.whole("one"))
            await until(lambda: gate.retiring == ["retire configuration 2"])
            writer.write(body)
            said = await reader.read()
            writer.close()
            assert said.startswith(b"HTTP/1.1 200 "), said
            await gate.retired()
            assert shared.pool.session.closed


async def test_at_the_end_what_was_replaced_is_closed_too(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A process that ends while a replaced configuration is still in use leaves no connection of it."""
    old, new = Desk("old"), Desk("new")
    async with FakeProvider(old.script) as before, FakeProvider(new.script) as after:
        async with reloadable(TOP + provider("up", before.url) + UNSAVED, tmp_path) as gate:
            replaced = gate.upstream("up")
            asking = asyncio.ensure_future(chat(http, gate))
            await until(lambda: old.asked == ["hi"])
            await gate.reload(TOP + provider("up", after.url))
            assert gate.retiring
        assert replaced.pool.session.closed
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking
