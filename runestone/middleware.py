"""For those who write middlewares: what they get, what they may do, and how they say what their failure means.

    from runestone.middleware import Call, Forbidden, Next, Reply, guard

    @guard
    async def only_small_models(call: Call, next: Next) -> Reply:
        if not call.model.endswith("-mini"):
            raise Forbidden("only small models here", param="model")
        return await next(call)

A middleware may refuse (raise an error of the tree), answer itself (`answer`), change the question (`call.rewrite`)
before it calls `next`, or change the answer: `reply.headers`, `reply.body` of a whole one, `reply.blocks` of a stream.
docs/middleware.md has an example of each. It runs inside the event loop: whatever waits must be awaited.
"""

from __future__ import annotations

import random
from time import perf_counter, time
from typing import TypeVar

from runestone.core.answer import Answer
from runestone.core.call import Call, Caller, Operation
from runestone.core.reply import Blocks, Reply
from runestone.core.summary import Summary
from runestone.dialects.canned import canned
from runestone.dialects.replay.stream import as_stream
from runestone.errors import BadRequest, Forbidden, RateLimited, RunestoneError, Unavailable
from runestone.gateway.middleware import Function
from runestone.gateway.pipeline import Next
from runestone.gateway.playback import Playback

__all__ = (
    "BadRequest",
    "Blocks",
    "Call",
    "Caller",
    "Forbidden",
    "Function",
    "Next",
    "Operation",
    "RateLimited",
    "Reply",
    "RunestoneError",
    "Summary",
    "Unavailable",
    "answer",
    "guard",
    "observer",
)

OPEN = "fails_open"
F = TypeVar("F", bound=Function)


def guard(function: F) -> F:
    """Declares that a call must not go on when this middleware fails: what is not declared is that too."""
    setattr(function, OPEN, False)
    return function


def observer(function: F) -> F:
    """Declares that a call goes on when this middleware fails: it only watches."""
    setattr(function, OPEN, True)
    return function


def answer(call: Call, text: str) -> Reply:
    """An answer that says `text`, in the dialect and the form the client reads. Raises BadRequest for a call that is
    not answered by a text.
    """
    identity = f"{random.getrandbits(96):024x}"
    whole = canned(call.operation, call.model, text, identity, int(time()))
    summary = Summary(finish_reason="stop")
    if not call.stream:
        return Reply(200, [], summary, body=whole)
    stream = as_stream(call.operation, whole, include_usage=False) or b""
    blocks = Playback(Answer(call.operation, {}, summary, None), stream, 0.0, call.deadline - perf_counter())
    return Reply(200, [], summary, blocks=blocks)
