"""A text file line by line, without ever holding more of it than a batch.

Rule: blocking; a line that is too long is handed on cut (whoever reads it sees that), and its rest is passed over.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

BATCH = 1 << 20
"""Bytes after which a batch is handed on."""


def batches(path: Path, longest: int) -> Generator[list[bytes]]:
    """The lines of the file, without their ends; of one longer than `longest` bytes the first `longest` + 1. Raises
    OSError.
    """
    with path.open("rb") as file:
        lines: list[bytes] = []
        size = 0
        while line := file.readline(longest + 2):
            rest = line
            while len(rest) == longest + 2 and not rest.endswith(b"\n"):
                rest = file.readline(longest + 2)
            lines.append(line.rstrip(b"\r\n")[: longest + 1])
            size += len(line)
            if size >= BATCH:
                yield lines
                lines, size = [], 0
        yield lines
