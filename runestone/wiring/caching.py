"""The cache of a configuration, collapsing and batching: the stages that save calls, and what they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runestone.config.schema import Configuration
from runestone.core.answer import Answer
from runestone.core.cache import Cache
from runestone.core.call import Call
from runestone.core.names import Names
from runestone.core.window import Bounds
from runestone.gateway.batch import Batch, Observe
from runestone.gateway.cache import Answers, Freshness, FromCache, Keys, Tally
from runestone.gateway.coalesce import Coalesce, Joined
from runestone.gateway.items import ItemsFromCache, by_kind
from runestone.gateway.pipeline import Stage
from runestone.gateway.playback import Playback
from runestone.gateway.refresh import Refresher
from runestone.gateway.store import Store, Terms
from runestone.providers.catalog import CATALOG

Sample = tuple[str, dict[str, str], float]


@dataclass(frozen=True, slots=True)
class Caching:
    """What is kept, by which rules, and what has been counted."""

    answers: Answers
    keys: Keys
    terms: Terms
    tally: Tally
    joined: Joined

    def samples(self) -> Iterator[Sample]:
        """The counters and gauges, for whoever scrapes."""
        answers = self.answers
        for name, value in (
            ("hits_total", self.tally.hits),
            ("misses_total", self.tally.misses),
            ("collapsed_total", self.joined.count),
            ("stores_total", answers.stores),
            ("evictions_total", answers.evictions),
            ("expirations_total", answers.expirations),
            ("entries", len(answers)),
            ("bytes", answers.bytes),
        ):
            yield f"cache_{name}", {}, float(value)


def caching_of(configuration: Configuration, names: Names, before: Caching | None = None) -> Caching:
    """The cache: what is kept, and was counted, `before` goes on, under other rules."""
    told = configuration.cache
    freshness = Freshness(
        ttl=told.default_ttl, stale_while_revalidate=told.stale_while_revalidate, stale_if_error=told.stale_if_error
    )
    terms = Terms(
        freshness=freshness,
        max_entry=told.max_entry,
        tool_calls=told.store_tool_calls,
        paced=told.replay == "paced",
    )
    keys = Keys(names, told.scope, private_of(configuration))
    if before is not None:
        return Caching(before.answers, keys, terms, before.tally, before.joined)
    return Caching(Cache(max_size=told.max_size, max_bytes=told.max_bytes), keys, terms, Tally(), Joined())


def cache_stages(configuration: Configuration, caching: Caching, refresher: Refresher) -> dict[str, Sequence[Stage]]:
    """Cache, collapsing and keeping; none where the cache is off."""
    told = configuration.cache
    if not told.enabled:
        return {}
    speed = told.replay_speed if told.replay == "paced" else 0.0

    def playback(answer: Answer, sent: bytes, within: float) -> Playback:
        return Playback(answer, sent, speed, within)

    freshness, tally = caching.terms.freshness, caching.tally
    whole = FromCache(caching.answers, caching.keys, freshness, tally=tally, playback=playback, refresh=refresher)
    return {
        "cache": [by_kind(whole, ItemsFromCache(caching.answers, caching.keys, freshness, tally=tally))],
        "coalesce": [Coalesce(max_kept=told.max_entry, joined=caching.joined)] if told.collapse else [],
        "store": [Store(caching.answers, caching.terms)],
    }


def batch_stages(configuration: Configuration, names: Names, observe: Observe) -> dict[str, Sequence[Stage]]:
    """Batching of embeddings; none where it is off."""
    told = configuration.batch
    if not told.enabled or told.default_size < 2:
        return {}
    private = private_of(configuration)
    most = {name: _max_inputs(configuration, name) for name in configuration.providers}

    def bounds_of(call: Call) -> Bounds:
        largest = min(most[target.provider] for target in names.resolve(call.model))
        return Bounds(
            most=max(1, min(told.default_size, largest)),
            timeout=told.timeout,
            concurrency=max(1, told.max_concurrency),
            adaptive=told.adaptive_sizing,
        )

    def sees_credential(call: Call) -> bool:
        return bool(private) and any(target.provider in private for target in names.resolve(call.model))

    return {"batch": [Batch(bounds_of, sees_credential=sees_credential, observe=observe)]}


def private_of(configuration: Configuration) -> frozenset[str]:
    """The providers that see the client's own credential."""
    return frozenset(name for name, provider in configuration.providers.items() if provider.passthrough)


def _max_inputs(configuration: Configuration, name: str) -> int:
    provider = configuration.providers[name]
    entry = CATALOG.get(provider.kind)
    return provider.max_inputs or (entry.max_inputs if entry is not None else 2048)
