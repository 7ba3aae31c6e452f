"""What has been looked at lately, so that it need not be looked at again: a bounded memory of results.

Rule: least recently used out first; holds only what was worth it (the caller puts in what was wanted twice).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LARGEST = 8 * 1024
"""Bytes of a body that is remembered; a larger one costs its parsing each time."""


class Recent(Generic[K, V]):
    """At most `most` results."""

    __slots__ = ("_most", "_results")

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: K) -> V | None:
        """The result under `key`, which is now the youngest."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def put(self, key: K, result: V) -> None:
        """Remembers `result`."""
        self._results[key] = result
        if len(self._results) > self._most:
            self._results.popitem(last=False)
