"""What a client asked for, and what has become of it so far.

Rule: what the client sent is changed only by middlewares (`rewrite`); the stages write what stands below "what
happened".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import orjson

from runestone.core.directives import NO_WISHES, Directives
from runestone.core.json import JsonObject
from runestone.core.resilience import PLAIN, Resilience
from runestone.core.trace import Context, Span, Trace


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


def is_same(one: Caller, other: Caller) -> bool:
    """Whether two calls are of the same caller; a key may be called as nobody is, and is somebody all the same."""
    return one == other and (one is ANONYMOUS) is (other is ANONYMOUS)


MAX_TAGS, MAX_TAG = 16, 100
"""Of a call, and the characters of each."""

FREE = frozenset({"hit", "stale", "collapsed"})
"""What the cache did when a call has cost nothing at a provider (see Call.cache)."""


Place = Literal["gateway", "limits", "batch", "retry", "pool", "provider", "streaming"]
"""Where a call can be: in the stages, waiting for its key's turn, for others to go up with, for another attempt, for a
connection, for a provider's answer; and what streams.
"""


class Progress:
    """Where a call is right now, for who looks from outside. Copies of a call share one, and so do calls that hear the
    same answer: who makes them wait notes it with a store, and nobody on the path reads it.

    Without slots on purpose, as a Call.
    """

    stage: Place = "gateway"
    target: Target | None = None
    """Who is asked, or was asked last."""
    attempts: int = 0


class _Unwatched(Progress):
    """Of a call that nobody can see: remembers nothing."""

    def __setattr__(self, name: str, value: object) -> None:
        """Nobody looks."""


UNWATCHED = _Unwatched()


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

    context: Context | None = None
    """The trace it is a part of."""
    deadline: float = float("inf")
    """When the whole call must be over, all attempts included."""

    def watched(self) -> Progress:
        """Where it says where it is, from now on: what is over in a moment never does."""
        if self.progress is UNWATCHED:
            self.progress = Progress()
        return self.progress

    def rewrite(self, fields: JsonObject) -> None:
        """Asks something else, from here on: for middlewares, before anything was asked."""
        self.fields, self.body = fields, orjson.dumps(fields)
        if type(fields.get("model")) is str:
            self.model = str(fields["model"])

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
    trace: Trace | None = field(default=None, init=False)
    """Where its steps are noted; None when they are not."""
    span: Span | None = field(default=None, init=False)
    """The step it is in."""
    progress: Progress = field(default=UNWATCHED, init=False)
    head: float | None = field(default=None, init=False)
    """Seconds to the answer's head that were not spent waiting; set when the head is known."""
