"""Embeddings from memory, item by item: only those that are not kept go up.

Rules: as in gateway/cache.py, but for what has no sense here: an embedding is one form, and does not grow stale while
its time lasts. What is past its time serves only when the provider fails, inside stale-if-error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from copy import copy
from hashlib import sha256
from time import perf_counter

import orjson

from runestone.core.answer import Answer, Form
from runestone.core.cache import Entry
from runestone.core.call import Call, Operation
from runestone.core.directives import NO_WISHES, forwarded, hit, refused
from runestone.core.fingerprint import of_item
from runestone.core.reply import Reply
from runestone.core.summary import Summary
from runestone.dialects import embeddings
from runestone.errors import NotStored, ProviderFailed, RunestoneError
from runestone.gateway.cache import Answers, Freshness, Keys, Tally, may_use, say
from runestone.gateway.pipeline import Next, Stage

Found = Entry[Answer] | None


def by_kind(whole: Stage, items: Stage) -> Stage:
    """One stage of both: `whole` for calls that are answered as a whole, `items` for embeddings."""

    def from_cache(call: Call, next: Next) -> Awaitable[Reply]:  # noqa: A002
        return (items if call.operation is Operation.EMBEDDINGS else whole)(call, next)

    return from_cache


class ItemsFromCache:
    """The stage, for embeddings alone."""

    def __init__(self, answers: Answers, keys: Keys, freshness: Freshness, *, tally: Tally) -> None:
        self._answers = answers
        self._keys = keys
        self._freshness = freshness
        self._tally = tally

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        asked = embeddings.items(call.fields) if call.operation is Operation.EMBEDDINGS else None
        if asked is None:
            return await next(call)
        if call.directives.no_store:
            say(call, "bypass", forwarded("bypass"))
            return await next(call)
        rest = {name: value for name, value in call.fields.items() if name != "input"}
        whole = self._keys.of(call, rest)
        call.items = tuple(of_item(whole, item) for item in asked)
        now = perf_counter()
        kept = [self._answers.look(key, now) for key in call.items]
        fresh = [entry if entry is not None and self._is_fresh(call, entry, now) else None for entry in kept]
        missing = [place for place, entry in enumerate(fresh) if entry is None]
        self._tally.hits += len(asked) - len(missing)
        if not missing:
            return _serve(call, fresh, now)
        if call.directives.only_if_cached:
            say(call, "miss", refused())
            raise NotStored("not every item is kept for this call, and only-if-cached forbids to ask")
        self._tally.misses += len(missing)
        try:
            return await _ask(call, next, asked, fresh, missing)
        except RunestoneError as error:
            if error.status < 500 or call.directives.no_cache or not self._may_be_stale(call, kept, perf_counter()):
                raise
            return _serve(call, kept, perf_counter(), detail="stale-if-error")

    def _is_fresh(self, call: Call, entry: Entry[Answer], now: float) -> bool:
        return now < entry.expires and (call.directives is NO_WISHES or may_use(call.directives, entry, now))

    def _may_be_stale(self, call: Call, kept: Sequence[Found], now: float) -> bool:
        allowed = call.directives.stale_if_error
        allowed = self._freshness.stale_if_error if allowed is None else allowed
        return all(entry is not None and now < entry.expires + allowed for entry in kept)


async def _ask(call: Call, next: Next, asked: Sequence[object], fresh: list[Found], missing: list[int]) -> Reply:  # noqa: A002
    """Asks for what is missing, and puts it among what is kept."""
    say(call, "miss", forwarded("miss"))
    call.joins = not call.directives.no_cache
    if len(missing) == len(asked):
        call.fingerprint = _together(call.items)
        return await next(call)
    wanted = [asked[place] for place in missing]
    call.watched()
    own = copy(call)
    own.fields = embeddings.asking(call.fields, wanted)
    own.body = orjson.dumps(own.fields)
    own.items = tuple(call.items[place] for place in missing)
    own.fingerprint = _together(own.items)
    try:
        reply = await next(own)
    finally:
        call.target, call.attempts, call.waited = own.target, own.attempts, own.waited
        call.cache_headers, call.cache, call.failures = own.cache_headers, own.cache, own.failures
    parts = embeddings.split(reply.body or b"", wanted)
    if parts is None:
        reply.close()
        raise ProviderFailed("the provider's answer does not hold one embedding for each input")
    of_place = dict(zip(missing, parts, strict=True))
    answers = [of_place[place] if entry is None else entry.value.forms[Form.WHOLE] for place, entry in enumerate(fresh)]
    reply.body = embeddings.join(answers)
    return reply


def _serve(call: Call, kept: Sequence[Found], now: float, detail: str = "") -> Reply:
    entries = [entry for entry in kept if entry is not None]
    bodies = [entry.value.forms[Form.WHOLE] for entry in entries]
    ttl = min(entry.expires for entry in entries) - now
    call.target = entries[0].value.target
    call.cache = "hit" if ttl > 0 else "stale"
    age = str(int(now - min(entry.stored for entry in entries)))
    call.cache_headers = (("Cache-Status", hit(ttl, detail)), ("Age", age))
    if len(bodies) == 1:
        return Reply(200, [], entries[0].value.summary, body=bodies[0])
    tokens = [entry.value.summary.input_tokens for entry in entries]
    summary = Summary(input_tokens=sum(count or 0 for count in tokens), model=entries[0].value.summary.model)
    return Reply(200, [], summary, body=embeddings.join(bodies))


def _together(keys: Sequence[bytes]) -> bytes:
    return keys[0] if len(keys) == 1 else sha256(b"".join(keys)).digest()
