"""How much of an answer a block of a stream holds, in either dialect.

Rule: an estimate, from the texts of the deltas alone; for judging a pace, never for a bill.
"""

from __future__ import annotations

import re

from runestone.core.tokens import estimate_tokens

_SPOKEN = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|partial_json|arguments|refusal)"\s*:\s*"((?:[^"\\]|\\.)+)"'
)


def tokens_in(block: bytes) -> int:
    """About how many tokens of output `block` brings; thoughts and arguments of tools count."""
    return sum(estimate_tokens(said.decode("utf-8", "replace")) for said in _SPOKEN.findall(block))
