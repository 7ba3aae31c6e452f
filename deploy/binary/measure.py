"""How long the one-file program takes from its start to its first answer: a process, a socket, a clock."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from pathlib import Path

_READY_WITHIN = 20.0
_ENDS_WITHIN = 10.0
_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def measure(program: Path) -> float:
    """Seconds until GET /health is answered with 200, of a server in an empty folder with an empty environment. Raises
    TimeoutError, ChildProcessError.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="runestone-start-") as folder:
        began = time.monotonic()
        command = [str(program), "serve", "--port", str(port), "--log-level", "error"]
        child = subprocess.Popen(command, cwd=folder, env={}, stderr=subprocess.DEVNULL)  # noqa: S603 - what was built
        try:
            while time.monotonic() < began + _READY_WITHIN:
                if _answers(port):
                    return time.monotonic() - began
                if child.poll() is not None:
                    raise ChildProcessError(f"{program} ended with exit code {child.returncode}")
                time.sleep(0.002)
            raise TimeoutError(f"{program} does not answer")
        finally:
            child.terminate()
            child.wait(_ENDS_WITHIN)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_READY_WITHIN) as connection:
            connection.sendall(_REQUEST)
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except ConnectionRefusedError:
        return False
