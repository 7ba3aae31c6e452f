"""Prices come from the installed package, offline, and never from a provider that only has a similar name."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import SimpleNamespace

import pytest

from runestone.providers import prices
from runestone.providers.catalog import CATALOG

genai_data = pytest.importorskip("genai_prices.data")
genai_types = pytest.importorskip("genai_prices.types")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("openai", "text-embedding-3-small"),
        ("anthropic", "claude-haiku-4-5"),
        ("azure", "gpt-4o"),
        ("gemini", "gemini-2.5-flash"),
        ("xai", "grok-4"),
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("moonshot", "kimi-k2-0905-preview"),
        ("voyage", "voyage-3.5"),
        ("groq", "llama-3.3-70b-versatile"),
        ("bedrock", "openai.gpt-oss-120b-1:0"),
        ("openrouter", "openai/gpt-4o"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct:groq"),
    ],
)
def test_well_known_models_have_a_price(kind: str, model: str) -> None:
    """Under the catalog's kinds, in dollars per token: between a hundredth of a cent and $200 a million."""
    found = prices.price_of(kind, model)
    assert found is not None
    assert 1e-10 < found.input < 2e-4
    assert 0 <= found.output < 2e-4
    assert found.cached is None or found.cached <= found.input


def test_the_numbers_are_the_packages() -> None:
    """A price that has stood for years, to the digit."""
    found = prices.price_of("openai", "gpt-4o-mini")
    assert found is not None
    assert (found.input, found.output, found.cached) == pytest.approx((1.5e-7, 6e-7, 7.5e-8))


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai-compatible", "gpt-4o"),  # a server of one's own: no vendor's bill
        ("simulated", "gpt-4o"),
        ("ollama", "gpt-oss"),
        ("vllm", "meta-llama/Llama-3.3-70B-Instruct"),
        ("openai", "no-such-model"),
        ("no-such-kind", "gpt-4o"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct"),  # the router chooses who serves it
        ("openai", "gpt-4o" * 100),
        ("openai", ""),
        ("", ""),
    ],
)
def test_what_is_not_known_has_no_price(kind: str, model: str) -> None:
    """None, never a guess and never an error."""
    assert prices.price_of(kind, model) is None


def test_every_row_of_the_map_is_right() -> None:
    """It maps kinds of the catalog to ids of the package, and only where they differ."""
    ids = {provider.id for provider in genai_data.providers}
    assert prices.IDS.keys() <= CATALOG.keys()
    assert set(prices.IDS.values()) <= ids
    assert not prices.IDS.keys() & ids


def model_price(**rates: object) -> object:
    return genai_types.ModelPrice(**rates)


def test_a_tiered_price_is_its_base_tier() -> None:
    """What short calls pay."""
    tiered = genai_types.TieredPrices(base=Decimal(3), tiers=[genai_types.Tier(start=200_000, price=Decimal(6))])
    found = prices._price(model_price(input_mtok=tiered, output_mtok=Decimal(15)))
    assert found is not None
    assert (found.input, found.output) == pytest.approx((3e-6, 1.5e-5))


@pytest.mark.parametrize(
    ("rates", "output"),
    [
        ({"input_mtok": Decimal(1)}, 0.0),  # embeddings
        ({"input_mtok": Decimal(0), "output_mtok": Decimal(0)}, 0.0),  # free is known
        ({"output_mtok": Decimal(1)}, None),
        ({"input_mtok": Decimal(1), "output_audio_mtok": Decimal(9)}, None),
        ({}, None),
    ],
)
def test_half_a_price_is_none(rates: dict[str, object], output: float | None) -> None:
    """Input must be priced, and output by text unless there is none."""
    found = prices._price(model_price(**rates))
    assert (found.output if found else None) == output


def test_the_price_in_force_is_the_last_that_has_begun() -> None:
    """Not one that is announced, and not one that is over."""
    rows = [
        genai_types.ConditionalPrice(prices=model_price(input_mtok=Decimal(price)), constraint=constraint)
        for price, constraint in (
            (1, None),
            (2, genai_types.StartDateConstraint(start_date=date(2026, 1, 1))),
            (3, genai_types.StartDateConstraint(start_date=date(2026, 12, 1))),
        )
    ]
    found = prices._price(prices._in_force(rows, NOW))
    assert found is not None
    assert found.input == pytest.approx(2e-6)


def test_a_price_by_the_hour_is_the_dearest() -> None:
    """A limit that holds at noon holds at night."""
    rows = [
        genai_types.ConditionalPrice(
            prices=model_price(input_mtok=Decimal(price), output_mtok=Decimal(price)), constraint=constraint
        )
        for price, constraint in (
            (1, None),
            (4, genai_types.TimeOfDateConstraint(start_time=time(1, tzinfo=UTC), end_time=time(4, tzinfo=UTC))),
        )
    ]
    found = prices._price(prices._in_force(rows, NOW))
    assert found is not None
    assert found.output == pytest.approx(4e-6)


def test_every_price_of_the_package_can_be_read() -> None:
    """All of its models: a price or None, no error, nothing negative; most have one."""
    found = [
        prices._price(prices._in_force(model.prices, NOW))
        for provider in genai_data.providers
        for model in provider.models
    ]
    known = [price for price in found if price is not None]
    assert len(known) > len(found) * 0.8
    assert all(price.input >= 0 and price.output >= 0 for price in known)


def test_without_the_package_there_are_no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that was installed without it runs."""

    def missing(name: str) -> SimpleNamespace:
        raise ModuleNotFoundError(name)

    prices._providers.cache_clear()
    prices.price_of.cache_clear()
    monkeypatch.setattr(prices, "import_module", missing)
    try:
        assert prices.price_of("openai", "gpt-4o") is None
    finally:
        prices._providers.cache_clear()
        prices.price_of.cache_clear()


def test_importing_the_module_does_not_load_the_package() -> None:
    """Its tables and libraries cost time and memory: they are loaded by the first question. No update is started."""
    code = (
        "import sys, threading; from runestone.providers.prices import price_of\n"
        "assert not any(name.startswith(('genai_prices', 'pydantic')) for name in sys.modules)\n"
        "assert price_of('openai', 'gpt-4o'); assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
