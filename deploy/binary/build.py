# ruff: noqa: T201 - it prints
"""`make binary`: writes dist/runestone, prints what it is and how fast it starts.

    launcher.c   becomes the program; with Python's own library inside
    boot.py      the first Python it runs
    contents.py  which modules and files go in
    natives.py   native modules, libraries, the compiler
    measure.py   how fast it starts

Rule: the same sources and the same installed packages make the same bytes. Why it is built so, and not by PyInstaller
or Nuitka: docs/decisions/one-file-binary.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath
from pprint import pformat
from ssl import get_default_verify_paths
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from contents import Contents
from measure import measure
from natives import Natives, Unbuildable, glibc_floor

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "dist" / "runestone"
STARTS = 5
Place = tuple[int, int, bool]
"""As boot.py reads it: from which byte, how many, whether they are deflated."""


def main() -> int:
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="runestone-binary-") as work:
            floor, parts = build(Path(work))
    except Unbuildable as error:
        print(f"make binary: {error}", file=sys.stderr)
        return 1
    size, seconds = TARGET.stat().st_size / 1e6, time.monotonic() - began
    print(f"{TARGET.relative_to(ROOT)}: {size:.1f} MB ({parts}), for glibc {floor} and later, built in {seconds:.0f} s")
    starts = sorted(measure(TARGET) for _ in range(STARTS))
    print(
        f"start to first answer: {starts[STARTS // 2]:.2f} s (median of {STARTS}; {starts[0]:.2f} to {starts[-1]:.2f})"
    )
    return 0


def build(work: Path) -> tuple[str, str]:
    """The oldest glibc it runs with, and what it consists of, in words. Raises Unbuildable."""
    contents, natives = Contents(), Natives(work)
    launcher = natives.launcher(contents.extensions)
    parts = Parts(launcher)
    extensions: dict[str, tuple[Place, tuple[str, ...]]] = {}
    often = set()
    for name, file in contents.extensions.items():
        if name not in natives.begun:
            needed = natives.needed(file)
            often.update(needed if name in contents.often else ())
            extensions[name] = (parts.add(natives.stripped(file), name in contents.often), needed)
    libraries = {name: parts.add(natives.stripped(file), name in often) for name, file in natives.libraries.items()}
    paths = get_default_verify_paths()
    index = {
        "EXTENSIONS": extensions,
        "LIBRARIES": libraries,
        "CERTIFICATES": (paths.openssl_cafile, paths.openssl_capath),
        "UNPACKED": contents.unpacked(),
    }
    contents.index("\n".join(f"{name} = {pformat(value, width=120)}" for name, value in index.items()))
    _write(parts.data, contents)
    said = (
        (len(contents.distributions), "packages"),
        (len(contents.entries), "files"),
        (len(extensions), "native modules"),
    )
    return glibc_floor(parts.programs), ", ".join(f"{number} {what}" for number, what in said)


class Parts:
    """The file up to the archive: the launcher, then what boot.py loads."""

    def __init__(self, launcher: bytes) -> None:
        self.data = bytearray(launcher)
        self.programs = [launcher]

    def add(self, program: bytes, often: bool) -> Place:
        self.programs.append(program)
        stored = program if often else zlib.compress(program, 9)
        self.data += stored
        return len(self.data) - len(stored), len(stored), not often


def _write(front: bytes, contents: Contents) -> None:
    """The archive behind all else, put in place at once: a running one keeps its file."""
    entries = contents.entries
    TARGET.parent.mkdir(exist_ok=True)
    fresh = TARGET.with_suffix(".new")
    fresh.write_bytes(front)
    folders = {f"{folder}/": b"" for name in entries for folder in PurePosixPath(name).parents if folder.name}
    with ZipFile(fresh, "a") as archive:
        for name, data in sorted((folders | entries).items()):  # without its folder a namespace package is not found
            module = name.removesuffix(".pyc").removesuffix("/__init__").replace("/", ".")
            archive.writestr(ZipInfo(name), data, ZIP_STORED if module in contents.often else ZIP_DEFLATED, 9)
    fresh.chmod(0o755)
    os.replace(fresh, TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
