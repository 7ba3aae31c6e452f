"""The providers of a configuration: connections, credentials, and what the gateway must know of each."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import fields, replace

from runestone.config.load import SIMULATED
from runestone.config.schema import Configuration, Provider
from runestone.config.schema import Pool as PoolSettings
from runestone.core.names import is_pattern
from runestone.core.upstream import Upstream
from runestone.dialects.passage import Traits
from runestone.edge.models import Lister
from runestone.providers.catalog import CATALOG
from runestone.providers.http import HttpProvider, Timeouts
from runestone.providers.pool import PoolLimits, Tally
from runestone.providers.simulated.behaviour import Behaviour
from runestone.providers.simulated.provider import OPERATIONS, PREFILL, SimulatedProvider

Before = tuple[Configuration, Mapping[str, Upstream]]
"""What was served before a reload."""


def upstreams_of(
    configuration: Configuration, tallies: dict[str, Tally], before: Before | None = None
) -> dict[str, Upstream]:
    """Every provider by name; new ones are not opened yet. One that is configured as it was `before` is the same, with
    its connections and all that is known of it. What is counted of one that is not goes on in `tallies`, by its name.
    """
    return {
        name: before[1][name]
        if before is not None and _is_same(name, configuration, before[0])
        else _upstream(name, entry, configuration, tallies)
        for name, entry in configuration.providers.items()
    }


def traits_of(configuration: Configuration) -> dict[str, Traits]:
    """What a passage must know of each provider."""
    return {name: _traits(entry, configuration) for name, entry in configuration.providers.items()}


def listers_of(configuration: Configuration, upstreams: dict[str, Upstream]) -> dict[str, Lister]:
    """The providers whose own lists tell what can be asked for: those found by patterns, or by their name alone."""
    return {
        name: upstream.list_models
        for name, upstream in upstreams.items()
        if isinstance(upstream, HttpProvider)
        and not upstream.passthrough
        and (not configuration.providers[name].models or any(map(is_pattern, configuration.providers[name].models)))
    }


def pool_of(provider: Provider, configuration: Configuration) -> PoolSettings:
    """`[pool]` with what the provider overrides."""
    own = {field.name: getattr(provider.pool, field.name) for field in fields(provider.pool)}
    return replace(configuration.pool, **{name: value for name, value in own.items() if value is not None})


def _is_same(name: str, configuration: Configuration, before: Configuration) -> bool:
    one, other = configuration.providers[name], before.providers.get(name)
    return (
        one == other
        and pool_of(one, configuration) == pool_of(one, before)
        and configuration.routing.timeouts == before.routing.timeouts
    )


def _upstream(name: str, provider: Provider, configuration: Configuration, tallies: dict[str, Tally]) -> Upstream:
    if provider.kind == SIMULATED:
        told = provider.simulated
        behaviour = Behaviour(
            ttft=told.ttft,
            tokens_per_second=told.tokens_per_second,
            error_rate=told.error_rate,
            status=told.status,
            cut_after=told.cut_after,
            hang=told.hang,
        )
        # Chance is handed in; this one decides which calls fail on purpose, nothing secret.
        return SimulatedProvider(
            behaviour=behaviour,
            chance=random.random,
            first_byte=configuration.routing.timeouts.first_byte,
        )
    entry = CATALOG[provider.kind]
    timeouts = configuration.routing.timeouts
    pool = pool_of(provider, configuration)
    return HttpProvider(
        name=name,
        base_url=provider.base_url or entry.base_url,
        auth=entry.auth,
        credentials=[secret.value for secret in provider.api_keys],
        passthrough=provider.passthrough,
        headers={**dict(entry.headers), **provider.headers},
        timeouts=Timeouts(
            connect=timeouts.connect, first_byte=timeouts.first_byte, between_bytes=timeouts.between_bytes
        ),
        limits=PoolLimits(
            size=pool.default_size,
            overflow=pool.max_overflow,
            checkout_timeout=pool.checkout_timeout,
            waiting=pool.max_waiting,
        ),
        health_path=entry.health_path,
        tally=tallies.setdefault(name, Tally()),
    )


def _traits(provider: Provider, configuration: Configuration) -> Traits:
    if provider.kind == SIMULATED:
        return Traits(operations=OPERATIONS, prefill=PREFILL)
    entry = CATALOG[provider.kind]
    return Traits(
        dialect=entry.dialect,
        operations=entry.operations,
        ends_with_done=entry.ends_with_done if provider.ends_with_done is None else provider.ends_with_done,
        max_tokens_field=provider.max_tokens_field or entry.max_tokens_field,
        stream_usage=entry.stream_usage,
        reasoning_field=entry.reasoning_field,
        prefill=provider.prefill or entry.prefill,
        default_max_tokens=configuration.routing.default_max_tokens,
    )


def pools_of(configuration: Configuration, upstreams: Mapping[str, Upstream]) -> dict[str, PoolSettings]:
    """The settings of the providers that have a pool."""
    return {
        name: pool_of(entry, configuration)
        for name, entry in configuration.providers.items()
        if isinstance(upstreams[name], HttpProvider)
    }
