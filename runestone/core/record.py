"""One finished call, as observers see it.

Rule: immutable, made once, when the last byte has gone out or the call has failed; no contents, no keys, no free
text of the client except the model's name, which only logs may show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from runestone.core.call import Operation, Target
from runestone.core.summary import Summary
from runestone.core.trace import Trace

CLIENT_CLOSED = 499
"""The status of a call whose client left before the end (nginx's word for it)."""


class Record(NamedTuple):
    """Durations are seconds. `status` is what the client saw; `error` the code of a failure, also behind a 200 that
    broke off.
    """

    id: str
    operation: Operation
    stream: bool
    model: str
    provider: str | None
    target_model: str | None
    caller: str
    status: int
    error: str | None
    source: str | None
    attempts: int
    failures: tuple[tuple[Target, str], ...]
    """Attempts that failed before this outcome: where, and the error code."""
    duration: float
    waited: float
    head: float | None
    """Time to the answer's head that was not spent waiting for a provider; None when there was no answer."""
    first_token: float | None
    summary: Summary
    cache: str = "none"
    """What the cache did (see Call)."""
    trace: Trace | None = None
    """Its steps, where they were noted."""


Observer = Callable[[Record], None]
