"""The token estimate: near what vendors bill, total, linear."""

from __future__ import annotations

import gzip
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.tokens import (
    IMAGE_TOKENS,
    LOW_DETAIL_TOKENS,
    SAMPLE_ABOVE,
    estimate_messages,
    estimate_tokens,
    pieces,
)

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "traffic"
TRAFFIC = Path(os.environ.get("RUNESTONE_TRAFFIC", BESIDE)) / "real_traffic.jsonl.gz"
NOT_COUNTED = ('"image', '"file', '"document', '_audio"', '"mcp_servers"')  # their size is not in the request

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    """Cutting a text into pieces loses nothing and adds nothing."""
    assert "".join(pieces(text)) == text


@given(st.text(max_size=2_000))
def test_a_short_text_has_as_many_tokens_as_pieces(text: str) -> None:
    """The estimate of a text that is not sampled is the number of its pieces."""
    assert estimate_tokens(text) == len(pieces(text))


def test_the_empty_text_has_no_tokens() -> None:
    """Nothing costs nothing."""
    assert estimate_tokens("") == 0


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("The quick brown fox jumps over the lazy dog.", 9, 11),
        ("こんにちは世界", 4, 9),
        ("def f(x):\n    return x * 2\n", 8, 16),
        ("1234567890", 3, 5),
        ("Привет, как дела?", 5, 10),
        ("🙂🙂🙂", 3, 9),
    ],
)
def test_short_texts_are_estimated_as_tokenisers_count_them(text: str, low: int, high: int) -> None:
    """Prose, Japanese, code, digits, Cyrillic and emoji stay near their known counts."""
    assert low <= estimate_tokens(text) <= high


def test_a_sampled_text_is_near_its_full_count() -> None:
    """Sampling a long text costs at most a tenth of precision."""
    text = "".join(f"{n}. The weather of day {n} was fine, said Ms. Miller-Jones.\n" for n in range(20_000))
    assert len(text) > SAMPLE_ABOVE
    assert estimate_tokens(text) == pytest.approx(len(pieces(text)), rel=0.1)


@pytest.mark.parametrize("text", [" ", "a", "A", "!", "\n", "\t", "界", "é", "9", " \n", "aB3", "\x00"])
def test_no_text_is_slow(text: str) -> None:
    """A megabyte of anything is estimated within 50 ms, and cut whole in linear time."""
    text *= 1_000_000 // len(text)
    before = time.perf_counter()
    estimate_tokens(text)
    assert time.perf_counter() - before < 0.05
    before = time.perf_counter()
    pieces(text)
    assert time.perf_counter() - before < 2.0


@given(st.dictionaries(st.sampled_from(["messages", "system", "tools", "model", "response_format"]), json_values))
def test_any_request_has_an_estimate(fields: dict[str, object]) -> None:
    """A request of wrong types is counted for what can be read, and never fails."""
    assert estimate_messages(fields) >= 1


def test_a_request_nested_beyond_reason_has_an_estimate() -> None:
    """Depth is bounded, for parts and for schemas."""
    part: object = "x"
    schema: dict[str, object] = {}
    for _ in range(900):
        part = [{"type": "tool_result", "content": part}]
        schema = {"items": schema}
    assert estimate_messages({"messages": [{"role": "user", "content": part}], "tools": [schema]}) >= 1


def test_an_image_has_a_flat_price() -> None:
    """A picture costs the same whatever its bytes, less with low detail."""

    def cost(**image: str) -> int:
        part = {"type": "image_url", "image_url": image}
        return estimate_messages({"messages": [{"role": "user", "content": [part]}]})

    nothing = estimate_messages({"messages": [{"role": "user", "content": []}]})
    assert cost(url="data:image/png;base64," + "A" * 100_000) - nothing == IMAGE_TOKENS
    assert cost(url="https://example.com/a.png", detail="low") - nothing == LOW_DETAIL_TOKENS


def test_both_dialects_count_every_text() -> None:
    """System prompts, parts, tool calls, tool results and tool schemas all add to the estimate."""
    text = "word " * 50
    bare = estimate_messages({"messages": [{"role": "user", "content": ""}]})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    for fields in (
        {"messages": [{"role": "user", "content": text}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": ""}], "system": [{"type": "text", "text": text}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": text}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_use", "name": "f", "input": {"a": text}}]}]},
        {
            "messages": [{"role": "user", "content": ""}],
            "tools": [{"type": "function", "function": {"name": "f", "description": text}}],
        },
    ):
        assert estimate_messages(fields) >= bare + 25  # type: ignore[arg-type]


@pytest.mark.skipif(not TRAFFIC.exists(), reason="the recorded traffic is not beside this checkout")
def test_the_estimate_is_near_what_vendors_billed(capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded requests: the median error is below 8 % for OpenAI and 14 % for Anthropic, and p90 is bounded too."""
    errors: dict[str, list[float]] = {"openai": [], "anthropic": []}
    for provider, fields, billed in recorded():
        errors[provider].append(abs(estimate_messages(fields) / billed - 1))
    for provider, median_bound, p90_bound in (("openai", 0.08, 0.32), ("anthropic", 0.14, 0.40)):
        found = sorted(errors[provider])
        median, p90 = statistics.median(found), found[len(found) * 9 // 10]
        with capsys.disabled():
            # The measure is what this test is run for.
            print(f"\ntokens, {provider}: {len(found)} requests, median error {median:.1%}, p90 {p90:.1%}")  # noqa: T201
        assert median < median_bound
        assert p90 < p90_bound


def recorded() -> Iterator[tuple[str, dict[str, object], int]]:
    """Provider, request and billed input tokens, where all that was billed is in the request."""
    with gzip.open(TRAFFIC, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["status"] != 200 or (row["provider"], row["api"]) not in {
                ("openai", "chat"),
                ("anthropic", "messages"),
            }:
                continue
            billed = billed_tokens(row["resp"])
            if not billed or not row["req"] or any(word in row["req"] for word in NOT_COUNTED):
                continue
            fields = json.loads(row["req"])
            if any(tool.get("type", "custom") not in ("custom", "function") for tool in fields.get("tools") or ()):
                continue  # the vendor's own tools bring prompts of thousands of tokens
            yield row["provider"], fields, billed


def billed_tokens(answer: str) -> int:
    """The input tokens of an answer or a stream, 0 if it has none."""
    found = 0
    texts = [line[5:] for line in answer.splitlines() if line.startswith("data:")] or [answer]
    for text in texts:
        if not text.strip().startswith("{"):
            continue
        value = json.loads(text)
        usage = value.get("usage") or (value.get("message") or {}).get("usage") or {}
        if "prompt_tokens" in usage:
            return int(usage["prompt_tokens"])
        if usage.get("input_tokens") and not found:
            cached = (usage.get(f"cache_{what}_input_tokens") or 0 for what in ("read", "creation"))
            found = usage["input_tokens"] + sum(cached)
    return found
