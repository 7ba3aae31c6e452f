"""From the model name a client asked for to the targets that may answer.

Order: a name of [models]; an alias; `provider/model`; a name a provider lists; a pattern a provider lists (first
provider wins).
Rule: pure and built once; nothing is learned from requests, so no client can make it grow.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from runestone.core.call import Target
from runestone.errors import NotFound


@dataclass(frozen=True, slots=True)
class Listing:
    """What one provider says it has. `closed`: it answers for nothing else."""

    provider: str
    models: tuple[str, ...]
    closed: bool = False


def is_pattern(name: str) -> bool:
    """Whether it stands for more names than its own."""
    return any(sign in name for sign in "*?[")


def matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression that fully matches whatever any of the shell-style `patterns` does."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")


class Names:
    """The table of model names."""

    def __init__(
        self,
        models: Mapping[str, tuple[Target, ...]],
        aliases: Mapping[str, str],
        listings: Iterable[Listing],
    ) -> None:
        self._listings = {listing.provider: listing for listing in listings}
        self._patterns = [
            (listing.provider, matcher(filter(is_pattern, listing.models))) for listing in self._listings.values()
        ]
        self._exact: dict[str, tuple[Target, ...]] = {}
        for listing in self._listings.values():
            for name in listing.models:
                if not is_pattern(name):
                    self._exact.setdefault(name, (Target(listing.provider, name),))
        self._exact.update(models)
        self._models = dict(zip(models, models, strict=True))
        # An alias may stand for anything that can be asked for, so it is resolved by the same rules.
        for alias, meant in aliases.items():
            found = self.find(meant)
            if found:
                self._exact[alias] = found
            if meant in models:
                self._models[alias] = meant

    def resolve(self, name: str, shown: Callable[[str], bool] | None = None) -> tuple[Target, ...]:
        """The targets of `name`, in order. Raises NotFound (model_not_found) that lists the nearest names of those
        `shown`.
        """
        found = self._exact.get(name) or self.find(name)
        if found:
            return found
        known = [other for other in self._exact if shown is None or shown(other)]
        near = difflib.get_close_matches(name[:200], known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"known models: {', '.join(known[:5]) or 'none'}"
        raise NotFound(f"the model {name[:200]!r} does not exist here; {hint}", param="model", code="model_not_found")

    def model(self, name: str) -> str | None:
        """The model of [models] that `name` stands for, None if it is none."""
        return self._models.get(name)

    def names(self) -> list[str]:
        """Every name that can be asked for and is not a pattern, in order of configuration."""
        return list(self._exact)

    def find(self, name: str) -> tuple[Target, ...]:
        """The targets of `name`, none if there are none."""
        if name in self._exact:
            return self._exact[name]
        provider, _, model = name.partition("/")
        listing = self._listings.get(provider)
        if listing is not None and model and (not listing.closed or model in listing.models):
            return (Target(provider, model),)
        for owner, pattern in self._patterns:
            if pattern.match(name):
                return (Target(owner, name),)
        return ()
