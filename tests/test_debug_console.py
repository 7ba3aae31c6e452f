"""`[debug] console`: a way into the running process, on loopback, only where it was asked for."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
TOML = "[server]\nport = 0\n[websocket]\nport = 0\n[providers.simulated]\n"
LISTENS = "0A"
pytestmark = pytest.mark.xdist_group("debug console")  # its ports must be known before: one after the other
with_extra = pytest.mark.skipif(find_spec("aiomonitor") is None, reason="the extra `debug` is not installed")

# of the telnet protocol (RFC 854, 1091, 1073)
IAC, SB, SE, WILL, TERMINAL, WINDOW = 255, 250, 240, 251, 24, 31
HELLO = (
    bytes([IAC, WILL, TERMINAL, IAC, SB, TERMINAL, 0])
    + b"vt100"
    + bytes([IAC, SE, IAC, SB, WINDOW, 0, 200, 0, 50, IAC, SE])
)


def three_free_ports() -> int:
    """The first of three that nobody has, below those the system gives out by itself."""
    for first in range(21000 + os.getpid() % 2500 * 3, 30000, 3):  # others that test here begin elsewhere
        with ExitStack() as held:
            try:
                for port in range(first, first + 3):  # strictly: a port that somebody has just left will not do either
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no ports are free")


def command(folder: Path, debug: str) -> list[str]:
    file = folder / "debugged.toml"
    file.write_text(TOML + debug)
    return [sys.executable, "-m", "runestone", "serve", "--config", str(file)]


def refused(folder: Path, debug: str, *code: str) -> str:
    """What a gateway says that does not start, with exit code 2."""
    ended = subprocess.run(
        [sys.executable, "-c", *code, *command(folder, debug)[3:]] if code else command(folder, debug),
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    return ended.stderr


@contextmanager
def serving(folder: Path, debug: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A running gateway, and the lines it has said until it serves."""
    with subprocess.Popen(command(folder, debug), env=ENVIRON, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            while not lines or "serves on" not in lines[-1]:
                line = process.stderr.readline()
                assert line, lines
                lines.append(line)
            yield process, lines
        finally:
            if process.poll() is None:
                process.kill()
            process.stderr.read()


class Session:
    """Somebody at the console."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._seen = b""

    def __enter__(self) -> Session:
        self._socket.sendall(HELLO)
        return self

    def __exit__(self, *about: object) -> None:
        self._socket.close()

    def until(self, pattern: bytes) -> None:
        """Reads on to it."""
        deadline = time.monotonic() + 10
        while (found := re.search(pattern, self._seen)) is None:
            assert time.monotonic() < deadline, self._seen
            data = self._socket.recv(65536)
            assert data, self._seen
            self._seen += data
        self._seen = self._seen[found.end() :]

    def type(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\r")


def listeners() -> dict[int, str]:
    """Port -> the address it is listened on, as the kernel writes it."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16): row[1].split(":")[0] for row in rows if row[3] == LISTENS}


@with_extra
def test_tasks_and_the_process_can_be_looked_at(tmp_path: Path) -> None:
    """On loopback: the tasks, and Python inside the process; whoever is in there does not hold the end up."""
    port = three_free_ports()
    with serving(tmp_path, f"[debug]\nconsole = true\nport = {port}\n") as (process, lines), Session(port) as session:
        assert f"the debug console is open on 127.0.0.1:{port}" in lines[0]
        assert {number: address for number, address in listeners().items() if port <= number < port + 3} == {
            port: "0100007F",
            port + 1: "0100007F",
        }
        session.until(rb"monitor >>> ")
        session.type("ps")
        session.until(rb"PENDING.*run\(\)")
        session.type("console")
        session.until(rb"Python 3")
        session.type("app.running.streams + 41")
        session.until(rb"\b41\b")
        session.type("loop.is_running()")
        session.until(rb"True")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@with_extra
def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    """Any of the three; nobody waits for it."""
    port = three_free_ports()
    for taken in range(port, port + 3):
        with socket.create_server(("127.0.0.1", taken)):
            said = refused(tmp_path, f"[debug]\nconsole = true\nport = {port}\n")
        assert said == f"configuration:debug.port: 127.0.0.1:{taken} cannot be used: Address already in use\n"


@with_extra
@pytest.mark.parametrize("port", [0, 65534, 65535])
def test_there_must_be_three_ports(port: int, tmp_path: Path) -> None:
    """The last two follow the first."""
    said = refused(tmp_path, f"[debug]\nconsole = true\nport = {port}\n")
    assert said == "configuration:debug.port: must be 1 to 65533: two more follow it\n"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """One line, before anything is opened."""
    code = "import sys; sys.modules['aiomonitor'] = None; from runestone.cli import main; sys.exit(main(sys.argv[1:]))"
    said = refused(tmp_path, "[debug]\nconsole = true\n", code)
    assert said == "configuration:debug.console: needs the extra `debug`: pip install 'runestone[debug]'\n"


def test_it_is_not_there_unless_asked_for(tmp_path: Path) -> None:
    """No port is open, whatever is installed."""
    port = three_free_ports()
    with serving(tmp_path, f"[debug]\nport = {port}\n") as (_, lines):
        assert "debug console" not in "".join(lines)
        assert not listeners().keys() & set(range(port, port + 3))
