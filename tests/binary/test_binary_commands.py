"""The commands of the one-file program, on a machine without Python."""

from __future__ import annotations

import hashlib
import platform
import re
import socket
import subprocess
import urllib.request

import pytest

from runestone import __version__
from tests.binary.machine import PROGRAM, Machine

WITHIN = 1.5
"""Seconds from the start to the first answer."""
FAULTY = '[server]\nhots = "0.0.0.0"\n'


def failed(ended: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line it said."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    (line,) = ended.stderr.splitlines()
    return line


def test_there_is_no_python(machine: Machine) -> None:
    """What all the tests here run on: the program, the C library, and nothing else."""
    if not machine.is_bare:
        pytest.skip("no root of its own is allowed here (unshare, mount): the program runs in an empty folder")
    others = {file for file in machine.files() if not file.startswith(("lib/", "etc/runestone/", "usr/bin/gateway"))}
    assert others == {PROGRAM}
    assert {re.sub(r"\W.*", "", name) for name in (file.name for file in (machine.root / "lib").iterdir())} <= {
        *("libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "ld"),
    }


def test_version(machine: Machine) -> None:
    """The versions of what is inside; metadata of packages is there."""
    ended = machine.run("version")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == f"runestone {__version__}"
    assert lines[1] == f"python {platform.python_version()}"
    assert [line.split()[0] for line in lines[2:4]] == ["aiohttp", "uvloop"]


def test_check(machine: Machine) -> None:
    """The effective configuration, or every fault and exit code 2."""
    ended = machine.run("check")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "[server]" in ended.stdout
    machine.write("etc/runestone/faulty.toml", FAULTY)
    line = failed(machine.run("check", "--config", machine.path("etc/runestone/faulty.toml")), 2)
    assert "server.hots" in line
    assert "host" in line


def test_keys_new(machine: Machine) -> None:
    """A key, and its digest to paste."""
    ended = machine.run("keys", "new", "--name", "me")
    assert (ended.returncode, ended.stderr) == (0, "")
    key = ended.stdout.splitlines()[0]
    assert f'sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"' in ended.stdout


def test_models(machine: Machine) -> None:
    """With no configuration at all, the simulated one."""
    ended = machine.run("models")
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["simulated", "->", "simulated/simulated"], "")


def test_exit_codes(machine: Machine) -> None:
    """1 for what fails at run time, 2 for bad usage; a line each, no traceback."""
    unknown = machine.run("nonsense")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "Traceback" not in unknown.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in failed(machine.run("serve", "--port", port), 1)
        assert "127.0.0.1" in failed(machine.run("top", "--once", "--url", f"http://127.0.0.1:{port}x"), 1)


def test_it_starts_in_time(machine: Machine) -> None:
    """Of its processor's time, which a busy machine does not add to: on an idle one that is what passes on the clock,
    as `make binary` prints it.
    """
    with machine.serve() as server, urllib.request.urlopen(f"{server.url}/health") as answer:
        assert answer.status == 200
        assert server.worked() < WITHIN
