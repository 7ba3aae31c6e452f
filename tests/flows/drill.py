"""What the drills share: providers that misbehave, and the three things a drill asks afterwards: what the client saw,
what the metrics said, and what the pool looks like.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from runestone.providers.http import HttpProvider
from tests.conftest import until
from tests.flows.test_relay_stream import DONE, ROLE, STOP, chunk
from tests.gateway import Gateway
from tests.provider import FakeProvider, Seen, Wire

WHOLE = ROLE + chunk({"content": "hello"}) + STOP + DONE
ANSWER = {"id": "a1", "choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}
ENVIRON = {"OPS": "ops-key"}
ADMIN = '[[auth.keys]]\nname = "ops"\nkey = "env:OPS"\nadmin = true\n'
PROVIDER = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'


def alone(url: str, *, top: str = "routing.retries = 0\n", more: str = "") -> str:
    """The model `m` has one target, `bad/x`; by default it is asked once."""
    return f"pool.warmup = 0\n{top}{PROVIDER.format('bad', url)}[models.m]\ntargets = ['bad/x']\n{ADMIN}{more}"


def beside(bad: str, good: str, *, top: str = "routing.retries = 0\n", more: str = "") -> str:
    """The model `m` has two targets, first `bad/x`, then `good/y`."""
    both = PROVIDER.format("bad", bad) + PROVIDER.format("good", good)
    return f"pool.warmup = 0\n{top}{both}[models.m]\ntargets = ['bad/x', 'good/y']\n{ADMIN}{more}"


async def answer(seen: Seen, wire: Wire) -> None:
    """A provider that is well."""
    if seen.json.get("stream"):
        await wire.begin_stream()
        await wire.chunk(WHOLE)
        await wire.end_stream()
    else:
        await wire.answer(ANSWER)


# What the client saw


@dataclass(frozen=True)
class Heard:
    """An answer as a client reads it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def who(self) -> str:
        return self.headers.get("x-runestone-provider", "")

    @property
    def is_stream(self) -> bool:
        return self.headers.get("Content-Type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[bytes]:
        """The events of a stream, which ends with the end of one."""
        assert self.body.endswith(b"\n\n"), self.body
        return [event + b"\n\n" for event in self.body.split(b"\n\n")[:-1]]

    @property
    def error(self) -> dict[str, Any]:
        """The error object of the answer, or of a stream's last event."""
        data = self.events[-1].partition(b"data: ")[2] if self.is_stream else self.body
        error: dict[str, Any] = orjson.loads(data)["error"]
        return error

    @property
    def said(self) -> bytes:
        """What stands before the error: nothing in an answer, the provider's own events in a stream."""
        return b"".join(self.events[:-1]) if self.is_stream else b""

    @property
    def is_whole(self) -> bool:
        """Whether it is the answer of a provider that is well, to the last byte."""
        return self.status == 200 and self.body == (WHOLE if self.is_stream else orjson.dumps(ANSWER))


def client() -> aiohttp.ClientSession:
    """A client with a connection for every call, as many at a time as it likes: the gateway ends one behind a broken
    stream, and the next call would run into that.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20))


async def ask(http: aiohttp.ClientSession, gate: Gateway, *, stream: bool = False, text: str = "hi") -> Heard:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}
    async with http.post(gate.url + "/v1/chat/completions", json=body) as response:
        return Heard(response.status, response.headers, await response.read())


async def ask_at_once(http: aiohttp.ClientSession, gate: Gateway, calls: int, *, stream: bool) -> list[Heard]:
    return await asyncio.gather(*(ask(http, gate, stream=stream) for _ in range(calls)))


# What the metrics said


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self._samples: list[Sample] = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series that have these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == f"runestone_{name}" and labels.items() <= sample.labels.items()
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The sums by the values of these labels, those that are not 0."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for sample in self._samples:
            if sample.name == f"runestone_{name}":
                sums[tuple(sample.labels[label] for label in labels)] += sample.value
        return {key: value for key, value in sums.items() if value}

    @property
    def answered(self) -> dict[tuple[str, ...], float]:
        """Finished calls by provider and status."""
        return self.by("requests_total", "provider", "status")

    @property
    def errors(self) -> dict[tuple[str, ...], float]:
        """Failures by who is to blame, and code."""
        return self.by("errors_total", "source", "code")

    @property
    def extra(self) -> tuple[float, float]:
        """(retries, failovers)."""
        return self.total("retries_total"), self.total("failovers_total")

    def breaker(self, target: str) -> float:
        """0 closed, 1 half open, 2 open."""
        (state,) = (sample.value for sample in self._samples if sample.labels.get("target") == target)
        return state


async def scrape(http: aiohttp.ClientSession, gate: Gateway) -> Metrics:
    async with http.get(gate.url + "/metrics") as response:
        return Metrics(await response.text())


# What the pool looked like after


def upstream(gate: Gateway, name: str) -> HttpProvider:
    found = gate.app.upstreams[name]
    assert isinstance(found, HttpProvider)
    return found


async def at_rest(http: aiohttp.ClientSession, gate: Gateway, name: str, fake: FakeProvider) -> dict[str, Any]:
    """The pool of a provider as operators see it, once every call has given back what it had: no slot is taken, nobody
    waits, and the provider has exactly the connections open that are kept.
    """
    pool = upstream(gate, name).pool
    await until(lambda: pool.active == pool.waiting == 0 and pool.idle == fake.open)
    async with http.get(gate.url + "/admin/providers", headers={"x-api-key": "ops-key"}) as response:
        shown: dict[str, Any] = (await response.json())[name]
    metrics = await scrape(http, gate)
    states = {state: metrics.total("pool_connections", provider=name, state=state) for state in ("active", "waiting")}
    assert states == {"active": 0, "waiting": 0}
    assert metrics.total("pool_connections", provider=name, state="idle") == shown["pool"]["idle"] == fake.open
    assert (shown["pool"]["active"], shown["pool"]["waiting"]) == (0, 0)
    assert [target["in_flight"] for target in shown["targets"]] == [0] * len(shown["targets"])
    described: dict[str, Any] = shown["pool"]
    return described


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as somebody's mistake in the code: nothing a provider does may bring that about."""
    return [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
