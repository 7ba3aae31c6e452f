"""Soak: ten minutes of everything at once against one gateway, and what it holds before, after and in between.

    python -m bench soak [--minutes 10] [--share 1.0] [--json FILE]

About 250 calls a second of every kind (bench/soak_load.py lists them): asked anew, again and at once, JSON, SSE,
WebSockets, embeddings, batches, of targets that are slow, fail, hang, reset and break off; clients that leave anywhere,
read slowly, ask wrongly, rejoin. In three stretches (warm-up, a fifth of the time; the first and the second half of the
rest); after each of them everybody leaves, what waits for somebody to come back is given up, and then the gateway is
looked at: its memory from outside, its open files by /metrics (its /proc/PID/fd is closed to others), the rest by GET
/admin/state.

What is kept on purpose is small and full after the warm-up: 400 answers, sessions and streams for five seconds. The
warm-up ends with a rush of three times the load: a process keeps what its worst moment took from the system, and
neighbours make such moments. Exit code 0 says flat: memory grew by at most 5 % after the warm-up, nothing is left of
those who have gone, and nobody saw a failure that does not belong to what it did. Otherwise 1, and the last line says
why. No time is judged, so it may run beside other work. Where the system does not tell a process's open files, they are
not judged.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from itertools import count
from math import nan
from pathlib import Path
from typing import NoReturn

import orjson

from bench import process, servers, table, wire
from bench.servers import Server, SetupError
from bench.soak_calls import TIGHT
from bench.soak_figures import Course, Figures, lines
from bench.soak_run import GRACE, Job, Tally

STRETCHES = (((0.17, 1.0), (0.03, 3.0)), ((0.4, 1.0),), ((0.4, 1.0),))
"""The warm-up and the two halves: parts of all the time, each at that share of the load."""
OPEN_FILES = re.compile(rb"^process_open_fds (\S+)$", re.MULTILINE)
_LOOKS = 1.0  # seconds between two looks under load
_LONGEST, _MOST = 24 * 60, 4  # minutes; times the usual load
_EMPTY_WITHIN = 30.0
_REST = 1.0
PROVIDERS = {
    "fast": "fast",
    "paced": "paced",
    "held": "held",
    "long": "long",
    "steady": "steady/soak",
    "flaky": "flaky/soak",
    "narrow": "narrow/soak",
    "down": "down/soak",
    "hung": "hung/soak",
    "broken": "broken",
}
MODELS = {name: [name] for name in PROVIDERS} | {
    "flaky": ["flaky", "flaky"],
    "down-first": ["down", "fast"],
    "hung-first": ["hung", "fast"],
    "broken-first": ["broken", "fast"],
}
_REST_OF_IT = """
[providers.embedder]
kind = "openai-compatible"
base_url = "http://127.0.0.1:{embedder}/v1"
models = ["bench-embedding"]
[server]
max_body = "1MB"
keep_alive = "5s"
[auth]
required = true
[[auth.keys]]
name = "soak"
sha256 = "{key}"
admin = true
[[auth.keys]]
name = "tight"
sha256 = "{tight}"
requests_per_minute = 60
concurrent_requests = 2
tenant = "tight"
[cache]
max_size = 400
max_bytes = "8MB"
max_entry = "64KB"
[pool]
default_size = 20
max_overflow = 200
checkout_timeout = "500ms"
max_waiting = 50
health_check_interval = "5s"
warmup = 2
[providers.narrow.pool]
default_size = 4
max_overflow = 0
[breaker]
reset_timeout = "1s"
[routing.timeouts]
first_byte = "3s"
between_bytes = "5s"
total = "15s"
[streams]
resumable_for = "5s"
[websocket]
port = 0
resumable_for = "5s"
heartbeat = "10s"
[telemetry]
exporters = ["prometheus", "otlp"]
endpoint = "http://127.0.0.1:{collector}"
sample_ratio = 0.05
[log]
level = "error"
"""


def configuration(provider: int, embedder: int, collector: int) -> str:
    """The gateway's file; the ports of those around it."""
    parts = [
        f'[providers.{name}]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{provider}/{way}/v1"\n'
        for name, way in PROVIDERS.items()
    ]
    for name, targets in MODELS.items():
        names = orjson.dumps([f"{target}/{wire.MODEL}" for target in targets]).decode()
        parts.append(f"[models.{name}]\ntargets = {names}\n")
    keys = {"key": sha256(wire.KEY.encode()).hexdigest(), "tight": sha256(TIGHT.encode()).hexdigest()}
    return "".join(parts) + _REST_OF_IT.format(embedder=embedder, collector=collector, **keys)


def soak(seconds: float, share: float = 1.0) -> Course:
    """Runs it all. Raises SetupError when something does not come up, does not end, or answers nothing."""
    turns = count()
    with _gateway() as server:
        start = _at_rest(server)
        watch = Watch(server, start)
        tallies: list[Tally] = []
        figures: list[Figures] = []
        for stretch in STRETCHES:
            seen = Tally()
            for part, much in stretch:
                job = Job(server.port, seconds * part, next(turns), share * much)
                with watch:
                    seen = seen.plus(Tally.read(servers.finish("bench.soak_load", job, job.seconds + GRACE)))
            tallies.append(seen)
            figures.append(_at_rest(server))
            print(f"soak: {figures[-1].memory:.1f} MB after {seen.total:,} calls more", file=sys.stderr, flush=True)
    warm, middle, end = figures
    return Course(start, warm, middle, end, watch.most, tuple(tallies))


@contextmanager
def _gateway() -> Iterator[Server]:
    port = servers.free_port()
    command = ["bench.soak_provider", "--port", str(port)]
    with (
        servers._child("the faulty provider", port, command, process.load_core()) as upstream,
        servers.embedder() as embedder,
        servers.collector() as collector,
        servers.gateway("runestone", configuration(upstream.port, embedder.port, collector.port)) as gateway,
    ):
        yield gateway


class Watch:
    """Looks at the gateway while it is loaded, from a thread of its own: `with` this."""

    def __init__(self, server: Server, start: Figures) -> None:
        self.most = start
        self._server = server
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._look, name="soak watch", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOKS):
            with suppress(SetupError):
                self.most = self.most.most(look(self._server))


def _at_rest(server: Server) -> Figures:
    """What is there when everybody has gone: once nothing is given back any more, or after `_EMPTY_WITHIN`."""
    until = time.monotonic() + _EMPTY_WITHIN
    found = look(server)
    while time.monotonic() < until:
        time.sleep(_REST)
        before, found = found, look(server)
        busy = any((found.active, found.waiting, found.calls, found.streams, found.sessions, found.rooms, found.held))
        if not busy and not found.left(before) and not before.left(found):
            break
    return found


def look(server: Server) -> Figures:
    """Now. Raises SetupError when the gateway does not answer."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", "/admin/state?calls=1", headers={"Authorization": f"Bearer {wire.KEY}"})
        state = orjson.loads(connection.getresponse().read())
        connection.request("GET", "/metrics")
        files = OPEN_FILES.search(connection.getresponse().read())
        return Figures.of(state, process.resident_megabytes(server.pid), float(files[1]) if files else nan)
    except (OSError, HTTPException, KeyError, ValueError) as error:
        raise server.failure(f"does not tell how it is: {error!r}") from error
    finally:
        connection.close()


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command line."""
    flags = argparse.ArgumentParser(prog="python -m bench soak")
    flags.add_argument("--minutes", type=float, default=10.0, help="of load, the warm-up included; 10 if left out")
    flags.add_argument("--share", type=float, default=1.0, help="of the usual 250 calls a second")
    flags.add_argument("--json", type=Path, metavar="FILE", help="also write all of it there")
    given = flags.parse_args(arguments)
    if not 0 < given.minutes <= _LONGEST or not 0 < given.share <= _MOST:
        flags.error(f"--minutes is more than 0 and at most {_LONGEST}, --share at most {_MOST}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the `with` blocks stop the children
    try:
        course = soak(given.minutes * 60, given.share)
    except SetupError as failure:
        print(f"bench: soak: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    seconds, calls = (sum(getattr(tally, name) for tally in course.tallies) for name in ("seconds", "total"))
    about = f"{given.minutes:g} minutes, {calls / seconds:.0f} calls/s"
    print(f"{process.machine()}\n\n{table.render(lines(course))}\n\n{about}. {course.verdict()}")
    if given.json:
        given.json.write_bytes(orjson.dumps({"course": course, "verdict": course.verdict()}, option=2))
    sys.exit(1 if course.faults() else 0)


if __name__ == "__main__":
    main()
