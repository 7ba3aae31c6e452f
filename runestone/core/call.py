"""What a client asked for, and what has become of it so far.

Rule: what the client sent is never changed here; the stages write only the fields below "what happened".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from runestone.core.directives import NO_WISHES, Directives
from runestone.core.json import JsonObject
from runestone.core.resilience import PLAIN, Resilience


class Operation(StrEnum):
    """What can be asked; the value is the path behind /v1."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"
    COUNT_TOKENS = "messages/count_tokens"


ANTHROPIC_OPERATIONS = frozenset({Operation.MESSAGES, Operation.COUNT_TOKENS})


@dataclass(frozen=True, slots=True)
class Target:
    """A provider and the name it has for the model."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the listed key, or nobody in particular."""

    name: str = "anonymous"
    admin: bool = False
    models: tuple[str, ...] = ("*",)
    tenant: str = ""
    """Whom the key belongs to; what keys of one tenant may share."""


ANONYMOUS = Caller()


MAX_TAGS, MAX_TAG = 16, 100
"""Of a call, and the characters of each."""

FREE = frozenset({"hit", "stale", "collapsed"})
"""What the cache did when a call has cost nothing at a provider (see Call.cache)."""


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way through the stages. Times are seconds of `time.perf_counter`."""

    id: str
    operation: Operation
    body: bytes
    fields: JsonObject
    model: str
    stream: bool
    caller: Caller
    headers: Mapping[str, str]
    """The client's headers that a provider of the same dialect is shown (names in lower case)."""
    credential: str | None
    """The client's own credential, for providers with `passthrough`."""
    started: float
    timeout: float | None = None
    """Seconds the client gave (`x-runestone-timeout`); lowers the configured total."""
    directives: Directives = NO_WISHES
    """What the client wants of the cache."""
    ttl: float | None = None
    """Seconds the client wants its answer kept (`x-runestone-cache-ttl`)."""
    tags: tuple[str, ...] = ()
    """What the client calls its answer (`x-runestone-tags`), to clear it by."""

    # what happened
    fingerprint: bytes | None = None
    """What the answer is kept under; None when it is not kept."""
    items: tuple[bytes, ...] = ()
    """Under what the answers to the single items of an embeddings call are kept."""
    joins: bool = False
    """Whether the same question in flight may answer this one."""
    cache: str = "none"
    """What the cache did: hit, stale, miss, collapsed, bypass; none where it has no part."""
    cache_headers: Sequence[tuple[str, str]] = ()
    """Cache-Status, and Age on a hit."""
    targets: tuple[Target, ...] = ()
    resilience: Resilience = PLAIN
    """What is done when targets do badly."""
    has_next: bool = False
    """Whether another target can be asked if this attempt fails."""
    goes_on: bool = False
    """Whether the last message is an answer that broke off, to be continued and not answered."""
    target: Target | None = None
    attempts: int = 0
    failures: list[tuple[Target, str]] = field(default_factory=list)
    """Attempts that failed: where, and with which error code."""
    waited: float = 0.0
    """Seconds spent waiting for providers, up to the head of the answer."""
    head: float | None = None
    """Seconds to the answer's head that were not spent waiting; set when the head is known."""
    deadline: float = field(default=float("inf"))
    """When the whole call must be over, all attempts included."""
