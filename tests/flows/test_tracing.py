"""Traces and metrics as a real OTLP receiver gets them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from time import perf_counter

import aiohttp
import orjson
import pytest

from tests.conftest import StartGateway, StartProvider, until
from tests.flows.drill import answer
from tests.gateway import ONE_ATTEMPT
from tests.provider import Seen, Wire

otlp = pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
oteltap = pytest.importorskip("oteltap")

CALL = {"model": "m", "messages": [{"role": "user", "content": "a secret question"}], "temperature": 0.5}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TWO = (
    ONE_ATTEMPT
    + '[providers.bad]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'
    + '[providers.good]\nkind = "openai-compatible"\nbase_url = "{}/v1"\n'
    + '[models.m]\ntargets = ["bad/x", "good/y"]\n[cache]\nenabled = true\n[telemetry]\nexporters = ["otlp"]\n{}\n'
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tap:
    """What has come, by trace."""

    def __init__(self) -> None:
        self.spans: list = []
        self.metrics: list = []

    def trace(self, trace_id: str) -> dict[str, list]:
        found: dict[str, list] = {}
        for span in self.spans:
            if span.trace_id.hex() == trace_id:
                found.setdefault(span.name, []).append(span)
        return found


@pytest.fixture
async def tap(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tap]:
    """A receiver; the SDK's own variables name it."""
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-gateway")
    received = Tap()
    settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
    async with oteltap.OtelTapHttpProtobufReceiver(settings) as receiver:

        async def take(stream: AsyncIterator, kept: list) -> None:
            async for message in stream:
                kept.append(message)  # noqa: PERF401 - one by one, while the test looks on

        tasks = [
            asyncio.create_task(take(receiver.stream_traces(), received.spans)),
            asyncio.create_task(take(receiver.stream_metrics(), received.metrics)),
        ]
        yield received
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fails(seen: Seen, wire: Wire) -> None:
    await wire.answer({"error": {"message": "no"}}, status=500)


async def post(http: aiohttp.ClientSession, url: str, body: object, parent: str = PARENT) -> aiohttp.ClientResponse:
    async with http.post(f"{url}/v1/chat/completions", json=body, headers={"traceparent": parent}) as reply:
        assert reply.status == 200
        await reply.read()
        return reply


def attributes(span: object) -> dict[str, object]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value"))
        for item in span.attributes  # type: ignore[attr-defined]
    }


def ancestors(span: object, spans: list) -> list[str]:
    by_id = {other.span_id: other for other in spans}
    names = []
    while span.parent_span_id in by_id:  # type: ignore[attr-defined]
        span = by_id[span.parent_span_id]  # type: ignore[attr-defined]
        names.append(span.name)
    return names


async def arrived(tap: Tap, count: Callable[[], int], least: int) -> None:
    await until(lambda: count() >= least, 10)


async def test_one_call_through_failover_and_cache_is_one_trace(
    tap: Tap, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The client's span is the root's parent; both attempts are under the walk; the providers are told their span; the
    same question again is a hit with no attempt; nothing holds what was asked.
    """
    bad, good = await provider(fails), await provider(answer)
    gate = await gateway(TWO.format(bad.url, good.url, ""))
    await post(http, gate.url, CALL)
    trace_id = PARENT.split("-")[1]
    await arrived(tap, lambda: len(tap.trace(trace_id).get("llm.request", [])), 1)
    await arrived(tap, lambda: len(tap.trace(trace_id).get("provider.request", [])), 2)  # it may be in a next batch
    await arrived(tap, lambda: len(tap.trace(trace_id).get("cache.lookup", [])), 1)
    spans = tap.trace(trace_id)
    (root,) = spans["llm.request"]
    assert root.parent_span_id.hex() == PARENT.split("-")[2]
    every = [span for found in spans.values() for span in found]
    for asked in spans["provider.request"]:
        assert ancestors(asked, every)[-1] == "llm.request"
        assert "middleware.fallback" in ancestors(asked, every)
        assert asked.end_time_unix_nano >= asked.start_time_unix_nano > 0
    told = {up.requests[0].headers["traceparent"].split("-")[2] for up in (bad, good)}
    assert told == {asked.span_id.hex() for asked in spans["provider.request"]}
    assert ancestors(spans["cache.lookup"][0], every) == ["middleware.meter", "llm.request"]
    facts = attributes(root)
    assert facts["gen_ai.operation.name"] == "chat"
    assert facts["gen_ai.provider.name"] == "good"
    assert facts["gen_ai.request.temperature"] == 0.5
    assert (facts["runestone.cache"], facts["runestone.attempts"]) == ("miss", 2)
    assert b"secret" not in b"".join(span.SerializeToString() for span in every)

    again = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
    await post(http, gate.url, CALL, again)
    hit_id = again.split("-")[1]
    await arrived(tap, lambda: len(tap.trace(hit_id).get("llm.request", [])), 1)
    assert "provider.request" not in tap.trace(hit_id)
    assert attributes(tap.trace(hit_id)["llm.request"][0])["runestone.cache"] == "hit"


async def test_calls_over_a_websocket_are_its_children(
    tap: Tap, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """From the handshake's context through the connection to the provider."""
    bad, good = await provider(fails), await provider(answer)
    gate = await gateway(TWO.format(bad.url, good.url, ""))
    async with http.ws_connect(f"{gate.url}/ws", headers={"traceparent": PARENT}) as ws:
        await ws.receive_json()
        await ws.send_json({"event": "chat:stream", "payload": CALL})
        while (await ws.receive_json())["event"] != "stream:complete":
            pass
    trace_id = PARENT.split("-")[1]
    await arrived(tap, lambda: len(tap.trace(trace_id).get("websocket.session", [])), 1)
    await arrived(tap, lambda: len(tap.trace(trace_id).get("llm.request", [])), 1)
    await arrived(tap, lambda: len(tap.trace(trace_id).get("provider.request", [])), 2)
    spans = tap.trace(trace_id)
    every = [span for found in spans.values() for span in found]
    assert spans["websocket.session"][0].parent_span_id.hex() == PARENT.split("-")[2]
    assert ancestors(spans["provider.request"][-1], every)[-2:] == ["llm.request", "websocket.session"]
    facts = attributes(spans["llm.request"][0])
    assert isinstance(facts["gen_ai.server.time_to_first_token"], float)


async def test_what_is_not_sampled_is_passed_on_and_not_sent(
    tap: Tap, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """The client's decision holds for providers too."""
    bad, good = await provider(fails), await provider(answer)
    gate = await gateway(TWO.format(bad.url, good.url, "sample_ratio = 1.0"))
    unsampled = PARENT[:-2] + "00"
    await post(http, gate.url, CALL, unsampled)
    assert good.requests[0].headers["traceparent"] == unsampled
    later = "00-2af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
    await post(http, gate.url, {**CALL, "seed": 1}, later)
    await arrived(tap, lambda: len(tap.trace(later.split("-")[1])), 1)  # what came before it would be there too
    assert not tap.trace(PARENT.split("-")[1])


@pytest.mark.parametrize("stream", [False, True])
async def test_contents_only_if_asked(
    tap: Tap, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession, stream: bool
) -> None:
    """Prompt and answer, the answer of a stream as it adds up."""
    bad, good = await provider(fails), await provider(answer)
    gate = await gateway(TWO.format(bad.url, good.url, "content = true"))
    await post(http, gate.url, {**CALL, "stream": stream})
    trace_id = PARENT.split("-")[1]
    await arrived(tap, lambda: len(tap.trace(trace_id).get("llm.request", [])), 1)
    facts = attributes(tap.trace(trace_id)["llm.request"][0])
    assert orjson.loads(str(facts["gen_ai.input.messages"]))["messages"] == CALL["messages"]
    assert "hello" in str(facts["gen_ai.output.messages"])


async def test_metrics_go_by_otlp_too(
    tap: Tap, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Under the conventions' names, with labels that clients cannot make grow."""
    bad, good = await provider(fails), await provider(answer)
    gate = await gateway(TWO.format(bad.url, good.url, ""))
    await post(http, gate.url, {**CALL, "model": "good/anything-at-all"})
    await post(http, gate.url, {**CALL, "stream": True})
    names = {"gen_ai.server.request.duration", "gen_ai.client.operation.duration", "gen_ai.server.time_to_first_token"}
    await until(lambda: names <= {metric.name for metric in tap.metrics}, 10)
    text = b"".join(metric.SerializeToString() for metric in tap.metrics)
    assert b"anything-at-all" not in text
    assert b"good/*" in text


async def test_a_dead_collector_costs_nothing_but_a_counter(
    monkeypatch: pytest.MonkeyPatch, gateway: StartGateway, provider: StartProvider, http: aiohttp.ClientSession
) -> None:
    """Calls go on; what did not arrive is counted; closing ends in time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    bad, good = await provider(fails), await provider(answer)
    gate = await gateway(TWO.format(bad.url, good.url, ""))
    for seed in range(3):
        await post(http, gate.url, {**CALL, "seed": seed})

    following = gate.app.following
    await until(lambda: sum(value for _, _, value in following.samples()) > 0, 15)
    async with http.get(f"{gate.url}/metrics") as scraped:
        lines = (await scraped.text()).splitlines()
    assert sum(float(line.split()[-1]) for line in lines if line.startswith("runestone_spans_dropped_total")) > 0
    began = perf_counter()
    await following.close()
    assert perf_counter() - began < 4.0  # what waits has two seconds
