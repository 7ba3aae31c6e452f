"""A list of models that may be asked, and an answer of our own for who asks for another: refuses, or answers itself.

[pipelines]
default = ["meter", "access", "limits", "only_small:only_small", "..."]
"""

from __future__ import annotations

from runestone.middleware import Call, Forbidden, Next, Operation, Reply, answer, guard

ALLOWED = frozenset({"simulated", "fast", "gpt-4o-mini", "claude-haiku-4-5"})


@guard
async def only_small(call: Call, next: Next) -> Reply:
    """Chats are told why, as an answer that any client shows; the rest gets a 403."""
    if call.model in ALLOWED:
        return await next(call)
    if call.operation in (Operation.CHAT, Operation.MESSAGES):
        return answer(
            call, f"The model {call.model} is not available here; ask for one of {', '.join(sorted(ALLOWED))}."
        )
    raise Forbidden("this model may not be used here", param="model")
