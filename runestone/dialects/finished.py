"""Whether a whole answer is one that was finished, and no error in an answer's clothes.

Some providers report errors inside a 200: an `error` beside or inside the choices, no choices, no finish reason.
Rule: pure; either dialect, as the client reads it.
"""

from __future__ import annotations

import orjson

from runestone.core.call import Operation


def is_finished(operation: Operation, answer: bytes) -> bool:
    """Whether every part of `answer` says that, and why, it ended."""
    try:
        whole = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(whole, dict) or whole.get("error"):
        return False
    if operation is Operation.MESSAGES:
        return isinstance(whole.get("stop_reason"), str)
    choices = whole.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    return all(
        isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str) and not choice.get("error")
        for choice in choices
    )
