"""How the simulated model behaves on the wire: how fast, and which faults it shows when told to.

Rule: data; whoever sends the answer waits, rolls the dice, cuts and hangs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The defaults are those of a good small model; no fault is shown unless it is asked for."""

    ttft: float = 0.05
    """Seconds before the first byte."""
    tokens_per_second: float = 100.0
    """0 sends without pause."""
    error_rate: float = 0.0
    """Share of calls that fail, 0 to 1."""
    status: int = 500
    """With which status they fail."""
    cut_after: int | None = None
    """Streams end without a terminator after so many events, JSON bodies after so many bytes."""
    hang: bool = False
    """Never answers."""
