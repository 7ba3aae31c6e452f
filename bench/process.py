"""A process seen from outside: the cores it may use, the CPU time it has used, the memory it holds.

Rule: /proc where there is one, `ps` elsewhere; None is never returned for zero. Absent: children of the process.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import runestone

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc/self/stat").exists()


def cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def server_core() -> int:
    """The server has the first core to itself, if there are two."""
    return cores()[0]


def load_core() -> int:
    """Provider and load share the last core."""
    return cores()[-1]


def pin(pid: int, core: int) -> None:
    """Pin a process to a core; nothing where the system cannot."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads. Linux counts it exactly and tells it in ticks of 10 ms."""
    if _PROC:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    parts = _ps(pid, "time").replace("-", ":").split(":")
    return sum(float(part) * unit for part, unit in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))


def waited_seconds(pid: int) -> float:
    """How long its threads were ready to run while their core worked for others; 0 where the system does not say."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat") if _PROC else ()
    return sum(int(file.read_bytes().split()[1]) for file in files) / 1e9


def resident_megabytes(pid: int) -> float:
    """Resident memory in MB (2**20), shared pages counted in full."""
    if _PROC:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return int(_ps(pid, "rss")) / 1024


def machine() -> str:
    """One line: what the numbers were measured on."""
    pinned = f"server on core {server_core()}, provider and load on core {load_core()}"
    if not hasattr(os, "sched_setaffinity"):
        pinned = "not pinned: this system cannot"
    elif len(cores()) == 1:
        pinned = "ONE CORE: server, provider and load share it, calls/s say little; trust the CPU rows"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "uvloop", "orjson"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{len(cores())} core(s) of {_model()}, {platform.system()} {platform.machine()}"
    return f"{system}; {python}, {libraries}; Runestone {runestone.__version__}; {pinned}"


def _model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
