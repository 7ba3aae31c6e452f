"""Answers from memory: what was asked before, and is still true enough, is not asked again.

    fresh                                             from memory
    past its time, inside stale-while-revalidate      from memory, and asked anew behind the client's back
    not there                                         further in; gateway/store.py keeps what comes back
    further in fails, inside stale-if-error           from memory, and marked as stale

Rules: nothing is shared beyond `scope`; a form that cannot be made exactly from the one that is kept (dialects/replay)
counts as not there. What the client wishes (core/directives.py) comes before what is configured.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from time import perf_counter
from typing import Literal

from runestone.core.answer import Answer, form_of
from runestone.core.cache import Cache, Entry
from runestone.core.call import ANONYMOUS, Call, Operation
from runestone.core.directives import NO_WISHES, Directives, forwarded, hit, refused
from runestone.core.fingerprint import fingerprint
from runestone.core.json import JsonObject
from runestone.core.names import Names
from runestone.core.recent import LARGEST, Recent
from runestone.core.reply import Reply
from runestone.dialects.replay.forms import derived
from runestone.errors import NotStored, RunestoneError
from runestone.gateway.pipeline import Next
from runestone.gateway.playback import Playback

Answers = Cache[Answer]
Known = tuple[Operation, bytes, str, str, bool, str | None, tuple[tuple[str, str], ...] | None]
"""All that a fingerprint is made of, as it came; a key's name stands for its tenant too."""

_LONG = re.compile(rb"[0-9]{16}")
CACHED = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.MESSAGES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Seconds: how long an answer is true, and how long after that it may still be used, and for what."""

    ttl: float = 300.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0


@dataclass(slots=True)
class Tally:
    """What the stages have counted: calls; of embeddings, items."""

    hits: int = 0
    misses: int = 0


MOST_KNOWN = 1024
"""Fingerprints that are remembered by the bytes they were made of: what is asked all the time is not written anew."""


class Keys:
    """Under what an answer is kept. `private`: providers that see the client's own credential."""

    def __init__(self, names: Names, scope: Literal["key", "tenant", "global"], private: frozenset[str]) -> None:
        self._names = names
        self._scope = scope
        self._private = private
        self._known: Recent[Known, bytes] = Recent(MOST_KNOWN)

    def of(self, call: Call, fields: JsonObject) -> bytes:
        """The fingerprint of `call` if it had these fields. Raises NotFound for a model that is not there."""
        targets = self._names.resolve(call.model)
        whose = self._whose(call)
        if self._private and any(target.provider in self._private for target in targets):
            whose += ("credential", call.credential or "")
        if fields is call.fields and _LONG.search(call.body):
            # Numbers beyond what a double holds are read as their neighbours; then the bytes themselves decide.
            whose += (sha256(call.body).hexdigest(),)
        return fingerprint(call.operation.value, whose, map(str, targets), call.headers, fields)

    def known(self, call: Call) -> bytes | None:
        """The fingerprint of a call with the same bytes, of the same caller, that was answered from memory before."""
        return self._known.get(_known_by(call)) if len(self._known) and len(call.body) <= LARGEST else None

    def remember(self, call: Call, key: bytes) -> None:
        """Takes note of a call that was answered from memory: it may well come again."""
        if 0 < len(call.body) <= LARGEST:
            self._known.put(_known_by(call), key)

    def _whose(self, call: Call) -> tuple[str, ...]:
        if self._scope == "global":
            return ("global",)
        if call.caller is ANONYMOUS:
            return ("nobody",)
        if self._scope == "tenant" and call.caller.tenant:
            return ("tenant", call.caller.tenant)
        return ("key", call.caller.name)


def _known_by(call: Call) -> Known:
    headers = call.headers
    told = tuple(headers.items()) if headers else None
    caller = call.caller
    return call.operation, call.body, call.model, caller.name, caller is ANONYMOUS, call.credential, told


class FromCache:
    """The stage. `refresh(call, next)` asks anew in a task of its own; `playback` makes blocks of a kept stream."""

    def __init__(
        self,
        answers: Answers,
        keys: Keys,
        freshness: Freshness,
        *,
        tally: Tally,
        playback: Callable[[Answer, bytes, float], Playback],
        refresh: Callable[[Call, Next], None],
    ) -> None:
        self._answers = answers
        self._keys = keys
        self._freshness = freshness
        self._tally = tally
        self._playback = playback
        self._refresh = refresh

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        if call.operation not in CACHED:
            return await next(call)
        wishes = call.directives
        if wishes.no_store or call.fields.get("store") is True:  # `store` wants an effect at the provider
            say(call, "bypass", forwarded("bypass"))
            return await next(call)
        known = self._keys.known(call)
        call.fingerprint = key = known or self._keys.of(call, call.fields)
        now = perf_counter()
        entry = self._answers.look(key, now)
        sent = self._form(key, entry, call) if entry is not None else None
        if entry is None or sent is None:
            return await self._ask(call, next, "request" if wishes.no_cache else "miss")
        if wishes is not NO_WISHES and not may_use(wishes, entry, now):
            return await self._ask_or_stale(call, next, "request", entry, sent)
        if known is None:
            self._keys.remember(call, key)
        if now < entry.expires or (wishes.max_stale and now < entry.expires + wishes.max_stale):
            return self._serve(call, entry, sent, now)
        revalidate = wishes.stale_while_revalidate
        if now < entry.expires + (self._freshness.stale_while_revalidate if revalidate is None else revalidate):
            self._refresh(call, next)
            return self._serve(call, entry, sent, now, detail="stale-while-revalidate")
        return await self._ask_or_stale(call, next, "stale", entry, sent)

    def _form(self, key: bytes, entry: Entry[Answer], call: Call) -> bytes | None:
        """The bytes this client reads; made once of another form, and kept where there is room."""
        wanted = form_of(call)
        answer = entry.value
        sent = answer.forms.get(wanted)
        if sent is None:
            sent = derived(answer.operation, answer.forms, wanted)
            if sent is not None and self._answers.grow(key, len(sent)):
                answer.forms[wanted] = sent
        return sent

    async def _ask(self, call: Call, next: Next, why: str) -> Reply:  # noqa: A002
        if call.directives.only_if_cached:
            say(call, "miss", refused())
            raise NotStored("nothing is kept for this call, and only-if-cached forbids to ask")
        self._tally.misses += 1
        call.joins = not call.directives.no_cache
        say(call, "miss", forwarded(why))
        return await next(call)

    async def _ask_or_stale(self, call: Call, next: Next, why: str, entry: Entry[Answer], sent: bytes) -> Reply:  # noqa: A002
        try:
            return await self._ask(call, next, why)
        except RunestoneError as error:
            allowed = call.directives.stale_if_error
            until = entry.expires + (self._freshness.stale_if_error if allowed is None else allowed)
            now = perf_counter()
            if error.status < 500 or isinstance(error, NotStored) or now >= until or call.directives.no_cache:
                raise
            return self._serve(call, entry, sent, now, detail="stale-if-error")

    def _serve(self, call: Call, entry: Entry[Answer], sent: bytes, now: float, detail: str = "") -> Reply:
        answer = entry.value
        self._tally.hits += 1
        call.joins = False
        call.target = answer.target
        call.cache = "stale" if now >= entry.expires else "hit"
        status = hit(entry.expires - now, detail)
        call.cache_headers = (("Cache-Status", status), ("Age", str(int(now - entry.stored))))
        if not call.stream:
            return Reply(200, [], answer.summary, body=sent)
        return Reply(200, [], answer.summary, blocks=self._playback(answer, sent, call.deadline - now))


def may_use(wishes: Directives, entry: Entry[Answer], now: float) -> bool:
    """Whether the client would have this answer, as far as its age goes."""
    if wishes.no_cache or (wishes.max_age is not None and now - entry.stored > wishes.max_age):
        return False
    return not wishes.min_fresh or now + wishes.min_fresh <= entry.expires


def say(call: Call, label: str, status: str) -> None:
    """What the cache did, for the record and for the client."""
    call.cache = label
    call.cache_headers = (("Cache-Status", status),)
