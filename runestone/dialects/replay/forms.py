"""Which form of a kept answer can be made of which, exactly."""

from __future__ import annotations

from collections.abc import Mapping

from runestone.core.answer import Form
from runestone.core.call import Operation
from runestone.dialects.replay.stream import as_stream
from runestone.dialects.replay.whole import as_answer, has_usage, without_usage


def derived(operation: Operation, forms: Mapping[Form, bytes], wanted: Form) -> bytes | None:
    """The `wanted` form, made of those that are there; None when none of them holds all of it."""
    whole, stream, counted = (forms.get(form) for form in (Form.WHOLE, Form.STREAM, Form.STREAM_WITH_USAGE))
    if wanted is Form.WHOLE:
        told = stream if operation is Operation.MESSAGES else counted
        return as_answer(operation, told) if told is not None else None
    if wanted is Form.STREAM and counted is not None:
        return without_usage(counted)
    return as_stream(operation, whole, include_usage=wanted is Form.STREAM_WITH_USAGE) if whole is not None else None


def is_with_usage(operation: Operation, stream: bytes) -> bool:
    """Whether a stream of the OpenAI dialect carries its usage."""
    return operation is not Operation.MESSAGES and has_usage(stream)
