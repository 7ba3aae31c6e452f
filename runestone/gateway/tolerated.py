"""What may fail without a call failing: observers, and middlewares that only watch.

Rule: one of three places that take any exception for handled; it is logged with its traceback, and counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

_log = logging.getLogger("runestone.gateway")


class Tolerated:
    """`with Tolerated(name, count):` whatever fails inside has failed for itself; a cancelled task is still cancelled,
    and what `is_other` says is somebody else's goes on.
    """

    __slots__ = ("_count", "_is_other", "_name")

    def __init__(
        self,
        name: str,
        count: Callable[[], None] | None = None,
        is_other: Callable[[BaseException], bool] | None = None,
    ) -> None:
        self._name = name
        self._count = count
        self._is_other = is_other

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or (self._is_other is not None and self._is_other(error)):
            return False
        _log.error("%s failed", self._name, exc_info=error)
        if self._count is not None:
            self._count()
        return True
