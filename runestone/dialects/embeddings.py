"""Embeddings item by item: what a request asks for, its parts, and the parts' answers put together again.

Rule: an item's answer is the answer a request with that item alone would have had; the provider's count of tokens is
shared out by the items' estimated sizes, and the shares add up to it exactly.
Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from runestone.core.json import JsonObject
from runestone.core.summary import Summary
from runestone.core.tokens import estimate_tokens
from runestone.dialects.dialect import count, load_object, text
from runestone.dialects.usage import read_chat


def items(fields: JsonObject) -> list[object] | None:
    """The items of `input`: texts, or lists of token ids; None for what is neither, which the provider may judge."""
    value = fields.get("input")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    if _is_ids(value):
        return [value]
    if all(isinstance(item, str) or _is_ids(item) for item in value):
        return value
    return None


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def asking(fields: JsonObject, asked: Sequence[object]) -> JsonObject:
    """The same request for these items; one alone stands without a list around it."""
    return {**fields, "input": asked[0] if len(asked) == 1 else list(asked)}


def weight(item: object) -> int:
    """About how many tokens an item has, at least 1."""
    if isinstance(item, str):
        return max(1, estimate_tokens(item))
    return max(1, len(item)) if isinstance(item, list) else 1


def split(answer: bytes, asked: Sequence[object]) -> list[bytes] | None:
    """The answer to each item, in the order they were asked; None when the answer does not hold just one for each."""
    whole = load_object(answer)
    data = whole.get("data")
    if not isinstance(data, list) or len(data) != len(asked) or not all(isinstance(one, dict) for one in data):
        return None
    places = [one.get("index", place) for place, one in enumerate(data)]
    if not all(type(place) is int for place in places) or sorted(places) != list(range(len(asked))):
        return None
    by_index = dict(zip(places, data, strict=True))
    weights = [weight(item) for item in asked]
    usage = whole.get("usage")
    counts = {name: count(value) for name, value in usage.items()} if isinstance(usage, dict) else {}
    shares = {name: shared(value, weights) for name, value in counts.items() if value is not None}
    answers = []
    for place in range(len(asked)):
        own = {**whole, "data": [{**by_index[place], "index": 0}]}
        if isinstance(usage, dict):
            own["usage"] = {**usage, **{name: share[place] for name, share in shares.items()}}
        try:
            answers.append(orjson.dumps(own))
        except TypeError:  # nested deeper than what is written
            return None
    return answers


def join(answers: Sequence[bytes]) -> bytes:
    """One answer of the answers to its items, in order."""
    parts = [load_object(answer) for answer in answers]
    data = [{**part["data"][0], "index": place} for place, part in enumerate(parts)]
    usages = [usage for part in parts if isinstance(usage := part.get("usage"), dict)]
    whole = {**parts[-1], "data": data}
    if usages:
        counted = {name for name, value in usages[-1].items() if count(value) is not None}
        sums = {name: sum(count(usage.get(name)) or 0 for usage in usages) for name in counted}
        whole["usage"] = {**usages[-1], **sums}
    return orjson.dumps(whole)


def summary_of(answer: bytes) -> Summary:
    """What an answer says of itself."""
    whole = load_object(answer)
    summary = Summary(model=text(whole.get("model")), response_id=text(whole.get("id")))
    read_chat(whole.get("usage"), summary)
    return summary


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts that add up to it, by weight (largest remainders first)."""
    sum_of_weights = sum(weights)
    parts = [total * weight // sum_of_weights for weight in weights]
    remainders = sorted(range(len(weights)), key=lambda place: -(total * weights[place] % sum_of_weights))
    for place in remainders[: total - sum(parts)]:
        parts[place] += 1
    return parts
