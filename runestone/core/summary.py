"""What a record needs to know of an answer, whatever dialect it was written in.

Rule: None means "the provider did not say"; nothing here is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Summary:
    """Filled while an answer passes. Token counts follow OpenAI's sense: `input_tokens` counts cached ones too."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    model: str | None = None
