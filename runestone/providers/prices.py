"""Prices of models, as the package `genai-prices` knows them (https://github.com/pydantic/genai-prices).

    kind of the catalog, model ─▶ the package's provider, its model ─▶ Price

Rule: offline. The prices are those in the installed wheel; its network update is never started. A provider is found by
its exact id: the package's own search takes whatever contains "openai" for OpenAI, and a server of one's own
("openai-compatible") would get a vendor's bill. What is not known is None.

    tiers (a higher rate above so many tokens)      the base tier: what short calls pay
    a price from a date on                          the one in force when first asked
    a price by the time of day (off-peak rates)     the dearest hour's: a limit must hold at any hour
    fees per request, search or picture             not counted
    output priced by sound or picture alone         no price: counting text would be wrong

Loading the package takes about 200 ms and 15 MB (pydantic, httpx, 1.6 MB of tables), so it is imported when the first
price is asked for, at build time, and not by a gateway that needs none. Without the package there are no prices.
Absent on purpose: a table of our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib import import_module
from typing import Final, Protocol, cast

from runestone.core.price import Price

LONGEST_NAME: Final = 200
_PER: Final = 1_000_000

# Where the package has another id than the catalog. A kind with the same id needs no row.
IDS: Final = {
    "gemini": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
    "voyage": "voyageai",
    "bedrock": "aws",
    "bedrock-mantle": "aws",
}


class _Model(Protocol):
    prices: object


class _Provider(Protocol):
    id: str

    def find_model(self, model_ref: str, *, all_providers: list[_Provider]) -> _Model | None:
        """The model that answers to this name."""


@lru_cache(maxsize=1)
def _providers() -> list[_Provider]:
    """The package's table; empty when it is not installed."""
    try:
        data = import_module("genai_prices.data")
    except ModuleNotFoundError:
        return []
    return cast("list[_Provider]", data.providers)


@lru_cache(maxsize=1024)
def price_of(provider_kind: str, model: str) -> Price | None:
    """US dollars per token of `model` at a provider of this kind (a name of the catalog); None when not known.

    The first call loads the package: ask at build time, not on the path of a call. Never raises.
    """
    if len(model) > LONGEST_NAME:
        return None
    wanted = IDS.get(provider_kind, provider_kind)
    if provider_kind == "huggingface":  # "model:provider" names who serves it; without, the router chooses
        model, _, backend = model.partition(":")
        wanted = f"huggingface_{backend}"
    providers = _providers()
    provider = next((row for row in providers if row.id == wanted), None)
    # Not the package's own lookup: that one remembers every name it was ever asked for.
    found = provider.find_model(model, all_providers=providers) if provider is not None else None
    return None if found is None else _price(_in_force(found.prices, datetime.now(UTC)))


def _in_force(prices: object, now: datetime) -> object:
    """The last price whose date has come, the first when none has (as the package does it); the dearest of a day."""
    if not isinstance(prices, list):
        return prices
    rows = cast("list[object]", prices)
    dated = [row for row in rows if not hasattr(getattr(row, "constraint", None), "start_time")]
    hourly = [row for row in rows if row not in dated]
    chosen = dated[0] if dated else None
    for row in dated:
        constraint = getattr(row, "constraint", None)
        if constraint is None or constraint.active(now):
            chosen = row
    return max(
        (getattr(row, "prices", None) for row in [*hourly, chosen]),
        key=lambda found: price.output if (price := _price(found)) is not None else -1.0,
    )


def _price(prices: object) -> Price | None:
    # Only what is priced is an attribute: others raise, or are looked up in a registry.
    fields = cast("dict[str, object]", getattr(prices, "__dict__", {}))
    paid, made = _dollars(fields.get("input_mtok")), _dollars(fields.get("output_mtok"))
    if paid is None or (made is None and _spoken(fields)):
        return None
    return Price(
        input=paid,
        output=made or 0.0,
        cached=_dollars(fields.get("cache_read_mtok")),
        cache_write=_dollars(fields.get("cache_write_mtok")),
    )


def _spoken(fields: Iterable[str]) -> bool:
    """Whether output is priced by something else than text."""
    return any(name.startswith("output_") and name != "output_mtok" for name in fields)


def _dollars(per_million: object) -> float | None:
    """Of one token. A tiered price has its first rate in `base`."""
    rate = getattr(per_million, "base", per_million)
    return float(rate / _PER) if isinstance(rate, Decimal) else None
