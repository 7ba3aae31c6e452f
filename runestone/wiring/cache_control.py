"""The cache as operators see it, fill it and empty it, and what it holds from one run to the next."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from runestone.config.schema import Cache as Settings
from runestone.config.schema import Configuration
from runestone.config.units import parse_duration
from runestone.core.answer import Answer
from runestone.core.cache import Entry
from runestone.core.call import Caller
from runestone.core.json import JsonObject
from runestone.core.names import Names
from runestone.gateway.warm import MAX_LINES, Warmed, Warmup
from runestone.gateway.warm_line import MAX_LINE, Reader, Who
from runestone.stores.answers import AnswersFile
from runestone.stores.lines import batches
from runestone.wiring.caching import Caching, private_of

MOST_MODELS = 100
LONGEST_NAME = 200

_log = logging.getLogger("runestone.cache")


class CacheControl:
    """Reads, fills and empties the cache; where it is off there is nothing to do."""

    def __init__(self, settings: Settings, caching: Caching, warmup: Warmup) -> None:
        self.is_enabled = settings.enabled
        self._settings = settings
        self._caching = caching
        self._warmup = warmup
        self._file: AnswersFile | None = None
        if self.is_enabled and settings.persist is not None:
            self._file = AnswersFile(
                Path(settings.persist), caching.answers, max_size=settings.max_size, max_bytes=settings.max_bytes
            )

    async def start(self) -> None:
        """Takes in what was kept by the run before, then the warm-up's file; that one is newer."""
        if self._file is not None:
            await self._file.load()
        if self.is_enabled and self._settings.warm is not None:
            await self._warm_from(Path(self._settings.warm))

    async def follow(self, before: CacheControl) -> None:
        """Takes the cache over from the control that was there `before`: a file it kept is ours to keep."""
        told = self._settings
        self._file = before._file
        if not self.is_enabled:
            self._caching.answers.clear()
        self._caching.answers.bound(max_size=told.max_size, max_bytes=told.max_bytes)
        if self.is_enabled and told.warm is not None and told.warm != before._settings.warm:
            await self._warm_from(Path(told.warm))

    async def save(self) -> None:
        """Keeps what is there now, for the next run."""
        if self._file is not None:
            await self._file.save()

    def overview(self) -> JsonObject:
        """What is kept, and what has been counted."""
        answers, tally = self._caching.answers, self._caching.tally
        asked = tally.hits + tally.misses
        models = Counter(entry.model for _, entry in answers.items())
        return {
            "enabled": self.is_enabled,
            "entries": len(answers),
            "bytes": answers.bytes,
            "max_size": self._settings.max_size,
            "max_bytes": self._settings.max_bytes,
            "hits": tally.hits,
            "misses": tally.misses,
            "collapsed": self._caching.joined.count,
            "stores": answers.stores,
            "evictions": answers.evictions,
            "expirations": answers.expirations,
            "hit_rate": round(tally.hits / asked, 4) if asked else 0.0,
            "by_model": {model[:LONGEST_NAME]: count for model, count in models.most_common(MOST_MODELS)},
        }

    def clear(self, key: str | None, model: str | None, tag: str | None) -> int:
        """Forgets the answers that were kept for `key`, of `model` and with `tag`, as far as those are given."""

        def matches(entry: Entry[Answer]) -> bool:
            return (
                (key is None or entry.owner == key)
                and (model is None or entry.model == model)
                and (tag is None or tag in entry.tags)
            )

        return self._caching.answers.clear(matches)

    async def warm(self, lines: Iterable[bytes]) -> JsonObject:
        """Keeps the answers of `lines`; what became of them."""
        warmed = Warmed()
        await self._warmup(lines, warmed)
        return warmed.result()

    async def _warm_from(self, path: Path) -> None:
        warmed = Warmed()
        reading = batches(path, MAX_LINE)
        try:
            while warmed.lines <= MAX_LINES and (lines := await asyncio.to_thread(next, reading, None)) is not None:
                await self._warmup(lines, warmed)
        except OSError as error:
            _log.warning("%s cannot be read: %s", path, error.strerror or error)
        finally:
            reading.close()
        for problem in warmed.errors:
            _log.warning("%s: %s", path.name, problem)
        _log.debug("lines kept of %s: %d", path, warmed.stored)


def cache_control_of(configuration: Configuration, caching: Caching, names: Names) -> CacheControl:
    """The control of `caching`; nothing is read yet."""
    told, auth = configuration.cache, configuration.auth
    callers = {key.name: Caller(name=key.name, tenant=key.tenant) for key in auth.keys}
    reader = Reader(
        names=names,
        private=private_of(configuration),
        who=Who(keys=callers, scope=told.scope, is_open=not auth.required),
        max_entry=told.max_entry,
        duration=parse_duration,
    )
    return CacheControl(told, caching, Warmup(caching.answers, caching.keys, caching.terms, reader))
