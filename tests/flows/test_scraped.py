"""A real Prometheus scrapes a running gateway: it reads the right numbers, the dashboard has answers, alerts come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from runestone.core.price import cost
from runestone.core.summary import Summary
from runestone.providers.prices import price_of
from tests.process import serve
from tests.prometheus import Prometheus, needs_prometheus, prometheus, promtool, questions
from tests.provider import FakeProvider, Seen, Wire

pytestmark = [
    needs_prometheus,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("prometheus"),  # Prometheus takes five seconds to begin; once is enough
]

USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":%b}]}\n\n'
STREAM = CHUNK % b"null" + CHUNK % b'"stop"' + b'data: {"id":"c","choices":[],"usage":%b}\n\ndata: [DONE]\n\n'
COUNT = b'{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}'
TIMED = 40
"""Calls, enough of them that the stages of some are timed."""
EACH = 6 + 3 + 2 + 1 + 1 + TIMED
CHAT = 'sum(runestone_requests_total{endpoint="chat/completions"})'


async def vendor(seen: Seen, wire: Wire) -> None:
    """Answers for `m` and `gpt-4o-mini`, as JSON or as a stream; has nothing for `broken`."""
    asked = seen.json
    if asked.get("model") == "broken":
        await wire.answer({"error": {"message": "out of order"}}, status=500)
    elif asked.get("stream"):
        await wire.begin_stream()
        await wire.chunk(STREAM % COUNT)
        await wire.end_stream()
    elif "input" in asked:
        await wire.answer({"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 3}})
    else:
        message = {"role": "assistant", "content": "hello"}
        await wire.answer(
            {"id": "a", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
        )


def configuration(url: str, key: Path) -> str:
    key.write_text("a-secret-0123456789")
    return f"""
routing.retries = 0
pool.warmup = 0
[websocket]
port = 0
[providers.up]
kind = "openai-compatible"
base_url = "{url}/v1"
models = ["m", "embed"]
[providers.azure]
base_url = "{url}/openai/v1"
models = ["gpt-4o-mini"]
api_keys = ["file:{key}"]
[models.fast]
targets = ["up/broken", "up/m"]
"""


@dataclass
class House:
    """A gateway that is a process of its own, and who scrapes it."""

    url: str
    http: aiohttp.ClientSession
    scraper: Prometheus

    async def ask(self, model: str, text: str = "hello", **more: Any) -> int:
        """A call to its end; the status."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        async with self.http.post(f"{self.url}/v1/chat/completions", json=body) as response:
            await response.read()
            return response.status

    async def calls(self, name: str) -> None:
        """EACH of chat, and one for embeddings; `name` makes them others than those before."""
        for number in range(6):
            assert await self.ask("fast", f"{name} {number}") == 200  # not by its first target, whose breaker opens
        for _ in range(3):
            assert await self.ask("gpt-4o-mini", name) == 200  # twice from memory
        for number in range(2):
            usage = {"stream_options": {"include_usage": True}}
            assert await self.ask("m", f"{name} stream {number}", stream=True, **usage) == 200
        assert await self.ask("nobody") == 404
        assert await self.ask("up/broken") == 503
        async with self.http.post(f"{self.url}/v1/embeddings", json={"model": "embed", "input": name}) as response:
            assert response.status == 200
        for number in range(TIMED):
            assert await self.ask("m", f"{name} timed {number}") == 200


GONE = "127.0.0.1:1"
"""Where nobody listens."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One for all: it has been scraped before, between and after two rounds of calls."""
    folder = tmp_path_factory.mktemp("scraped")
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))
        up = await opened.enter_async_context(FakeProvider(vendor))
        served = await opened.enter_async_context(serve(configuration(up.url, folder / "key"), folder))
        address = served.url.removeprefix("http://")
        scraper = await opened.enter_async_context(prometheus([address, GONE], folder, http))
        built = House(served.url, http, scraper)
        await scraper.until("sum(up)", 1)
        await built.calls("one")
        await scraper.until(CHAT, EACH)
        await built.calls("two")
        await scraper.until(CHAT, 2 * EACH)
        yield built


async def test_prometheus_reads_the_right_numbers(house: House) -> None:
    """Calls, failures, tokens, waits and states, by the queries an operator would write."""
    ask, number = house.scraper.ask, house.scraper.number
    assert await number('sum(runestone_requests_total{endpoint="embeddings"})') == 2
    assert await ask('sum by (cache) (runestone_requests_total{model="gpt-4o-mini"})') == {
        (("cache", "hit"),): 4,
        (("cache", "miss"),): 2,
    }
    assert await number('runestone_tokens_total{model="gpt-4o-mini",type="output"}') == 1000
    assert await number("runestone_failovers_total") == 12
    assert await ask("runestone_breaker_state == 2") == {(("target", "up/broken"),): 2}
    assert await ask('sum by (source, code) (runestone_errors_total{source=~"client|gateway"}) > 0') == {
        (("code", "model_not_found"), ("source", "client")): 2,
        (("code", "service_unavailable"), ("source", "gateway")): 2,
    }
    assert await number("sum(runestone_time_per_output_token_seconds_count)") == 4
    assert await number('runestone_time_to_first_token_seconds_bucket{le="+Inf",provider="up",model="m"}') == 4
    acquired = await ask("sum by (provider) (runestone_pool_acquired_total)")
    assert acquired == await ask("sum by (provider) (runestone_pool_wait_seconds_count)")
    median = await number("histogram_quantile(0.5, sum by (le) (runestone_request_duration_seconds_bucket))")
    assert 0 < median < 1
    assert await number("sum(runestone_middleware_seconds_count)") > 0
    assert await number("sum(increase(runestone_requests_total[1m]))") > EACH


async def test_prometheus_reads_what_calls_have_cost(house: House) -> None:
    """Two of six were not from memory, and only one provider has list prices."""
    price = await asyncio.to_thread(price_of, "azure", "gpt-4o-mini")
    paid = cost(price, Summary(input_tokens=2000, output_tokens=1000))
    assert paid is not None
    assert await house.scraper.ask("runestone_cost_usd_total") == {
        (("model", "gpt-4o-mini"), ("provider", "azure")): pytest.approx(paid)
    }


async def test_sockets_are_seen_while_they_are_open(house: House) -> None:
    """And how many there may be."""
    async with house.http.ws_connect(house.url + "/ws") as socket:
        await socket.receive()
        await house.scraper.until("runestone_websocket_connections", 1)
        share = "runestone_websocket_connections / runestone_websocket_connections_limit"
        assert await house.scraper.number(share) == pytest.approx(1e-4)
    await house.scraper.until("runestone_websocket_connections", 0)


SILENT = ("runestone_spans_dropped_total", "runestone_middleware_failures_total")
"""There only where spans are exported, or a middleware fails."""


async def test_every_panel_of_the_dashboard_has_an_answer(house: House) -> None:
    """Each query of deploy/grafana/runestone.json finds something, with some traffic behind it."""
    asked = [(panel, query) for panel, query in questions() if not any(name in query for name in SILENT)]
    assert [(panel, query) for panel, query in asked if not await house.scraper.ask(query)] == []


async def test_what_happens_raises_alerts(house: House) -> None:
    """deploy/prometheus, on a live gateway: rules are computed, and it is told of an open breaker and of a gateway that
    is not there, and of nothing that is not so.
    """
    for name in ("RunestoneBreakerOpen", "RunestoneDown"):
        await house.scraper.until(f'count(ALERTS{{alertname="{name}"}})', 1)
    down = (await house.scraper.get("query", query='ALERTS{alertname="RunestoneDown"}'))["result"]
    assert [alert["metric"]["instance"] for alert in down] == [GONE]
    await house.scraper.until("count(job:runestone_failures:ratio_rate5m > 0)", 1)
    rules = [rule for group in (await house.scraper.get("rules"))["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    quiet = {"RunestoneAbsent", "RunestonePoolRefuses", "RunestoneSlow", "RunestoneWebSocketsNearLimit"}
    assert quiet <= {rule["name"] for rule in rules if rule.get("state") == "inactive"}


async def test_promtool_finds_nothing_to_mend(house: House) -> None:
    """`promtool check metrics`, with traffic behind it: names, units, help texts, types."""
    async with house.http.get(f"{house.url}/metrics") as response:
        said = await response.read()
    assert said.count(b"\nrunestone_") > 200
    assert promtool("check", "metrics", said=said) == (0, "")
    code, lint = promtool("check", "metrics", said=said + b"runestone_thing_milliseconds 1\n")
    assert code != 0, "it can fail"
    assert "milliseconds" in lint
