"""Zero downtime, shown: calls and streams through upgrades and reloads, and not one of them fails.

    python -m bench.drill             about a minute; prints one table; exit code 1 if anything failed
    python -m bench.drill --quick     one upgrade and four reloads

    500 calls/s over kept connections, 200 open SSE streams of some seconds, all answers compared byte for byte
    four reloads (by SIGHUP and by POST /admin/reload, each with another configuration), then SIGUSR2; five times

Rule: what was started is ended by its id, the processes that came of an upgrade too. Provider, load and gateway are
processes of their own.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import orjson

from bench import process
from bench.drill_load import CALLS, STREAMS, Report
from bench.servers import ROOT, SetupError, free_port

UPGRADES, RELOADS = 5, 4
"""And reloads before each."""
PAUSE = 1.5
"""Seconds from one event to the next."""
WARM_UP, LAST = 3.0, 4.0
WITHIN = 30.0
"""Seconds for whatever must come."""
KEY = "drill-key"
PROVIDER = '[providers.{}]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{}/{}/v1"\n{}\n'
BASE = """
pool.warmup = 0
websocket.port = 0
[cache]
enabled = false
[log]
level = "warning"
[[auth.keys]]
name = "ops"
key = "env:DRILL_KEY"
admin = true
[models.chat]
targets = ["{}"]
"""


@dataclass(slots=True)
class Seen:
    """What became of the events, in seconds."""

    reloads: list[float] = field(default_factory=list)
    upgrades: list[float] = field(default_factory=list)
    """Until the new process answered."""
    leaving: list[float] = field(default_factory=list)
    """Until the old one had ended."""
    wrong: list[str] = field(default_factory=list)


class Gateway:
    """The gateway, whichever process it is."""

    def __init__(self, folder: Path, port: int, provider: int) -> None:
        self.port = port
        self._provider = provider
        self._file = folder / "runestone.toml"
        self._variant = 0
        self.log = folder / "log"
        self.configure()
        command = [sys.executable, "-m", "runestone", "serve", "--config", str(self._file), "--port", str(port)]
        with self.log.open("wb") as log:
            environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DRILL_KEY": KEY}
            self._first = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=ROOT)
        process.pin(self._first.pid, process.server_core())
        self.pids = [self._first.pid]
        wait_for(self.answers, "the gateway does not serve")

    def configure(self) -> None:
        """Writes the next configuration: the provider of all calls is moved, kept, or its pool is another."""
        self._variant += 1
        one = PROVIDER.format("one", self._provider, "one", "")
        two = PROVIDER.format("two", self._provider, "two", f"pool.default_size = {20 + self._variant}")
        target = ("one/m", "two/m", "one/m", "two/m")[self._variant % 4]
        more = "" if self._variant % 3 else "[aliases]\nother = 'chat'\n"
        self._file.write_text(BASE.format(target) + more + one + two)

    def answers(self) -> int:
        """Which process answers a new connection; 0 when none does."""
        with suppress(OSError):
            told = orjson.loads(urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).read())
            return int(told["pid"])
        return 0

    def generation(self) -> int:
        """Configurations that the process which answers has served with."""
        told = urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5).read().decode()
        (line,) = [line for line in told.splitlines() if line.startswith("runestone_config_generation ")]
        return int(float(line.rpartition(" ")[2]))

    def reload(self, *, by_signal: bool) -> float:
        """Another configuration; how long that took."""
        self.configure()
        before, generation = time.monotonic(), self.generation()
        if by_signal:
            os.kill(self.pids[-1], signal.SIGHUP)
            wait_for(lambda: self.generation() > generation, "SIGHUP was not obeyed")
        else:
            head = {"Authorization": f"Bearer {KEY}"}
            told = urlopen(Request(f"http://127.0.0.1:{self.port}/admin/reload", b"", head), timeout=WITHIN).read()
            if not orjson.loads(told)["reloaded"]:
                raise SetupError(f"POST /admin/reload answered {told!r}")
        return time.monotonic() - before

    def upgrade(self) -> float:
        """Another process; how long until it answered."""
        before, old = time.monotonic(), self.pids[-1]
        os.kill(old, signal.SIGUSR2)
        wait_for(lambda: self.answers() not in (0, old), "SIGUSR2 was not obeyed")
        self.pids.append(self.answers())
        return time.monotonic() - before

    def has_ended(self, pid: int) -> bool:
        """Whether a process is over; one that nobody asks how is over too."""
        self._first.poll()
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.pids:
                if not self.has_ended(pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            with suppress(SetupError):
                wait_for(lambda: all(map(self.has_ended, self.pids)), "", 10.0)
                return


def wait_for(condition: Callable[[], object], otherwise: str, seconds: float = WITHIN) -> None:
    """Raises SetupError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SetupError(otherwise)
        time.sleep(0.01)


@contextmanager
def child(*command: str, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A module of this package, for as long as the block lasts."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    started = subprocess.Popen([sys.executable, "-m", *command], stdin=pipe, stdout=pipe, env=environ, cwd=ROOT)
    try:
        process.pin(started.pid, core)
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


def drill(upgrades: int, reloads: int) -> tuple[Report, Seen]:
    """All of it. Raises SetupError."""
    seen, port = Seen(), free_port()
    core = process.load_core()
    with (
        tempfile.TemporaryDirectory(prefix="runestone-drill-") as folder,
        child("bench.drill_provider", "--port", str(port), core=core),
    ):
        gateway = Gateway(Path(folder), free_port(), port)
        try:
            with child("bench.drill_load", "--port", str(gateway.port), core=core) as load:
                time.sleep(WARM_UP)
                _through(gateway, seen, upgrades, reloads)
                time.sleep(LAST)
                out, _ = load.communicate(timeout=WITHIN + 10)
            _ends(gateway, seen)
        finally:
            gateway.stop()
        lines = gateway.log.read_text(errors="replace").splitlines()
        seen.wrong += [line for line in lines if " error " in line or "Traceback" in line][:5]
    return Report(**orjson.loads(out)), seen


def _through(gateway: Gateway, seen: Seen, upgrades: int, reloads: int) -> None:
    for _ in range(upgrades):
        for number in range(reloads):
            seen.reloads.append(gateway.reload(by_signal=number % 2 == 0))
            time.sleep(PAUSE)
        seen.upgrades.append(gateway.upgrade())
        time.sleep(PAUSE)


def _ends(gateway: Gateway, seen: Seen) -> None:
    """When the load is over, so are all processes but the last."""
    before = time.monotonic()
    for pid in gateway.pids[:-1]:
        wait_for(lambda pid=pid: gateway.has_ended(pid), f"the process {pid} was replaced, and goes on")  # type: ignore[misc]
    seen.leaving.append(time.monotonic() - before)


def table(report: Report, seen: Seen) -> str:
    """What to print."""
    took = {name: f"{seconds * 1000:,.1f} ms" for name, seconds in report.latency.items()}
    rows: list[tuple[str, int, int, str]] = [
        (
            f"calls ({report.calls / max(report.seconds, 0.001):,.0f}/s, wanted {CALLS})",
            report.calls,
            report.failed_calls,
            ", ".join(f"{name} {took[name]}" for name in took) + f"; {report.late} waited for others",
        ),
        (
            f"streams ({STREAMS} at a time)",
            report.streams,
            report.failed_streams,
            f"at least {report.open_least} open; every byte compared",
        ),
        ("reloads", len(seen.reloads), 0, f"longest {max(seen.reloads) * 1000:,.0f} ms"),
        ("upgrades", len(seen.upgrades), 0, f"the new process answers after {max(seen.upgrades):.1f} s at most"),
        ("connections of the load", report.connections, 0, f"{report.told_to_close} answers were the last on theirs"),
    ]
    lines = ["| what | count | failed | |", "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {count:,} | {failed} | {more} |" for what, count, failed, more in rows]
    return "\n".join([*lines, *report.failures, *seen.wrong])


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m bench.drill", description="Zero downtime, shown.")
    flags.add_argument("--quick", action="store_true", help="one upgrade and four reloads")
    try:
        report, seen = drill(1 if flags.parse_args().quick else UPGRADES, RELOADS)
    except SetupError as error:
        print(f"drill: {error}", file=sys.stderr)
        return 1
    print(table(report, seen))
    is_enough = report.calls >= 0.95 * CALLS * report.seconds and report.open_least > 0
    return int(bool(report.failures or seen.wrong or not is_enough))


if __name__ == "__main__":
    sys.exit(main())
