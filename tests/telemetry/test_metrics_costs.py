"""What calls cost: once for each that a provider was paid for, by its list price, and never invented."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from runestone.config.load import load
from runestone.core.price import Price
from runestone.core.record import Record
from runestone.core.summary import Summary
from runestone.telemetry import costs
from runestone.telemetry.costs import Costs
from runestone.telemetry.metrics import Metrics
from runestone.wiring.prices import costs_of
from tests.telemetry.test_metrics import RECORD, samples, value

PRICE = Price(input=1e-6, output=4e-6, cached=1e-7)
FREE_OF_CHARGE = Price(input=0.0, output=0.0)
TARGET = {"provider": "openai", "model": "fast"}
ONE = 10 * 1e-6 + 4 * 4e-6


class Table:
    """Prices, and how often they were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, provider: str, model: str) -> Price | None:
        self.asked.append((provider, model))
        return {"gpt-4o-mini": PRICE, "free": FREE_OF_CHARGE}.get(model)


async def loaded(*records: Record) -> Metrics:
    prices = Costs(["openai"], Table())
    await prices.load()
    metrics = Metrics(["fast"], costs=prices)
    for record in records:
        metrics(record)
    return metrics


async def test_a_call_costs_its_tokens() -> None:
    """Input, output and what came from the vendor's cache, each at its price; under provider and model."""
    more = RECORD._replace(summary=Summary(input_tokens=10, output_tokens=4, cached_tokens=8))
    metrics = await loaded(RECORD, more)
    assert value(metrics, "runestone_cost_usd_total", TARGET) == pytest.approx(ONE + 2e-6 + 8e-7 + 16e-6)


@pytest.mark.parametrize("cache", ["hit", "stale", "collapsed"])
async def test_what_no_provider_answered_costs_nothing(cache: str) -> None:
    """The answer was paid for once, by the call that fetched it."""
    record = RECORD._replace(cache=cache)
    metrics = await loaded(record)
    assert value(metrics, "runestone_cost_usd_total", TARGET) == 0.0
    assert metrics.costs.of(record) == 0.0
    metrics(RECORD._replace(cache="miss"))
    assert value(metrics, "runestone_cost_usd_total", TARGET) == pytest.approx(ONE)


@pytest.mark.parametrize(
    "record",
    [
        RECORD._replace(target_model="nobody-knows"),
        RECORD._replace(summary=Summary()),
        RECORD._replace(summary=Summary(input_tokens=10)),
        RECORD._replace(provider="mine"),
        RECORD._replace(provider=None, target_model=None),
    ],
)
async def test_what_is_not_known_is_not_invented(record: Record) -> None:
    """No price, no count of tokens, a provider without list prices, no provider: no cost, and no error."""
    metrics = await loaded(record)
    assert metrics.costs.of(record) is None
    assert not [cost for (name, _), cost in samples(metrics).items() if name == "runestone_cost_usd_total" and cost]


async def test_only_providers_with_list_prices_have_a_series() -> None:
    """One's own server is not free of charge: what it costs is not known, so nothing is said."""
    metrics = await loaded(RECORD._replace(provider="mine"))
    assert not [name for name, _ in samples(metrics) if name.startswith("runestone_cost")]


async def test_calls_that_come_before_the_prices_are_not_forgotten() -> None:
    """While the tables are loaded, in a thread, calls go on; their cost is there afterwards."""
    may_go_on, table = threading.Event(), Table()

    def slow(provider: str, model: str) -> Price | None:
        may_go_on.wait(5)
        return table(provider, model)

    prices = Costs(["openai"], slow)
    metrics = Metrics(["fast"], costs=prices)
    loading = asyncio.ensure_future(prices.load())
    await asyncio.sleep(0)
    for _ in range(3):
        metrics(RECORD)
    assert value(metrics, "runestone_cost_usd_total", TARGET) == 0.0
    assert prices.of(RECORD) is None
    may_go_on.set()
    await loading
    assert value(metrics, "runestone_cost_usd_total", TARGET) == pytest.approx(3 * ONE)
    metrics(RECORD)
    assert value(metrics, "runestone_cost_usd_total", TARGET) == pytest.approx(4 * ONE)
    assert prices.of(RECORD) == pytest.approx(ONE)


async def test_what_waits_for_prices_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose prices never come keeps so many calls and no more."""
    monkeypatch.setattr(costs, "MOST_WAITING", 5)
    prices = Costs(["openai"], Table())
    metrics = Metrics(["fast"], costs=prices)
    for _ in range(20):
        metrics(RECORD)
    await prices.load()
    assert value(metrics, "runestone_cost_usd_total", TARGET) == pytest.approx(5 * ONE)


@pytest.mark.parametrize(
    ("provider", "priced"),
    [
        ('kind = "openai"', True),
        ('kind = "openai"\nbase_url = "https://api.openai.com/v1"', True),
        ('kind = "openai"\nbase_url = "http://127.0.0.1:8000/v1"', False),
        ('kind = "azure"\nbase_url = "https://mine.openai.azure.com/openai/v1"', True),
        ('kind = "ollama"', False),
        ('kind = "openai-compatible"\nbase_url = "http://127.0.0.1:8000/v1"', False),
        ('kind = "simulated"', False),
    ],
)
def test_a_vendors_prices_are_for_the_vendors_address(provider: str, priced: bool, tmp_path: Path) -> None:
    """A server of one's own that speaks as OpenAI does gets no bill of OpenAI's; an address that has to be given is the
    vendor's all the same.
    """
    file = tmp_path / "runestone.toml"
    file.write_text(
        f'[providers.up]\n{provider}\napi_keys = ["env:KEY"]\n'
        if "simulated" not in provider
        else f"[providers.up]\n{provider}\n"
    )
    assert bool(costs_of(load(file, {"KEY": "secret-0123456789"})).providers) == priced


async def test_real_prices_are_found(tmp_path: Path) -> None:
    """By the package's own table: a model everybody knows has one, a name that nobody has none."""
    file = tmp_path / "runestone.toml"
    file.write_text('[providers.up]\nkind = "openai"\napi_keys = ["env:KEY"]\n')
    prices = costs_of(load(file, {"KEY": "secret-0123456789"}))
    await prices.load()
    record = RECORD._replace(provider="up")
    known = prices.of(record._replace(target_model="gpt-4o-mini"))
    assert known is not None
    assert 0 < known < 0.01
    assert prices.of(record._replace(target_model="no-such-model-at-all")) is None
