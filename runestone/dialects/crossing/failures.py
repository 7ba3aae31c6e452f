"""What is wrong with a provider's answer, said as ours: errors it reported, and values that cannot be carried.

Rule: only texts and numbers of the provider are repeated; whatever else stands in their place is not looked into.
"""

from __future__ import annotations

from typing import Any

import orjson

from runestone.dialects.dialect import text
from runestone.errors import ProviderFailed


def raise_if_error(answer: Any) -> None:
    """Raises ProviderFailed for an error a provider sent with status 200."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if error:
        raise error_of(error)


def error_of(error: Any) -> ProviderFailed:
    """The provider's error object with its message, type, code and param."""
    if not isinstance(error, dict):
        return ProviderFailed(text(error) or _UNSAID)
    failure = ProviderFailed(text(error.get("message")) or _UNSAID)
    failure.type = text(error.get("type")) or failure.type
    code = error.get("code")
    failure.code = (str(code) if type(code) is int else text(code)) or failure.code
    failure.param = text(error.get("param"))
    return failure


_UNSAID = "the provider reported an error"


def said(value: Any, what: str) -> str:
    """A text of the answer, "" where it is absent or null. Raises ProviderFailed for what is no text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise ProviderFailed(f"the provider's answer holds a {what} that is not a text")


def written(value: Any) -> str:
    """A value of the answer as JSON. Raises ProviderFailed for one nested deeper than can be written."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise ProviderFailed("the provider's answer is nested too deeply to be carried over") from None
