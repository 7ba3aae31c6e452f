"""Recorded exchanges with real providers, through a running gateway over sockets, same dialect on both sides.

The provider answers with the recorded status, headers and body: in one piece, cut at random, and byte by byte. What the
client sent must arrive, and what the provider answered must come back, byte for byte.

Rule: every exchange is accounted for. What cannot be played as it was recorded is counted with its reason, and what the
contract answers otherwise (a provider's 5xx, an error in the guise of an answer, a stream without an end) is checked.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runestone.providers.catalog import CATALOG
from tests.conftest import StartGateway, StartProvider
from tests.gateway import ENVIRON, ONE_ATTEMPT, Gateway
from tests.provider import Seen, Wire

FOLDER = Path(os.environ.get("RUNESTONE_TRAFFIC") or Path(__file__).resolve().parents[3] / "shared" / "traffic")
FILE = FOLDER / "real_traffic.jsonl.gz"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the recorded traffic is not beside the checkout")

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
}
ROWS = {"hf": "huggingface", "api.perplexity.ai": "perplexity"}
"""Recorded names of providers whose row in the catalog has another one."""
SHORT_STREAM, SHORT_ANSWER = 2048, 600
"""Bytes of what is also sent byte by byte; whole answers are only collected, so fewer of them are enough."""
AT_ONCE = 32
KEY = "idempotency-key"
"""A header that passes to providers of the same dialect: tells the provider which recording is asked for."""


NAMES = {"whole": "{}", "stream": "{} streams"}


@dataclass
class Play:
    """One exchange as it is played: what is asked, what the provider answers, what must come back."""

    id: str
    api: str
    gateway: str
    request: bytes
    stream: bool
    status: int
    headers: dict[str, str]
    body: bytes
    notes: tuple[str, ...]  # what is not as recorded
    arrived: bytes | None = None

    @property
    def passes(self) -> bool:
        """Whether the client must get status and body as they are."""
        return self.kind in ("whole", "stream", "refused by the provider", "error in the stream")

    @property
    def kind(self) -> str:
        if self.status >= 500:
            return "the provider's 5xx"
        if self.status >= 400:
            return "refused by the provider"
        if not self.stream:
            answer = json.loads(self.body)
            return "whole" if {"choices", "data", "content"} & answer.keys() else "no answer, but status 200"
        events = data_of(self.body)
        if any(is_error(event) for event in events):
            return "error in the stream"
        if "[DONE]" in events or any('"message_stop"' in event for event in events[-1:]):
            return "stream"
        return "stream" if self.gateway == "no-done" and finished(events) else "stream without an end"


def data_of(stream: bytes) -> list[str]:
    """The data of every event, read plainly."""
    events = stream.decode().replace("\r\n", "\n").split("\n\n")
    lines = ([line[5:].strip() for line in event.split("\n") if line.startswith("data:")] for event in events)
    return ["\n".join(data) for data in lines if data]


def is_error(event: str) -> bool:
    try:
        chunk = json.loads(event)
    except ValueError:
        return False
    return chunk.get("type") == "error" or bool(chunk.get("error") and not chunk.get("choices"))


def finished(events: Iterable[str]) -> bool:
    return any(choice.get("finish_reason") for event in events for choice in json.loads(event).get("choices") or ())


def whole_events(stream: bytes) -> bytes:
    """Up to the last blank line."""
    return stream[: max(stream.rfind(b"\n\n") + 2, stream.rfind(b"\r\n\r\n") + 4, 0)]


@cache
def plays() -> tuple[Play, ...]:
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        exchanges = [exchange for line in lines if (exchange := json.loads(line))["api"] in PATHS]
    return tuple(play_of(exchange) for exchange in exchanges)


def play_of(exchange: dict[str, Any]) -> Play:
    notes = []
    api, stream, request = exchange["api"], exchange["stream"], exchange["req"].encode()
    if not is_call(api, request):
        notes.append("the recorded request has no body, or is of another API: asked by one of ours")
        request = json.dumps({**STAND_INS[api], "stream": stream}).encode()
    body = exchange["resp"].encode()
    if stream and b"data:" not in body:
        notes.append("the recorded body is base64: decoded")
        body = base64.b64decode(body, validate=True)
    headers = dict(exchange["headers"])
    if "REDACTED" in headers.get("content-type", ""):
        notes.append("the recorded content-type is redacted: the usual one")
        headers["content-type"] = "text/event-stream" if stream else "application/json"
    if not headers.get("content-type"):
        notes.append("recorded without a content-type: played so")
        headers.pop("content-type", None)
    row = CATALOG.get(ROWS.get(exchange["provider"], exchange["provider"]))
    quirk = "no-done" if row is not None and not row.ends_with_done else "openai"
    gateway = "anthropic" if api == "messages" else quirk
    return Play(exchange["id"], api, gateway, request, stream, exchange["status"], headers, body, tuple(notes))


def is_call(api: str, request: bytes) -> bool:
    try:
        return {"model", NEEDED[api]} <= json.loads(request).keys()
    except ValueError:
        return False


NEEDED = {"chat": "messages", "completions": "prompt", "embeddings": "input", "messages": "messages"}
_HI = [{"role": "user", "content": "hi"}]
STAND_INS: dict[str, dict[str, Any]] = {
    "chat": {"model": "m", "messages": _HI},
    "completions": {"model": "m", "prompt": "hi"},
    "embeddings": {"model": "m", "input": "hi"},
    "messages": {"model": "m", "max_tokens": 9, "messages": _HI},
}


def pieces_of(play: Play, how: str) -> list[bytes]:
    """The provider's answer as it goes onto the wire: a stream in chunks, a whole answer with its length."""
    head = f"HTTP/1.1 {play.status} Recorded\r\n" + "".join(f"{n}: {v}\r\n" for n, v in play.headers.items())
    framing = "transfer-encoding: chunked" if play.stream else f"content-length: {len(play.body)}"
    first = f"{head}{framing}\r\n\r\n".encode()
    if how == "whole":
        return [first + (chunk(play.body) + b"0\r\n\r\n" if play.stream else play.body)]
    if not play.stream and how == "random":
        return cut(first + play.body, play.id)  # inside the head too
    parts = cut(play.body, play.id) if how == "random" else [play.body[at : at + 1] for at in range(len(play.body))]
    return [first, *map(chunk, parts), b"0\r\n\r\n"] if play.stream else [first, *parts]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def cut(data: bytes, seed: str) -> list[bytes]:
    """At random, and always at the same places; a few dozen pieces at most, whatever the length."""
    dice = random.Random(seed)
    places = sorted(dice.sample(range(1, len(data)), min(len(data) - 1, dice.randint(1, 24)))) if len(data) > 1 else []
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


class Stage:
    """Plays exchanges: one provider, a gateway for every way a stream may end, and a client."""

    def __init__(self, gates: dict[str, Gateway], http: aiohttp.ClientSession, pending: dict[str, Play], how: str):
        self.gates = gates
        self.http = http
        self.pending = pending
        self.how = how
        self.played: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.faults: list[str] = []

    async def play(self, play: Play) -> None:
        self.pending[play.id] = play
        play.arrived = None
        headers = {"content-type": "application/json", KEY: play.id}
        url = self.gates[play.gateway].url + PATHS[play.api]
        async with self.http.post(url, data=play.request, headers=headers) as response:
            body = await response.read()
        for note in play.notes:
            self.noted[note] += 1
        fault = self.fault(play, response, body)
        if fault is not None:
            self.faults.append(f"{play.id} ({play.api}, {play.kind}): {fault}")

    def fault(self, play: Play, response: aiohttp.ClientResponse, body: bytes) -> str | None:
        """What is wrong with how this exchange went, None when nothing is."""
        if play.arrived is None:
            self.played["refused by the gateway as by the provider"] += 1
            same = response.status == play.status
            return None if same else f"refused by the gateway with {response.status}: {body[:300]!r}"
        if play.arrived != play.request:
            return "the request arrived changed"
        self.played[NAMES.get(play.kind, "{} (" + play.kind + ")").format(play.api)] += 1
        if play.passes:
            given = play.headers.get("x-request-id") or play.headers.get("request-id")
            if response.headers.get("x-provider-request-id") != given:
                return "the provider's request id is lost"
            if play.status >= 400 and response.headers.get("retry-after") != play.headers.get("retry-after"):
                return "retry-after is lost"
            if response.status != play.status:
                return f"status {response.status}: {body[:300]!r}"
            return None if body == play.body else f"other bytes: ...{body[-200:]!r} for ...{play.body[-200:]!r}"
        return self.failure_fault(play, response.status, body)

    def failure_fault(self, play: Play, status: int, body: bytes) -> str | None:
        """What is wrong with the error that stands for this answer."""
        begun = whole_events(play.body) if play.kind == "stream without an end" else b""
        if status != (200 if begun else 502):
            return f"status {status}: {body[:300]!r}"
        if not body.startswith(begun):
            return "the stream's whole events are not what comes first"
        last = body[len(begun) :]
        said = json.loads(data_of(last)[0] if begun else last)["error"]
        return None if said["type"] == "api_error" else f"not our error: {said}"


async def test_every_exchange_passes_in_one_piece(stage: Stage) -> None:
    """Every recorded answer comes back byte for byte when the provider sends it at once."""
    await play_all(stage, plays())
    played = stage.played
    assert played["chat"] > 900
    assert played["messages"] > 400
    assert played["chat streams"] + played["messages streams"] + played["completions streams"] > 500


async def test_every_exchange_passes_cut_at_random(stage: Stage) -> None:
    """Every recorded answer comes back byte for byte wherever the network cuts it, head included."""
    await play_all(stage, plays())
    assert stage.played["chat streams"] > 300


async def test_short_exchanges_pass_byte_by_byte(stage: Stage) -> None:
    """Every short recorded answer comes back byte for byte when it arrives one byte at a time."""
    await play_all(stage, [play for play in plays() if len(play.body) < (SHORT_ANSWER, SHORT_STREAM)[play.stream]])
    assert stage.played["chat streams"] > 90
    assert stage.played["messages streams"] > 50


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, stack: AsyncExitStack, gateway: StartGateway, provider: StartProvider
) -> Stage:
    how = {"one_piece": "whole", "at_random": "random", "by_byte": "bytes"}
    (manner,) = (way for end, way in how.items() if request.node.name.endswith(end))
    pending: dict[str, Play] = {}

    async def script(seen: Seen, wire: Wire) -> None:
        play = pending[seen.headers[KEY]]
        play.arrived = seen.body
        for piece in pieces_of(play, manner):
            wire.writer.write(piece)
            if manner != "whole":  # two turns of the loop: the gateway has read this piece before the next is sent
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    up = await provider(script)
    listing = f'models = ["*"]\napi_keys = ["env:UP_KEY"]\nbase_url = "{up.url}'
    openai = f'{ONE_ATTEMPT}[providers.up]\nkind = "openai-compatible"\n{listing}/v1"\n'
    gates = {
        "openai": await gateway(openai, ENVIRON),
        "no-done": await gateway(openai + "ends_with_done = false\n", ENVIRON),
        "anthropic": await gateway(f'{ONE_ATTEMPT}[providers.up]\nkind = "anthropic"\n{listing}"\n', ENVIRON),
    }
    http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
    return Stage(gates, http, pending, manner)


async def play_all(stage: Stage, chosen: Iterable[Play]) -> None:
    """Many at a time; fails with the first few faults, prints what was played."""
    chosen = tuple(chosen)
    left = iter(chosen)

    async def player() -> None:
        for play in left:
            await stage.play(play)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(player())
    tell(f"{stage.how}: {listed(stage.played)}; not as recorded: {listed(stage.noted)}")
    assert not stage.faults, f"{len(stage.faults)} faults\n" + "\n".join(stage.faults[:12])
    assert stage.played.total() == len(chosen), "an exchange went missing"


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


def tell(line: str) -> None:
    print(f"\n{line}")  # noqa: T201 - how much was checked is what `pytest -s` is asked for here
