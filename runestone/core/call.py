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


@dataclass(eq=False)
class Call:
    """One call on its way through the stages. Times are seconds of `time.perf_counter`.

    Without slots on purpose: what has not happened yet costs nothing, as it stands in the class.
    """

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

    deadline: float = float("inf")
    """When the whole call must be over, all attempts included."""

    # what happened
    fingerprint: bytes | None = field(default=None, init=False)
    """What the answer is kept under; None when it is not kept."""
    items: tuple[bytes, ...] = field(default=(), init=False)
    """Under what the answers to the single items of an embeddings call are kept."""
    joins: bool = field(default=False, init=False)
    """Whether the same question in flight may answer this one."""
    cache: str = field(default="none", init=False)
    """What the cache did: hit, stale, miss, collapsed, bypass; none where it has no part."""
    cache_headers: Sequence[tuple[str, str]] = field(default=(), init=False)
    """Cache-Status, and Age on a hit."""
    targets: tuple[Target, ...] = field(default=(), init=False)
    resilience: Resilience = field(default=PLAIN, init=False)
    """What is done when targets do badly."""
    has_next: bool = field(default=False, init=False)
    """Whether another target can be asked if this attempt fails."""
    goes_on: bool = field(default=False, init=False)
    """Whether the last message is an answer that broke off, to be continued and not answered."""
    target: Target | None = field(default=None, init=False)
    attempts: int = field(default=0, init=False)
    failures: tuple[tuple[Target, str], ...] = field(default=(), init=False)
    """Attempts that failed: where, and with which error code."""
    waited: float = field(default=0.0, init=False)
    """Seconds spent waiting for providers, up to the head of the answer."""
    head: float | None = field(default=None, init=False)
    """Seconds to the answer's head that were not spent waiting; set when the head is known."""
