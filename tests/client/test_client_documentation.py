"""The examples of docs/client.md run, and its tables name what there is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import runestone.client
from runestone.client import ClientError, Limits, Reconnect, State
from tests.client.talking import FAST
from tests.conftest import StartGateway

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def test_the_examples_run(gateway: StartGateway, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as they are pasted; what they print is what a reader expects."""
    gate = await gateway(FAST)
    names: dict[str, object] = {}
    said = []
    for example in EXAMPLES:
        assert "http://127.0.0.1:4003" in example
        text = example.replace("http://127.0.0.1:4003", gate.url)
        code = compile(text, "docs/client.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)
        assert inspect.iscoroutine(running)
        await running
        said.append(capsys.readouterr().out)
    answer: object = names["answer"]
    assert isinstance(answer, dict)
    text = answer["choices"][0]["message"]["content"]
    assert said[0] == text
    assert said[1].startswith(text + "stream_")
    assert said[1].count(text) == 2
    assert said[2].startswith("404 model_not_found")


def test_the_tables_are_complete() -> None:
    """Every state and every error has its line, and the defaults that are shown are the defaults."""
    for state in State:
        assert f"`{state.name}`" in PAGE or state is State.CONNECTING
    errors = [name for name in runestone.client.__all__ if issubclass_of(name, ClientError)]
    assert len(errors) > 7
    for name in errors:
        assert f"`{name}`" in PAGE
    for shown in re.findall(r"(?:reconnect|limits)=(\w+\([^)]*\))", PAGE):
        assert eval(shown, {"Reconnect": Reconnect, "Limits": Limits}) in (Reconnect(), Limits())


def issubclass_of(name: str, kind: type) -> bool:
    value = getattr(runestone.client, name)
    return isinstance(value, type) and issubclass(value, kind)
