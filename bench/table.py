"""Rows, the table, and the command line every measurement shares.

Rule: a target is printed beside its number, never asserted. Absent: history; keep the `--json` files for that.
"""

from __future__ import annotations

import argparse
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import nan
from pathlib import Path
from statistics import median
from typing import ClassVar, NoReturn

import orjson

from bench import process
from bench.run import Result, Spread
from bench.servers import CONTENDERS, SetupError


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure, and whom."""

    quick: bool = False
    contenders: tuple[str, ...] = ("bare", "runestone")


@dataclass(frozen=True, slots=True)
class Line(ABC):
    """One line of a table with columns of its own."""

    HEAD: ClassVar[tuple[str, ...]]
    LEFT: ClassVar[frozenset[int]]
    """The columns that hold text."""

    @abstractmethod
    def cells(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Row(Line):
    """One line beside bare. `places` are the decimals shown; the ratio is runestone to bare."""

    HEAD = ("what", "unit", "bare", "runestone", "ratio", "target")
    LEFT = frozenset({0, 1, 5})

    what: str
    unit: str
    bare: float | None
    runestone: float | None
    places: int = 0
    ratio: float | None = None
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        values = ("-" if value is None else f"{value:,.{self.places}f}" for value in (self.bare, self.runestone))
        return self.what, self.unit, *values, "" if self.ratio is None else f"{self.ratio:.2f}", self.target


Measurement = Callable[[Plan], Sequence[Line]]


def row(what: str, unit: str, values: dict[str, list[float]], *, places: int = 0, target: str = "") -> Row:
    """Medians of the rounds; the ratio is the median of each round's own ratio, so noise falls on both sides."""
    middle = {name: median(numbers) for name, numbers in values.items()}
    pairs = zip(values.get("bare", []), values.get("runestone", []), strict=False)
    ratios = [gateway / yardstick for yardstick, gateway in pairs if yardstick]
    ratio = median(ratios) if ratios else None
    return Row(what, unit, middle.get("bare"), middle.get("runestone"), places, ratio, target)


def throughput(what: str, unit: str, results: dict[str, list[Result]], *, target: str) -> list[Row]:
    """The four rows of a saturated run: units a second, CPU time of one, latency, how busy the server's core was."""
    rates = {name: [result.rate for result in runs] for name, runs in results.items()}
    costs = {name: [result.cpu_microseconds for result in runs] for name, runs in results.items()}
    waits = {name: [spread(result.latency, "p99") for result in runs] for name, runs in results.items()}
    busy = {name: [result.busy for result in runs] for name, runs in results.items()}
    one = unit.removesuffix("s/s")
    shares = row(f"{what}: server core busy", "%", busy)
    taken = others(results)
    return [
        row(what, unit, rates, target=target),
        row(f"{what}: CPU a {one}", "µs", costs),
        row(f"{what}: latency p99, saturated", "ms", waits, places=1),
        replace(shares, ratio=None, target=f"({taken})"),
    ]


def others(results: dict[str, list[Result]]) -> str:
    """How much of the server's core neighbours took: the note that tells a disturbed measurement from a slow server."""
    shares = " / ".join(f"{median(result.taken for result in runs):.0f}" for runs in results.values())
    return f"others took {shares} %"


def spread(of: Spread | None, quantile: str) -> float:
    """A quantile in milliseconds; NaN when nothing was measured."""
    return nan if of is None else float(getattr(of, quantile))


def render(lines: Sequence[Line]) -> str:
    """The aligned table; where the columns change, another one below it."""
    return "\n\n".join(_table(kind, list(rows)) for kind, rows in groupby(lines, type))


def _table(kind: type[Line], lines: list[Line]) -> str:
    rows = [kind.HEAD, *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(_aligned(row, widths, kind.LEFT) for row in (rows[0], rule, *rows[1:]))


def _aligned(cells: tuple[str, ...], widths: list[int], left: frozenset[int]) -> str:
    padded = (
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def run(measurements: dict[str, Measurement], *, choose: bool = False) -> NoReturn:
    """The command line: measures, prints one table, exits 0; 1 when something could not be measured."""
    flags = argparse.ArgumentParser(prog="python -m bench" if choose else f"python -m bench.{next(iter(measurements))}")
    if choose:
        flags.add_argument("names", nargs="*", help="of: " + ", ".join(measurements))
    flags.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    flags.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    flags.add_argument("--only", choices=list(CONTENDERS), help="measure one side alone")
    given = flags.parse_args()
    names = getattr(given, "names", None) or list(measurements)
    if unknown := [name for name in names if name not in measurements]:
        flags.error(f"unknown: {', '.join(unknown)}; there are {', '.join(measurements)}")
    plan = Plan(given.quick, (given.only,) if given.only else tuple(CONTENDERS))
    # So that the `with` blocks stop the children when somebody stops us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Line] = []
    failed = 0
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            rows += measurements[name](plan)
        except SetupError as failure:
            print(f"bench: {name}: {failure}", file=sys.stderr)
            failed = 1
        except KeyboardInterrupt:
            sys.exit(130)
    machine = process.machine()
    print(f"{machine}\n\n{render(rows)}")
    if given.json:
        given.json.write_bytes(orjson.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, option=2))
    sys.exit(failed)
