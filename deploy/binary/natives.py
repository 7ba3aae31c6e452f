"""What is machine code in the one-file program: native modules, the libraries they need, and the launcher.

Needs binutils and a C compiler, and Python as a shared library. Rule: everything but the C library itself goes along,
so the one thing a machine must have is glibc, not older than what `glibc_floor` says.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
GLIBC = re.compile(r"(lib(c|m|dl|pthread|rt|util|resolv|nsl|BrokenLocale|anl)|ld-linux.*)\.so\.\d+")
PYTHON, ZLIB = "libpython", "zlib"


class Unbuildable(Exception):
    """Something this machine lacks."""


class Natives:
    """Call `launcher` first: what is in it is not needed elsewhere. `work` is a folder for files nobody keeps."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self.libraries: dict[str, Path] = {}
        """What `needed` has found, with the files they are in."""
        self.begun: dict[str, Path] = {}
        """What is loaded before Python runs, in this order."""

    def needed(self, file: Path) -> tuple[str, ...]:
        """The libraries it needs, each behind those it needs itself. Raises Unbuildable."""
        found = dict(re.findall(r"^\s*(\S+) => (/\S+)", _run("ldd", str(file)), re.MULTILINE))
        order: dict[str, None] = {}

        def visit(one: Path) -> None:
            for name in re.findall(r"\(NEEDED\).*\[(.+)\]", _run("readelf", "-dW", str(one))):
                if name in order or name in self.begun or GLIBC.fullmatch(name) or name.startswith("libpython"):
                    continue
                if name not in found:
                    raise Unbuildable(f"{one} needs {name}, which is not here")
                self.libraries[name] = Path(found[name]).resolve()
                visit(self.libraries[name])
                order[name] = None

        visit(file)
        return tuple(order)

    def stripped(self, file: Path) -> bytes:
        """Its bytes without what only a debugger wants."""
        target = self._work / "stripped"
        _run("strip", "--strip-unneeded", "-o", str(target), str(file))
        return target.read_bytes()

    def launcher(self, extensions: dict[str, Path]) -> bytes:
        """The program that starts Python. `extensions`: native modules by their names; zlib and what ctypes needs
        are loaded by it. Raises Unbuildable.
        """
        name = sysconfig.get_config_var("INSTSONAME")
        python = Path(sysconfig.get_config_var("LIBDIR")) / str(name)
        if not sysconfig.get_config_var("Py_ENABLE_SHARED") or not python.exists():
            raise Unbuildable("this Python is not built as a shared library (--enable-shared)")
        if "_ctypes" not in extensions:
            raise Unbuildable("this Python has no ctypes: it was built without libffi")
        for module in [name for name in (ZLIB, "_ctypes") if name in extensions]:
            self.needed(extensions[module])
        self.begun = {**self.libraries, PYTHON: python}
        if ZLIB in extensions:
            self.begun[ZLIB] = extensions[ZLIB]
        self.libraries.clear()
        return self._compiled()

    def _compiled(self) -> bytes:
        lines = ["struct blob { const char *name; const unsigned char *begin, *end; };"]
        for number, file in enumerate(self.begun.values()):
            copy = self._work / f"blob{number}"
            copy.write_bytes(self.stripped(file))
            steps = (
                ".section .rodata",
                ".balign 4096",
                f"blob{number}:",
                f'.incbin \\"{copy}\\"',
                f"end{number}:",
                ".previous",
            )
            lines.append(f'__asm__("{"; ".join(steps)}");')
            lines.append(f"extern const unsigned char blob{number}[], end{number}[];")
        rows = ", ".join(f'{{"{name}", blob{number}, end{number}}}' for number, name in enumerate(self.begun))
        names = list(self.begun)
        lines += [
            f"static const struct blob blobs[] = {{{rows}}};",
            f"#define BLOBS {len(names)}",
            f"#define PYTHON_BLOB {names.index(PYTHON)}",
            f"#define ZLIB_BLOB {names.index(ZLIB) if ZLIB in names else -1}",
        ]
        (self._work / "blobs.h").write_text("\n".join(lines) + "\n")
        target = self._work / "launcher"
        compiler = shlex.split(os.environ.get("CC", "cc"))
        include = f"-I{sysconfig.get_path('include')}"
        flags = ("-O2", "-Wall", "-Wextra", "-s", f"-I{self._work}", include)
        _run(*compiler, *flags, "-o", str(target), str(HERE / "launcher.c"), "-ldl")
        return target.read_bytes()


def glibc_floor(programs: Iterable[bytes]) -> str:
    """The oldest glibc that has every symbol they ask for."""
    versions = {tuple(map(int, found.split(b"."))) for one in programs for found in re.findall(rb"GLIBC_(2\.\d+)", one)}
    return ".".join(map(str, max(versions)))


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)  # noqa: S603 - ours
    except FileNotFoundError:
        raise Unbuildable(f"{command[0]} is missing (Debian: apt-get install gcc libc6-dev binutils)") from None
    except subprocess.CalledProcessError as error:
        raise Unbuildable(f"{shlex.join(command)}: {error.stderr.strip()[-2000:]}") from None
    return done.stdout
