"""What visitors of the soak do over HTTP: each visit is a call or a few, and knows what may come of it.

Rule: a visit checks what it reads. What must go well and does not raises (`Wrong`, or what the connection raised); a
failure that belongs to it, such as a 502 of a target that fails, is told to `Visit.met`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from bench import wire
from bench.soak_client import Answer, Client, Line, Wrong, request
from bench.soak_run import Tally

TIGHT = "sk-tight-0123456789abcdefghijklmnopqrstuvwxyz"
"""A key with limits."""
FAILING = ("flaky", "narrow", "down", "hung", "broken")
"""Models whose only target fails."""
SAVED = ("down-first", "hung-first", "broken-first")
"""Models whose second target does not."""
_FAULTS = (502, 503, 504)
_KNOWN = 20  # questions that are asked again and again
_EVENT = re.compile(rb"(?:^|\n)id: ?(\d+)\n")


@dataclass(slots=True)
class Visit:
    """One visitor: its connections, its chance, its numbers, and where it writes down what it saw."""

    kind: str
    client: Client
    chance: random.Random
    numbers: Iterator[int]
    tally: Tally

    def ask(self, model: str, *, stream: bool = False, events: int | None = None, known: bool = False) -> bytes:
        """The body of a chat call that nobody has asked before; with `known`, of one that many have."""
        number = self.chance.randrange(_KNOWN) if known else next(self.numbers)
        named = b'"model":"%b","seed":%d' % (model.encode(), number)
        return wire.chat_body(stream=stream, events=events).replace(b'"model":"bench-model"', named, 1)

    def post(
        self, body: bytes, path: str = wire.CHAT_PATH, *, key: str = wire.KEY, headers: tuple[str, ...] = ()
    ) -> bytes:
        return request("POST", path, self.client.port, body, key=key, headers=headers)

    def get(self, path: str, method: str = "GET", *, headers: tuple[str, ...] = ()) -> bytes:
        return request(method, path, self.client.port, headers=headers)

    async def call(self, text: bytes, *allowed: int) -> Answer:
        """One call. A status of `allowed` is noted as expected; any other but 200 is wrong."""
        self.tally.calls[self.kind] += 1
        answer = await self.client.call(text)
        self.check(answer.status, answer.body, *allowed)
        return answer

    def called(self, calls: int = 1) -> None:
        self.tally.calls[self.kind] += calls

    def met(self, what: str) -> None:
        """A failure that belongs to such a visit."""
        self.tally.failed(self.kind, what, expected=True)

    def check(self, status: int, body: bytes, *allowed: int) -> None:
        if status in allowed:
            self.met(str(status))
        elif status != 200:
            raise Wrong(f"status {status}: {body[:200].decode(errors='replace')}")


async def anew(visit: Visit) -> None:
    """A question that was never asked."""
    answer = await visit.call(visit.post(visit.ask(visit.chance.choice(("fast", "steady")))))
    if answer.body != wire.answer():
        raise Wrong(f"not the provider's answer: {answer.body[:100]!r}")


async def again(visit: Visit) -> None:
    """One that was asked before: answered from memory."""
    answer = await visit.call(visit.post(visit.ask("fast", known=True)))
    if "hit" not in answer.header("cache-status"):
        visit.met("not in the cache")


async def together(visit: Visit) -> None:
    """The same question, five times at once: one call of the provider."""
    text = visit.post(visit.ask("steady"))
    answers = await asyncio.gather(*(visit.call(text) for _ in range(5)))
    told = [answer.header("cache-status") for answer in answers]
    if sum(not re.search("collapsed|hit", one) for one in told) != 1 or len({answer.body for answer in answers}) != 1:
        raise Wrong(f"other than one call of the provider for one question: {', '.join(told)}")


async def failing(visit: Visit) -> None:
    """Models that fail, each in its way; and those that another target helps."""
    model = visit.chance.choice(FAILING + SAVED)
    await visit.call(visit.post(visit.ask(model)), *(_FAULTS if model in FAILING else ()))


async def limited(visit: Visit) -> None:
    """A key that may do little."""
    await visit.call(visit.post(visit.ask("steady"), key=TIGHT), 429)


async def embeddings(visit: Visit) -> None:
    """One text, which goes up together with others; or eight; new ones, or some that are known."""
    texts = [f"text {number}" for number in _some(visit, visit.chance.choice((1, 1, 1, 8)))]
    body = orjson.dumps({"model": "bench-embedding", "input": texts[0] if len(texts) == 1 else texts})
    answer = orjson.loads((await visit.call(visit.post(body, "/v1/embeddings"))).body)
    if [item["index"] for item in answer["data"]] != list(range(len(texts))):
        raise Wrong(f"{len(texts)} texts, other embeddings")


async def batch(visit: Visit) -> None:
    """Ten calls in one request: as JSON, as events, or left in its midst."""
    chance = visit.chance
    form = chance.choice(("whole", "events", "left"))
    models = ["fast", "steady", "paced", "flaky", *("narrow" for _ in range(6))]
    streams = form != "whole"
    lines = [
        {"body": orjson.loads(visit.ask(model, stream=streams and model == "paced", events=20))} for model in models
    ]
    body = orjson.dumps({"max_concurrency": 5, "stream": streams, "requests": lines})
    visit.called(len(lines))
    async with visit.client.line() as line:
        await line.say(visit.post(body, "/v1/batch")).begin()
        if form == "left":
            await asyncio.sleep(chance.random() * 0.3)
            return
        answer = await line.answer()
    visit.check(answer.status, answer.body)
    if streams and not answer.body.endswith(wire.DONE):
        raise Wrong("a batch without its end")
    if not streams and (told := orjson.loads(answer.body))["counts"]["total"] != len(lines):
        raise Wrong(f"a batch of {told['counts']}")


async def streamed(visit: Visit) -> None:
    """Streams of 100 events at once, or of a second and more at their pace; read to the end."""
    if visit.chance.random() < 0.5:
        text = visit.post(visit.ask("fast", stream=True))
    else:
        text = visit.post(visit.ask("paced", stream=True, events=visit.chance.randrange(25, 100)))
    answer = await visit.call(text)
    if not answer.body.endswith(wire.DONE):
        raise Wrong(f"a stream without its end: ...{answer.body[-100:]!r}")


async def broken(visit: Visit) -> None:
    """Streams of targets that break: another target helps, or an error ends them, and nothing is invented."""
    model = visit.chance.choice(("broken", "broken-first", "down-first"))
    visit.called()
    async with visit.client.line() as line:  # after an error event the gateway closes the connection
        answer = await (await line.say(visit.post(visit.ask(model, stream=True))).begin()).answer()
    visit.check(answer.status, answer.body, *(_FAULTS if model == "broken" else ()))
    ended = answer.body.endswith(wire.DONE)
    if answer.status != 200 or (ended and model != "broken"):
        return
    if ended or b'"error"' not in answer.body[-1000:]:
        raise Wrong(f"a broken stream ended with ...{answer.body[-100:]!r}")
    visit.met("error event")


async def slow(visit: Visit) -> None:
    """400 KB, read a few KB at a time; or not at all, and left."""
    visit.called()
    async with visit.client.line(slow=True) as line:
        await line.say(visit.post(visit.ask("long", stream=True))).begin()
        visit.check(line.status, b"")
        if visit.chance.random() < 0.3:
            await asyncio.sleep(2.0)
            return
        end = b""
        while piece := await line.more(4096):
            end = (end + piece)[-len(wire.DONE) :]
            await asyncio.sleep(0.01)
    if end != wire.DONE:
        raise Wrong(f"a slow reader's stream ended with {end!r}")


async def resumed(visit: Visit) -> None:
    """A resumable stream, cut after some events: rejoined to the end, ended by its client, or left alone."""
    body = visit.ask("paced", stream=True, events=visit.chance.randrange(20, 60))
    visit.called()
    async with visit.client.line() as line:
        await line.say(visit.post(body, headers=("x-runestone-resumable: true",))).begin()
        if line.status != 200 or not (identity := Answer(200, line.head, b"").header("x-runestone-stream-id")):
            raise Wrong(f"no resumable stream: status {line.status}")
        last = await _some_events(line, visit.chance.randrange(1, 20))
    path, fate = f"/v1/streams/{identity}", visit.chance.random()
    if fate < 0.2:
        return
    if fate < 0.4:
        visit.called()
        if (answer := await visit.client.call(visit.get(path, "DELETE"))).status != 204:
            raise Wrong(f"DELETE of a stream: {answer.status} {answer.body[:200]!r}")
        return
    answer = await visit.call(visit.get(path, headers=(f"last-event-id: {last}",)), 204)
    if answer.status == 204:  # it had read all of it
        return
    numbers = [int(number) for number in _EVENT.findall(answer.body)]
    if numbers != list(range(last + 1, last + 1 + len(numbers))) or not answer.body.endswith(wire.DONE):
        raise Wrong(f"rejoined after {last}: events {numbers[:3]} ..., the end {answer.body[-60:]!r}")


async def looking(visit: Visit) -> None:
    """What operators and their tools do."""
    path = visit.chance.choice(("/metrics", "/metrics", "/admin/state", "/health", "/v1/models", "/admin/tail"))
    if path != "/admin/tail":
        await visit.call(visit.get(path))
        return
    visit.called()
    async with visit.client.line() as line:
        await line.say(visit.get(path)).begin()
        visit.check(line.status, b"", 503)  # so many may follow
        for _ in range(5):
            await line.more()


async def _some_events(line: Line, count: int) -> int:
    """Reads until so many events have come, and gives the number of the last whole one."""
    text = b""
    while piece := await line.more():
        text += piece
        numbers = _EVENT.findall(text[: text.rfind(b"\n\n") + 1])
        if len(numbers) >= count:
            return int(numbers[-1])
    raise Wrong(f"a resumable stream ended after {text[-100:]!r}")


def _some(visit: Visit, count: int) -> list[int]:
    return [visit.chance.randrange(30) if visit.chance.random() < 0.3 else next(visit.numbers) for _ in range(count)]
