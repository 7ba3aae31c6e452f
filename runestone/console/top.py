"""`runestone top`: what a gateway does right now, drawn anew every second; or once, as plain text.

Rule: the terminal is given back as it was, however it ends. Only the live picture needs `rich`.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from time import monotonic
from typing import Any, TextIO

from runestone.console.remote import LookFailed, Remote, shown
from runestone.console.view import Table, View, view

EVERY = 1.0
"""Seconds between two pictures."""
ONCE = 100
"""Calls listed in plain text."""
HINT = "q ends"
END = "\x04"
"""What Control-D sends, and what a terminal that has gone is taken to have sent."""


def once(remote: Remote, out: TextIO) -> None:
    """Writes one picture as plain text. Raises LookFailed."""
    out.write(plain(view(remote.ask(f"/admin/state?calls={ONCE}"))))


def live(remote: Remote, seconds: float = EVERY) -> None:
    """Draws until "q" or Control-C. Raises LookFailed: when `rich` is not installed, when this is no terminal, and when
    the gateway cannot be asked the first time; later that is said in the picture.
    """
    rich = _rich()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise LookFailed("this is no terminal: `runestone top --once` writes plain text")
    state, taken, problem = remote.ask("/admin/state?calls=0"), monotonic(), ""
    console = rich.Console()
    with _keys(), rich.Live(console=console, screen=True, auto_refresh=False) as picture:
        while True:
            room = max(console.size.height - 10, 1)
            before, since = state, taken
            try:
                state, taken, problem = remote.ask(f"/admin/state?calls={room}"), monotonic(), ""
            except LookFailed as failure:
                problem = str(failure)
            picture.update(_drawn(rich, view(state, before, taken - since), problem, room), refresh=True)
            if _pressed(seconds) in ("q", "Q", END):
                return


def plain(seen: View) -> str:
    """The view as lines, in columns."""
    tables = ["\n".join(_columns(table)) for table in seen.tables if table.rows]
    return "\n\n".join(["\n".join(seen.lines), *tables]) + "\n"


def _columns(table: Table) -> Iterator[str]:
    rows = [tuple(head.lstrip(">") for head in table.heads), *table.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(table.heads))]
    for row in rows:
        cells = (
            cell.rjust(width) if head.startswith(">") else cell.ljust(width)
            for head, cell, width in zip(table.heads, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


class _Rich:
    """What is used of it; loaded when somebody wants to see it."""

    def __init__(self) -> None:
        self.Console: Any = import_module("rich.console").Console
        self.Group: Any = import_module("rich.console").Group
        self.Live: Any = import_module("rich.live").Live
        self.Table: Any = import_module("rich.table").Table
        self.Text: Any = import_module("rich.text").Text


def _rich() -> _Rich:
    try:
        return _Rich()
    except ImportError:
        raise LookFailed(
            "the live picture needs the extra `top`: pip install 'runestone[top]' (`--once` does without)"
        ) from None


def _drawn(rich: _Rich, seen: View, problem: str, room: int) -> Any:
    parts = [rich.Text(line, no_wrap=True, overflow="ellipsis") for line in seen.lines]
    if problem:
        parts.append(rich.Text(shown(problem), style="bold red"))
    for table in seen.tables:
        if table.rows:
            parts += [rich.Text(""), _table(rich, table, room)]
            room = max(room - len(table.rows), 1)
    return rich.Group(*parts, rich.Text(HINT, style="dim"))


def _table(rich: _Rich, table: Table, room: int) -> Any:
    drawn = rich.Table(title=table.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for head in table.heads:
        drawn.add_column(
            head.lstrip(">"), justify="right" if head.startswith(">") else "left", no_wrap=True, overflow="ellipsis"
        )
    for row in table.rows[:room]:
        drawn.add_row(*(rich.Text(cell, style=_style(cell)) for cell in row))
    return drawn


def _style(cell: str) -> str:
    if cell.startswith(("open", "half_open")):
        return "bold red"
    return "yellow" if cell in ("pool", "limits", "retry") else ""


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come as they are pressed, unseen; Control-C still interrupts."""
    file = sys.stdin.fileno()
    kept = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, kept)


def _pressed(seconds: float) -> str:
    """The key that was pressed within `seconds`; "" when none was."""
    file = sys.stdin.fileno()
    ready, _, _ = select.select([file], [], [], seconds)
    return (os.read(file, 1).decode("latin-1") or END) if ready else ""
