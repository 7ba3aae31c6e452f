"""serving/system.py: what is told to systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runestone.serving.system import Notifier

Place = tuple[socket.socket, dict[str, str]]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Place]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "notify"))
        there.settimeout(2)
        yield there, {"NOTIFY_SOCKET": str(tmp_path / "notify")}


def test_the_first_process_is_the_service_anyway(systemd: Place) -> None:
    """systemd's main process is who it has started."""
    there, environ = systemd
    Notifier(environ).ready("serves")
    assert there.recv(4096) == b"READY=1\nSTATUS=serves"


def test_a_successor_is_the_service(systemd: Place) -> None:
    """From its first word on."""
    there, environ = systemd
    Notifier(environ).take_over("serves")
    assert there.recv(4096) == b"MAINPID=%d\nREADY=1\nSTATUS=serves" % os.getpid()


def test_signs_of_life_only_where_they_are_waited_for(systemd: Place) -> None:
    """WATCHDOG_USEC asks for them; who was replaced is silent."""
    there, environ = systemd
    Notifier(environ).alive()
    watched = Notifier({**environ, "WATCHDOG_USEC": "5000000"})
    watched.alive()
    assert there.recv(4096) == b"WATCHDOG=1"
    watched.mute()
    watched.alive()
    watched.stopping()
    there.setblocking(False)
    with pytest.raises(BlockingIOError):
        there.recv(4096)


def test_without_systemd_nobody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """And nobody who is gone costs more than a line."""
    Notifier({}).ready("serves")
    assert not caplog.records
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("serves")
    assert "systemd cannot be told READY=1" in caplog.text


def test_a_crash_leaves_no_memory_behind() -> None:
    """No dump by the limit, and none through a handler, which the limit does not bind; others cannot read it either."""
    told = (
        "import ctypes, resource; from runestone.serving.system import keep_memory_private; keep_memory_private();"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["0", "0"]
