"""From the name a client asks for to the targets that may answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.core.call import Target
from runestone.core.names import Listing, Names, is_pattern, matcher
from runestone.errors import NotFound

NAMES = Names(
    models={"fast": (Target("b", "small"), Target("a", "mini")), "shadowed": (Target("b", "x"),)},
    aliases={
        "to-model": "fast",
        "to-target": "a/other",
        "to-listed": "plain",
        "to-pattern": "gpt-9",
        "to-nothing": "nobody-has-this",
        "other-first": "both",
    },
    listings=[
        Listing("a", ("plain", "both", "gpt-*", "shadowed")),
        Listing("b", ("both", "gpt-4*", "[xy]-1", "org/model")),
        Listing("only", ("simulated",), closed=True),
    ],
)


@pytest.mark.parametrize(
    ("asked", "targets"),
    [
        ("fast", ["b/small", "a/mini"]),
        ("shadowed", ["b/x"]),
        ("to-model", ["b/small", "a/mini"]),
        ("to-target", ["a/other"]),
        ("to-listed", ["a/plain"]),
        ("to-pattern", ["a/gpt-9"]),
        ("plain", ["a/plain"]),
        ("both", ["a/both"]),
        ("gpt-4o", ["a/gpt-4o"]),
        ("x-1", ["b/x-1"]),
        ("a/anything", ["a/anything"]),
        ("b/org/model:free", ["b/org/model:free"]),
        ("org/model", ["b/org/model"]),
        ("simulated", ["only/simulated"]),
        ("only/simulated", ["only/simulated"]),
    ],
)
def test_a_name_leads_to_its_targets(asked: str, targets: list[str]) -> None:
    """A name of [models], an alias, provider/model, a listed name, a pattern: in this order, first provider first."""
    assert [str(target) for target in NAMES.resolve(asked)] == targets


@pytest.mark.parametrize(
    "asked", ["", "/", "a/", "/plain", "nobody/plain", "z-1", "GPT-4o", "only/other", "to-nothing"]
)
def test_what_nobody_has_is_not_found(asked: str) -> None:
    """A 404 that says which parameter: no guess is sent to a provider."""
    with pytest.raises(NotFound) as caught:
        NAMES.resolve(asked)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


def test_the_nearest_names_are_told() -> None:
    """A typing error is answered with what was meant."""
    with pytest.raises(NotFound, match=r"'plian' does not exist here; did you mean plain\?"):
        NAMES.resolve("plian")


def test_without_near_names_known_ones_are_told() -> None:
    """Somebody who is lost sees what there is, and at most five of it."""
    many = Names({}, {}, [Listing("p", tuple(f"model-{number}" for number in range(9)))])
    with pytest.raises(NotFound) as caught:
        many.resolve("@@@@")
    assert caught.value.message.endswith("known models: model-0, model-1, model-2, model-3, model-4")


def test_without_models_the_message_says_so() -> None:
    """An empty table answers too."""
    with pytest.raises(NotFound, match="known models: none"):
        Names({}, {}, []).resolve("x")


def test_a_long_name_is_repeated_in_part() -> None:
    """An error is no larger for a larger name."""
    with pytest.raises(NotFound) as caught:
        NAMES.resolve("q" * 1_000_000)
    assert len(caught.value.message) < 500


def test_the_names_that_can_be_asked_for_are_listed() -> None:
    """No pattern, nothing twice, nothing that leads nowhere; what providers list comes in their order."""
    names = NAMES.names()
    assert names[:3] == ["plain", "both", "shadowed"]
    assert len(names) == len(set(names))
    assert not any(is_pattern(name) for name in names)
    assert "to-nothing" not in names


def test_every_listed_name_resolves() -> None:
    """What the list shows can be asked for."""
    assert all(NAMES.resolve(name) for name in NAMES.names())


def test_asking_does_not_change_the_table() -> None:
    """Nothing is learned from requests: no client can make it grow."""
    before = NAMES.names()
    for name in ("a/new", "gpt-new", "org/model"):
        NAMES.resolve(name)
    assert NAMES.names() == before


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        ([], "x", False),
        ([], "", False),
        (["*"], "", True),
        (["gpt-?"], "gpt-4", True),
        (["gpt-?"], "gpt-40", False),
        (["gpt-4"], "gpt-4\n", False),
        (["a", "b*"], "bc", True),
        (["a.c"], "abc", False),
        (["a|b"], "a", False),
        (["*"], "two\nlines", True),
    ],
)
def test_patterns_match_whole_names(patterns: list[str], name: str, matches: bool) -> None:
    """Shell signs only: no other sign of a name has a meaning, and nothing is matched in part."""
    assert bool(matcher(patterns).match(name)) is matches


@given(st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_any_name_is_resolved_or_not_found(name: str) -> None:
    """Whatever a client writes, the answer is targets or a 404."""
    try:
        targets = NAMES.resolve(name)
    except NotFound:
        return
    assert targets


@pytest.mark.parametrize(("asked", "model"), [("fast", "fast"), ("to-model", "fast"), ("plain", None), ("a/x", None)])
def test_a_name_tells_which_model_it_stands_for(asked: str, model: str | None) -> None:
    """Models and aliases of models do; what a provider lists is none, even with the same targets."""
    assert NAMES.model(asked) == model
