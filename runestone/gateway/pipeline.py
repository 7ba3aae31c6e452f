"""The stages of a call, in order, with the reason for the order. A stage is `async (call, next) -> Reply`.

    meter      outermost: sees every outcome, and when the last byte has gone
    access     before anything is looked up or spent: may this caller use this model?
    limits     what the caller's key may still spend; after access, so that a refused call costs nothing
    cache      (gateway/cache.py, items.py) the cheapest way not to ask; after limits: it is a call all the same
    coalesce   the same question in flight: one goes on, all hear it
    store      keeps what comes back; inside coalesce, so that it is kept once, whoever hears it
    batch      small questions that a provider takes together; inside store, so that each answer is kept by itself
    route      which targets may answer, in which order
    continue   (if configured) takes a stream that broke off to another target; around the walks, because it is one more
    hedge      (if configured) a second walk beside a slow first one; around the fallback, so that both can move on
    fallback   walks the targets until one answers, and retries; ends at the first byte
    guard      per attempt: breaker and concurrency of the target; inside the fallback, so that a refusal moves on
    send       innermost: one attempt at one target

Rule: HTTP, SSE and whatever comes enter the same chain; a feature is written once, as a stage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol

from runestone.core.call import Call
from runestone.core.reply import Reply

Next = Callable[[Call], Awaitable[Reply]]


class Stage(Protocol):
    """One step: it may refuse, answer itself, change what passes, or only watch."""

    def __call__(self, call: Call, next: Next) -> Awaitable[Reply]:  # noqa: A002 - the shape's own word
        """The reply, from here or from further in."""


def compose(stages: Iterable[Stage], end: Next) -> Next:
    """One function of a call: the first stage outermost, `end` innermost."""
    chain = end
    for stage in reversed(tuple(stages)):
        chain = partial(stage, next=chain)
    return chain
