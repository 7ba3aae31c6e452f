"""What a client wants of the cache: the Cache-Control header of a request, and the Cache-Status of the answer.

Source: RFC 9111 section 5.2.1 (no-cache, no-store, max-age, max-stale, min-fresh, only-if-cached), RFC 5861
(stale-while-revalidate, stale-if-error), RFC 9211 (Cache-Status).
Rule: unknown directives are ignored, and a number that is none is the most cautious one, as RFC 9111 wants it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """Seconds; None where the client said nothing."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = 0.0
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None


NO_WISHES: Final = Directives()
LONGEST = 2.0**31
"""Seconds; RFC 9111 1.2.2: whatever is more counts as this."""


_DIRECTIVE = re.compile(r'([^\s=,"]+)\s*(?:(=)\s*("(?:[^"\\]|\\.)*"|[^,"]*))?[^,]*')
_CALMER = frozenset({"min-fresh"})
"""Numbers of which the larger is the more cautious one."""


def parse(value: str) -> Directives:
    """The directives of a Cache-Control header's value; of one that is there twice the more cautious number counts."""
    flags: set[str] = set()
    numbers: dict[str, float] = {}
    for name, sign, argument in _DIRECTIVE.findall(value.lower()):
        seconds = LONGEST if name == "max-stale" and not sign else _seconds(name, argument.strip().strip('"'))
        known = numbers.get(name, seconds)
        flags.add(name)
        numbers[name] = max(known, seconds) if name in _CALMER else min(known, seconds)
    return Directives(
        no_cache="no-cache" in flags,
        no_store="no-store" in flags,
        only_if_cached="only-if-cached" in flags,
        max_age=numbers.get("max-age"),
        min_fresh=numbers.get("min-fresh", 0.0),
        max_stale=numbers.get("max-stale", 0.0),
        stale_while_revalidate=numbers.get("stale-while-revalidate"),
        stale_if_error=numbers.get("stale-if-error"),
    )


def _seconds(name: str, text: str) -> float:
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST)
    return LONGEST if name in _CALMER else 0.0


def hit(ttl: float, detail: str = "") -> str:
    """Cache-Status of an answer that was kept; `ttl` is below 0 when its time is over."""
    said = f'; detail="{detail}"' if detail else ""
    return f"runestone; hit; ttl={math.floor(ttl)}{said}"


def refused() -> str:
    """Cache-Status of a call that could only have been answered from memory, and was not."""
    return 'runestone; detail="only-if-cached"'


def forwarded(why: str, *, collapsed: bool = False) -> str:
    """Cache-Status of an answer that a provider gave; `why`: miss, stale, request or bypass."""
    return f"runestone; fwd={why}" + ("; collapsed" if collapsed else "")


def stored(status: str) -> str:
    """The Cache-Status of an answer that is now kept."""
    return f"{status}; stored"
