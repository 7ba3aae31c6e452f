"""Made-up embeddings: unit length, deterministic, near where words are shared."""

from __future__ import annotations

import base64
import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from runestone.providers.simulated.embeddings import vector
from runestone.providers.simulated.wire import answer


def embed(value: object, **fields: object) -> CreateEmbeddingResponse:
    given = answer("embeddings", {"model": "sim", "input": value, **fields}, created=1)
    assert given.status == 200, given.body
    return CreateEmbeddingResponse.model_validate_json(given.body, strict=True)


@given(st.text(min_size=1, max_size=50), st.integers(1, 4096))
def test_vectors_have_unit_length(text: str, dimensions: int) -> None:
    """Any text in any dimension."""
    found = vector(text, dimensions)
    assert len(found) == dimensions
    assert math.hypot(*found) == pytest.approx(1.0)


@pytest.mark.parametrize("dimensions", [None, 1, 256, 4096])
def test_the_asked_dimension_is_given(dimensions: int | None) -> None:
    """`dimensions` is obeyed; without it there are 1536."""
    found = embed("hello", dimensions=dimensions).data[0].embedding
    assert len(found) == (dimensions or 1536)


def test_base64_carries_the_same_numbers() -> None:
    """Both encodings hold the same 32-bit floats."""
    fields: dict[str, object] = {"model": "sim", "input": "hello", "encoding_format": "base64"}
    encoded = json.loads(answer("embeddings", fields, created=1).body)["data"][0]["embedding"]
    assert list(struct.unpack("<1536f", base64.b64decode(encoded))) == embed("hello").data[0].embedding


@pytest.mark.parametrize(
    ("value", "count", "tokens"),
    [("hello world", 1, 2), (["hello", "big world"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)],
)
def test_every_form_of_input_is_read(value: object, count: int, tokens: int) -> None:
    """A string, strings, token ids and lists of token ids; usage counts what was given."""
    found = embed(value)
    assert [item.index for item in found.data] == list(range(count))
    assert found.usage.prompt_tokens == found.usage.total_tokens == tokens


def test_an_item_does_not_depend_on_its_batch() -> None:
    """What is embedded together is as if embedded alone, so that batching cannot be seen."""
    together = embed(["cat", "dog"]).data
    assert [item.embedding for item in together] == [embed(text).data[0].embedding for text in ("cat", "dog")]


def test_texts_that_share_words_are_near() -> None:
    """A search by cosine finds the note about the same thing."""

    def near(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(vector(a, 1536), vector(b, 1536), strict=True))

    assert (
        near("how to bake bread", "bake fresh bread at home") > near("how to bake bread", "the price of a share") + 0.2
    )
    assert near("Bread", "bread!") > 0.9
    assert vector("Bread", 64) != vector("bread!", 64)
