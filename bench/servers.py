"""The child processes of a measurement: started, pinned, awaited, stopped.

Rule: a child is stopped by the pid it was started with, whatever happens; every wait has a deadline. Children see a
bare environment (no vendor's key, no proxy) and the source tree this file lies in. Absent: restarts, other machines.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench import process, wire
from bench.run import Result, Run

ROOT = Path(__file__).resolve().parent.parent
_READY_WITHIN = 15.0
_STOPS_WITHIN = 3.0
_LOAD_GRACE = 30.0


Standing = AbstractContextManager["Server"]
"""A server for as long as the `with` block lasts."""


class SetupError(Exception):
    """A process did not come up, or answered wrongly: there is nothing to measure."""


@dataclass(slots=True)
class Server:
    """A running child that listens on loopback."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    base: str = "/v1"
    alone: bool = True  # has its core to itself, as far as the bench can say
    spawned: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}/chat/completions"

    def await_ready(self) -> None:
        """Until the port accepts. Raises SetupError with the last lines the child wrote."""
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self.failure(f"ended with exit code {self.process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.002)
            else:
                return
        raise self.failure(f"does not listen after {_READY_WITHIN:.0f} s")

    def failure(self, what: str) -> SetupError:
        lines = self.log.read_text(errors="replace").splitlines()[-20:]
        return SetupError(
            "\n".join([f"{self.name} {what}; the last lines it wrote:", *(f"    {line}" for line in lines)])
        )

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_STOPS_WITHIN)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port


@contextmanager
def provider() -> Iterator[Server]:
    """The fake provider, on the load's core."""
    port = free_port()
    with _child("the fake provider", port, ["bench.provider", "--port", str(port)], process.load_core()) as server:
        server.base, server.alone = "/fast/v1", False
        yield server


@contextmanager
def embedder() -> Iterator[Server]:
    """The fake provider of embeddings, on the load's core."""
    port = free_port()
    command = ["bench.embedder", "--port", str(port)]
    with _child("the fake provider of embeddings", port, command, process.load_core()) as server:
        yield server


@contextmanager
def collector() -> Iterator[Server]:
    """A collector of traces and metrics, on the load's core."""
    port = free_port()
    with _child("the collector", port, ["bench.collector", "--port", str(port)], process.load_core()) as server:
        yield server


@contextmanager
def bare(upstream: Server, mode: str = "fast", base: str = "/v1") -> Iterator[Server]:
    """The yardstick, on the server core; with `base` "/hit" it answers from a constant."""
    port = free_port()
    url = f"http://127.0.0.1:{upstream.port}/{mode}/v1"
    command = ["bench.bare", "--port", str(port), "--upstream", url]
    with _child("bench/bare.py", port, command, process.server_core()) as server:
        server.base = base
        yield server


@contextmanager
def runestone(upstream: Server, mode: str = "fast") -> Iterator[Server]:
    """The gateway of this source tree, with one provider and nothing else configured, on the server core."""
    template = (Path(__file__).parent / "runestone.toml").read_text()
    with gateway("runestone", template.replace("BASE_URL", f"http://127.0.0.1:{upstream.port}/{mode}/v1")) as server:
        yield server


@contextmanager
def gateway(name: str, configuration: str) -> Iterator[Server]:
    """The gateway of this source tree with that configuration file, on the server core."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="runestone-bench-") as folder:
        config = Path(folder) / "runestone.toml"
        config.write_text(configuration)
        command = ["runestone", "serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        with _child(name, port, command, process.server_core()) as server:
            yield server


CONTENDERS = {"bare": bare, "runestone": runestone}


@contextmanager
def standing(contenders: tuple[str, ...], mode: str = "fast") -> Iterator[tuple[Server, dict[str, Server]]]:
    """The provider and the contenders in front of it, all up at once: an idle one costs its neighbour nothing."""
    with ExitStack() as stack:
        upstream = stack.enter_context(provider())
        upstream.base = f"/{mode}/v1"
        yield upstream, {name: stack.enter_context(CONTENDERS[name](upstream, mode)) for name in contenders}


def drive(run: Run, core: int | None = None) -> Result:
    """One run of the load generator in a process of its own, on the load's core if not told another.

    Raises SetupError when it breaks or is not done in time.
    """
    return Result.read(finish("bench.load", run, run.warm_up + run.seconds, core))


def finish(module: str, run: object, seconds: float, core: int | None = None) -> bytes:
    """What a load generator that takes `run` and that many seconds prints. Raises SetupError."""
    command = [sys.executable, "-m", module, "--run", orjson.dumps(run).decode()]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(), cwd=ROOT)
    try:
        process.pin(load.pid, process.load_core() if core is None else core)
        out, errors = load.communicate(timeout=seconds + _LOAD_GRACE)
    except subprocess.TimeoutExpired:
        raise SetupError(f"the load generator is not done: {run}") from None
    finally:
        if load.poll() is None:
            load.kill()
            load.wait(_STOPS_WITHIN)
    if load.returncode:
        raise SetupError(f"the load generator failed: {errors.decode(errors='replace')[-2000:]}")
    return out


def first_answer(server: Server) -> None:
    """One chat call, checked. Raises SetupError."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=_READY_WITHIN) as connection:
        connection.sendall(wire.request(server.base + "/chat/completions", server.port, wire.chat_body(stream=False)))
        answer = connection.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise server.failure(f"answered {answer[:300]!r}")


@contextmanager
def _child(name: str, port: int, module: list[str], core: int) -> Iterator[Server]:
    with tempfile.NamedTemporaryFile(prefix="bench-log-") as log:
        spawned = time.monotonic()
        child = subprocess.Popen([sys.executable, "-m", *module], stdout=log, stderr=log, env=_environment(), cwd=ROOT)
        server = Server(name, port, child, Path(log.name), spawned=spawned)
        try:
            process.pin(child.pid, core)
            server.await_ready()
            yield server
        finally:
            server.stop()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT)}
