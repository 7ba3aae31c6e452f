"""An answer as the cache keeps it: the bytes to send, in each form it has been needed in.

Rule: holds what was said and by whom; nothing of the call that asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runestone.core.call import Call, Operation, Target
from runestone.core.summary import Summary


class Form(StrEnum):
    """How an answer is written."""

    WHOLE = "whole"
    STREAM = "stream"
    STREAM_WITH_USAGE = "stream with usage"  # as OpenAI's stream_options.include_usage asks for; Anthropic's always has


@dataclass(slots=True, eq=False)
class Answer:
    """`forms` as bytes to send. `pace`: (seconds since the first block, end of the block) of the stream as it came."""

    operation: Operation
    forms: dict[Form, bytes]
    summary: Summary
    target: Target | None
    pace: tuple[tuple[float, int], ...] = ()


def form_of(call: Call) -> Form:
    """The form the client of `call` reads."""
    if not call.stream:
        return Form.WHOLE
    options = call.fields.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True
    return Form.STREAM_WITH_USAGE if wants_usage and call.operation is not Operation.MESSAGES else Form.STREAM
