"""W3C Trace Context, as it is read and written."""

from __future__ import annotations

import pytest

from runestone.core.trace import begin_trace, read_context

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
    ],
)
def test_what_is_no_context_is_none(header: str) -> None:
    """It starts a new trace, as the standard has it."""
    assert read_context(header) is None


def test_a_context_is_read_and_written_as_it_was() -> None:
    """Ids, decision, state; a later version is read as far as it is known."""
    context = read_context(GIVEN, "vendor=x")
    assert context is not None
    assert (context.header(), context.state, context.sampled) == (GIVEN, "vendor=x", True)
    later = read_context("01" + GIVEN[2:-1] + "2-more")
    assert later is not None
    assert not later.sampled
    assert read_context(GIVEN, "x" * 600) == context._replace(state="")


def test_steps_are_children_of_the_step_they_were_begun_in() -> None:
    """The first is a child of the context; what is told to others names the step that tells it."""
    ids = iter(range(1, 100))
    context = read_context(GIVEN)
    trace = begin_trace("llm.request", context, lambda bits: next(ids), 10)
    child = trace.begin("a", None, 11)
    grandchild = trace.begin("b", child, 12)
    assert [(span.name, span.parent) for span in trace.spans] == [
        ("llm.request", 0xB7AD6B7169203331),
        ("a", trace.root.id),
        ("b", child.id),
    ]
    assert trace.context(grandchild).header() == f"00-0af7651916cd43dd8448eb211c80319c-{grandchild.id:016x}-01"
    assert begin_trace("llm.request", None, lambda bits: 7, 0).root.parent == 0
