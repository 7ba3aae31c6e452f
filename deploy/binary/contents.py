"""What goes into the archive of the one-file program, as bytes by their names in it.

The whole standard library but for what REFUSED names, every distribution that `runestone[otel,top,debug]` asks for
with its metadata and licence, and runestone itself with its sources, so that tracebacks show lines. Modules are there
as byte code that is never compared with a source: nothing on the machine can make it stale.

Rule: what a distribution has beyond its modules goes along, unless a program cannot want it (UNWANTED). What every
start imports is not compressed: inflating it would be a fifth of the start.
"""

from __future__ import annotations

import marshal
import re
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution, distribution
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

from packaging.requirements import Requirement

import runestone

HERE = Path(__file__).parent
ARCHIVE = "/proc/self/exe"
EXTRAS = ("otel", "top", "debug")
REFUSED = {
    *("test", "idlelib", "tkinter", "turtle", "turtledemo", "_tkinter"),  # no screen
    *("ensurepip", "venv", "lib2to3", "distutils", "msilib", "pydoc_data"),  # no place for packages, no Windows
    *("readline", "nis", "ossaudiodev", "spwd"),  # readline is under the GPL; the others want libraries nobody has
}
UNWANTED = {".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cc", ".cpp", ".h", ".hpp", ".proto", ".pyc", ".exe", ".map"}
UNPACKED = ("aiomonitor",)
"""Packages that open their own files by path."""
REPLACED = {"certifi/core.py": HERE / "certificates.py"}

Entries = dict[str, bytes]


class Contents:
    """Collected by being made."""

    def __init__(self) -> None:
        self.entries: Entries = {}
        self.extensions: dict[str, Path] = {}
        """Native modules, which are not for the archive, and where they are."""
        self.distributions: list[str] = []
        self.often = _started()
        """Modules, native ones among them, that every start imports."""
        self._standard_library()
        for one in _closure("runestone", EXTRAS):
            self.distributions.append(f"{one.name} {one.version}")
            self._distribution(one)
        self._runestone()
        self._module("_runestone_boot.py", (HERE / "boot.py").read_bytes(), keep=True)

    def index(self, text: str) -> None:
        """The module boot.py reads."""
        self._module("_runestone_natives.py", text.encode(), keep=False)

    def unpacked(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(e for e in self.entries if e.startswith(f"{name}/")) for name in UNPACKED}

    def _standard_library(self) -> None:
        root = Path(sysconfig.get_path("stdlib"))
        for file in sorted(root.rglob("*")):
            name = file.relative_to(root)
            top = name.parts[0].partition(".")[0]
            if top in REFUSED or top.startswith(("_test", "xx", "_xxtest", "config-", "_ctypes_test")):
                continue
            if name.parts[0] == "site-packages" or {"test", "tests", "__pycache__", "idle_test"} & set(name.parts):
                continue
            if name.parts[0] == "lib-dynload":
                if len(name.parts) > 1 and name.parts[1].partition(".")[0] not in REFUSED:
                    self._file(name.parts[1], file)
            elif file.suffix == ".py":
                self._file(name.as_posix(), file)

    def _distribution(self, one: Distribution) -> None:
        for path in one.files or ():
            name, file = path.as_posix(), Path(str(path.locate()))
            if name.startswith("..") or {"test", "tests", "__pycache__"} & set(path.parts):
                continue
            if path.suffix not in UNWANTED and path.name not in {"RECORD", "INSTALLER", "direct_url.json"}:
                self._file(name, file)

    def _runestone(self) -> None:
        """From where it is imported, which may be a source tree; its metadata with it."""
        root = Path(runestone.__file__).parent
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                self._file(f"runestone/{file.relative_to(root).as_posix()}", file, keep=True)
        info = f"runestone-{runestone.__version__}.dist-info"
        points = distribution("runestone").read_text("entry_points.txt") or ""
        self.entries[f"{info}/METADATA"] = (
            f"Metadata-Version: 2.1\nName: runestone\nVersion: {runestone.__version__}\nLicense: MIT\n"
        ).encode()
        self.entries[f"{info}/entry_points.txt"] = points.encode()

    def _file(self, name: str, file: Path, *, keep: bool = False) -> None:
        suffix = next((suffix for suffix in EXTENSION_SUFFIXES if name.endswith(suffix)), None)
        if suffix is not None:
            module = name.removesuffix(suffix).replace("/", ".")
            if not module.rpartition(".")[2].startswith(("_test", "xx")):
                self.extensions[module] = file
        elif name.endswith(".py"):
            self._module(name, REPLACED.get(name, file).read_bytes(), keep=keep)
        elif ".so" not in file.suffixes:
            self.entries[name] = file.read_bytes()

    def _module(self, name: str, source: bytes, *, keep: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, f"{ARCHIVE}/{name}", "exec", dont_inherit=True, optimize=0)
        unchecked = (1).to_bytes(4, "little")
        self.entries[f"{name}c"] = MAGIC_NUMBER + unchecked + source_hash(source) + marshal.dumps(code)
        if keep:
            self.entries[name] = source


def _started() -> frozenset[str]:
    command = [sys.executable, "-c", "import sys, runestone.cli; print(*sys.modules)"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603 - ourselves
    return frozenset(done.stdout.split())


def _closure(name: str, extras: tuple[str, ...]) -> Iterator[Distribution]:
    """What it needs, each once, but not itself."""
    done: dict[str, set[str]] = {}
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        fresh = {"", *extras} - done.get(key, set())
        if not fresh:
            continue
        found = distribution(name)
        if key not in done and key != "runestone":
            yield found
        done.setdefault(key, set()).update(fresh)
        for line in found.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in fresh):
                waiting.append((wanted.name, tuple(wanted.extras)))
