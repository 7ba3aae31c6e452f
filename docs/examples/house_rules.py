"""Puts a system prompt in front of every chat: changes the question, and says so in the answer's head.

[pipelines]
default = ["meter", "access", "limits", "house_rules:house_rules", "..."]
"""

from __future__ import annotations

from runestone.middleware import Call, Next, Operation, Reply, guard

RULES = "Answer briefly, and say so when you do not know."


@guard
async def house_rules(call: Call, next: Next) -> Reply:
    """In both dialects: a first message, or Anthropic's `system`."""
    fields = call.fields
    if call.operation is Operation.CHAT and isinstance(fields["messages"], list):
        call.rewrite({**fields, "messages": [{"role": "system", "content": RULES}, *fields["messages"]]})
    elif call.operation is Operation.MESSAGES:
        told = fields.get("system")
        rules = [{"type": "text", "text": RULES}]
        more = [{"type": "text", "text": told}] if isinstance(told, str) else told if isinstance(told, list) else []
        call.rewrite({**fields, "system": rules + more})
    reply = await next(call)
    reply.headers.append(("x-house-rules", "1"))
    return reply
