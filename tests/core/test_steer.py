"""The fields that steer: read strictly, not sent up, and what they leave."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.call import Target
from runestone.core.json import JsonObject
from runestone.core.price import Price
from runestone.core.steer import (
    CAPABILITIES,
    FIELDS,
    Steering,
    capabilities_of,
    emptied_by,
    is_of_family,
    read,
    select,
    without,
)
from runestone.core.strategy import Candidate
from runestone.errors import BadRequest

BODY: JsonObject = {"model": "fast", "messages": [], "stream": True}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

MINI = Candidate(Target("openai", "gpt-4o-mini"), price=Price(1.5e-7, 6e-7))
HAIKU = Candidate(Target("anthropic", "claude-haiku-4-5"), price=Price(1e-6, 5e-6))
LLAMA = Candidate(Target("local", "llama3.1:8b"))
EMBED = Candidate(Target("openai", "text-embedding-3-small"), price=Price(2e-8, 0.0))
ALL = (MINI, HAIKU, LLAMA, EMBED)


def test_a_body_without_the_fields_asks_for_nothing() -> None:
    """The usual case: None, and the body goes up as the object it is."""
    assert read(BODY) is None
    assert without(BODY) is BODY


def test_each_field_is_read() -> None:
    """All five, as they were written."""
    asked: JsonObject = {
        "provider": "openai",
        "model_family": "gpt-4",
        "capabilities": ["tools", "vision", "tools"],
        "max_cost_per_token": 1,
        "tenant_id": "acme",
    }
    found = read({**BODY, **asked})
    assert found == Steering("openai", "gpt-4", frozenset({"tools", "vision"}), 1.0, "acme")
    assert without({**BODY, **asked}) == BODY


def test_a_provider_object_is_openrouters_own() -> None:
    """It steers nothing here and goes up where it was."""
    body: JsonObject = {**BODY, "provider": {"order": ["azure"]}}
    assert read(body) is None
    assert without(body) == body
    assert read({**body, "tenant_id": "t"}) == Steering(tenant_id="t")
    assert without({**body, "tenant_id": "t"}) == body


def test_null_is_as_if_absent() -> None:
    """It asks for nothing, and is not sent up."""
    body: JsonObject = {**BODY, **dict.fromkeys(FIELDS)}
    assert read(body) is None
    assert without(body) == BODY


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("provider", 1, "provider"),
        ("provider", "", "provider"),
        ("provider", ["openai"], "provider"),
        ("provider", "x" * 201, "provider"),
        ("model_family", ["gpt"], "model_family"),
        ("model_family", "", "model_family"),
        ("capabilities", "tools", "capabilities"),
        ("capabilities", {"tools": True}, "capabilities"),
        ("capabilities", ["tools", "flying"], "capabilities[1]"),
        ("capabilities", [1], "capabilities[0]"),
        ("capabilities", [["tools"]], "capabilities[0]"),
        ("max_cost_per_token", "0.1", "max_cost_per_token"),
        ("max_cost_per_token", True, "max_cost_per_token"),
        ("max_cost_per_token", -1, "max_cost_per_token"),
        ("max_cost_per_token", float("nan"), "max_cost_per_token"),
        ("max_cost_per_token", float("inf"), "max_cost_per_token"),
        ("max_cost_per_token", 10**400, "max_cost_per_token"),
        ("tenant_id", 7, "tenant_id"),
        ("tenant_id", {}, "tenant_id"),
    ],
)
def test_what_is_wrong_is_named(field: str, value: object, param: str) -> None:
    """A wrong type or value is the caller's, and `param` is its path."""
    with pytest.raises(BadRequest) as caught:
        read({**BODY, field: value})
    assert caught.value.param == param


@given(st.dictionaries(st.sampled_from([*sorted(FIELDS), "model"]), json_values))
def test_reading_is_total(body: dict[str, Any]) -> None:
    """Any JSON in any of the fields is read or is a BadRequest; what goes up has none but a provider object."""
    with contextlib.suppress(BadRequest):
        read(body)
    assert all(name == "provider" and isinstance(body[name], dict) for name in without(body).keys() & FIELDS)


@pytest.mark.parametrize(
    ("steering", "left"),
    [
        (Steering(), ALL),
        (Steering(tenant_id="acme"), ALL),
        (Steering(provider="openai"), (MINI, EMBED)),
        (Steering(provider="OpenAI"), ()),  # names are the configuration's, letter by letter
        (Steering(model_family="claude"), (HAIKU,)),
        (Steering(model_family="LLAMA"), (LLAMA,)),
        (Steering(capabilities=frozenset({"chat"})), (MINI, HAIKU, LLAMA)),
        (Steering(capabilities=frozenset({"vision"})), (MINI, HAIKU)),
        (Steering(capabilities=frozenset({"vision", "reasoning"})), (HAIKU,)),
        (Steering(capabilities=frozenset({"embeddings"})), (EMBED,)),
        (Steering(max_cost_per_token=6e-7), (MINI, LLAMA, EMBED)),  # at the limit is within; unknown stays
        (Steering(max_cost_per_token=0.0), (LLAMA, EMBED)),
        (Steering(provider="openai", model_family="claude"), ()),
    ],
)
def test_what_is_left(steering: Steering, left: tuple[Candidate, ...]) -> None:
    """Each field leaves the targets that fit, in their order."""
    assert select(steering, ALL) == left


@pytest.mark.parametrize(
    ("steering", "field"),
    [
        (Steering(provider="openai"), None),
        (Steering(provider="nobody", model_family="nothing"), "provider"),
        (Steering(provider="openai", model_family="claude"), "model_family"),
        (Steering(model_family="llama", capabilities=frozenset({"vision"})), "capabilities"),
        (Steering(provider="anthropic", max_cost_per_token=1e-9), "max_cost_per_token"),
    ],
)
def test_who_left_nothing_is_known(steering: Steering, field: str | None) -> None:
    """The first field behind which no target is left."""
    assert emptied_by(steering, ALL) == field
    assert (field is not None) == (not select(steering, ALL))


def test_what_is_configured_goes_before_the_name() -> None:
    """Capabilities that are given with a candidate are not read from its model's name."""
    seeing = Candidate(Target("local", "my-model"), capabilities=frozenset({"chat", "vision"}))
    wanted = Steering(capabilities=frozenset({"vision"}))
    assert select(wanted, (LLAMA, seeing)) == (seeing,)


@pytest.mark.parametrize(
    ("family", "members", "others"),
    [
        ("gpt-4", "gpt-4 GPT-4-turbo gpt-4.1 openai/gpt-4 ft:gpt-4:acme", "gpt-4o gpt-45 gpt-3.5 not-gpt-4 gpt"),
        ("gpt-4o", "gpt-4o gpt-4o-mini ft:gpt-4o-mini:acme", "gpt-4 gpt-4omni"),
        ("gpt", "gpt-4o gpt-5 gpt4all", "chatgpt-4o gptx"),
        ("claude", "claude-opus-5 anthropic.claude-3-haiku anthropic/claude-3.5-sonnet", "claudette"),
        ("llama", "llama3.1:8b meta-llama/Llama-3.3-70B llama", "codellama ollama-x meta-llama"),
        ("o3", "o3 o3-mini", "o30 o3x"),
    ],
)
def test_a_family_is_a_prefix_at_word_borders(family: str, members: str, others: str) -> None:
    """It begins the name or what follows a slash, colon or dot, and is not the beginning of another word."""
    assert all(is_of_family(name, family) for name in members.split())
    assert not [name for name in others.split() if is_of_family(name, family)]


TEXT = {"chat", "streaming"}
ABLE = TEXT | {"tools", "json"}
SEES, THINKS = ABLE | {"vision"}, ABLE | {"reasoning"}
BOTH = SEES | THINKS


@pytest.mark.parametrize(
    ("can", "models"),
    [
        (BOTH, "gpt-5 gpt-5.4-mini gpt-6-sol o1 o3 o4-mini claude-opus-4-5 claude-haiku-4-5-20251001 claude-sonnet-5"),
        (BOTH, "gemini-2.5-pro gemini-3-flash-preview grok-4 qwen3.5-plus glm-4.5v magistral-medium-latest qvq-max"),
        (BOTH, "anthropic.claude-opus-4-6-v1 openai/gpt-5 accounts/fireworks/models/glm-4p5v kimi-k2.5"),
        (SEES, "gpt-4o gpt-4o-2024-11-20 gpt-4.1-nano gpt-4-turbo ft:gpt-4o-mini:acme gemini-2.0-flash pixtral-12b"),
        (SEES, "gemma-3-27b-it meta-llama/Llama-4-Scout-17B-16E-Instruct Llama-3.2-11B-Vision-Instruct Qwen2.5-VL-7B"),
        (
            THINKS,
            "o3-mini gpt-oss-120b deepseek-reasoner DeepSeek-R1 Qwen/Qwen3-32B glm-4.6 kimi-k2-thinking grok-3-mini",
        ),
        (
            ABLE,
            "gpt-3.5-turbo gpt-4 llama-3.3-70b-versatile deepseek-chat mistral-small-2402 qwen3-coder grok-3 my-model",
        ),
        (ABLE, "Qwen3-235B-A22B-Instruct-2507 grok-2 command-r-plus moonshot-v1-8k"),
        (SEES - {"json"}, "claude-3-5-sonnet-20241022 claude-3-haiku-20240307"),
        (BOTH - {"json"}, "claude-3-7-sonnet-latest claude-sonnet-4-20250514 claude-opus-4-0"),
        (TEXT | {"reasoning"}, "o1-mini o1-preview"),
        (TEXT, "gpt-3.5-turbo-instruct davinci-002 claude-2.1"),
        ({"embeddings"}, "text-embedding-3-small voyage-3.5 mistral-embed nomic-embed-text BAAI/bge-m3 embed-v4.0"),
        (set(), "whisper-1 tts-1 dall-e-3 gpt-image-1 omni-moderation-latest gpt-4o-transcribe rerank-v3.5 sora-2"),
    ],
)
def test_what_models_can_do(can: set[str], models: str) -> None:
    """Read from the name, as the vendors' model pages have it."""
    wrong = {name: set(capabilities_of(name)) for name in models.split() if capabilities_of(name) != can}
    assert not wrong


def test_the_anthropic_dialect_has_its_own_limits() -> None:
    """No embeddings there, and json of Claude only."""
    assert "json" in capabilities_of("claude-opus-4-5", "anthropic")
    assert "json" not in capabilities_of("glm-4.6", "anthropic")
    assert not capabilities_of("text-embedding-3-small", "anthropic")


@given(st.text(max_size=60))
def test_any_name_has_known_capabilities(name: str) -> None:
    """The rules are total, and speak only of what can be asked for."""
    assert capabilities_of(name) <= CAPABILITIES
