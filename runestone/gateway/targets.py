"""What the gateway knows of each target: its breaker, its concurrency limit, its health.

Rule: targets come from the configuration. A model that only a call names (`provider/anything`) shares the state of its
provider, so that no client can make this grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from runestone.core.breaker import Breaker
from runestone.core.call import Target
from runestone.core.concurrency import Concurrency
from runestone.core.health import Health
from runestone.core.quantile import Quantile

ANY = "*"
"""The model of the state that a provider's unlisted models share."""


class Watched:
    """The state of one target. `breaker` and `concurrency` are None where they are switched off."""

    __slots__ = ("breaker", "concurrency", "health", "slow", "target")

    def __init__(self, target: Target, breaker: Breaker | None, concurrency: Concurrency | None) -> None:
        self.target = target
        self.breaker = breaker
        self.concurrency = concurrency
        self.health = Health()
        self.slow = Quantile(0.95)
        """Seconds to the first byte that 19 of 20 answers stay under: when a hedge is worth its price."""


class Targets:
    """All of them."""

    def __init__(self, known: Iterable[Target], providers: Iterable[str], make: Callable[[Target], Watched]) -> None:
        self._known = {target: make(target) for target in known}
        self._shared = {provider: make(Target(provider, ANY)) for provider in providers}

    def of(self, target: Target) -> Watched:
        """The state of `target`, whose provider is configured."""
        return self._known.get(target) or self._shared[target.provider]

    def exactly(self, target: Target) -> Watched | None:
        """The state that was made for `target` itself; its model may be ANY."""
        return self._shared.get(target.provider) if target.model == ANY else self._known.get(target)

    def of_provider(self, provider: str) -> Iterator[Watched]:
        """Every state that belongs to `provider`."""
        yield from (watched for watched in self if watched.target.provider == provider)

    def __iter__(self) -> Iterator[Watched]:
        yield from self._known.values()
        yield from self._shared.values()
