"""What the calls of a configuration cost: who has list prices, and how they are looked up."""

from __future__ import annotations

from runestone.config.schema import Configuration, Provider
from runestone.core.price import Price
from runestone.providers.catalog import CATALOG
from runestone.providers.prices import price_of
from runestone.telemetry.costs import Costs


def costs_of(configuration: Configuration) -> Costs:
    """Whoever starts the gateway has it `load` the prices."""
    kinds = {name: provider.kind for name, provider in configuration.providers.items() if _has_list_prices(provider)}

    def look_up(provider: str, model: str) -> Price | None:
        return price_of(kinds[provider], model)

    return Costs(kinds, look_up)


def _has_list_prices(provider: Provider) -> bool:
    """A vendor's prices are for the vendor's own address; where one has to be given (it names a region, or a customer),
    for whatever was given.
    """
    entry = CATALOG.get(provider.kind)
    if entry is None or not entry.base_url or entry.base_url.startswith("http://"):  # one's own server
        return False
    return provider.base_url in (None, entry.base_url) or "{" in entry.base_url
