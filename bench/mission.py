"""The mission's headline numbers, each beside what this run measured.

    python -m bench mission [--full] [--json FILE]

Measured by the functions of the other measurements, with Runestone alone: `python -m bench NAME` prints the same beside
bare, with more rounds. About a minute; with --full 10,000 WebSockets instead of 2,000, and the whole times.

    cache hit     one connection, load and server on one core (cache.py)
    WebSocket     pings over all of the connections held, 2,000 a second (websocket.py)
    batch of 10   POST /v1/batch with ten chat calls, by default five at a time, to a provider of 100 ms; no cache
    pipeline      all stages at work at 1,000 calls/s, by the gateway's own histogram (overhead.py)
    calls/s       32 connections in a closed loop, one core (json_relay.py)
    reuse         JSON calls and streams, cold start included: connections that the provider saw, for each call
    memory, start from spawning the process to its first answer (footprint.py)
    idle          CPU time over ten seconds, in percent of one core: nothing connected; and 1,000 idle WebSockets, each
                  with a heartbeat in that time (by default it is every 30 s), and one ping a second over all of them

Rule: as everywhere here a slow result is no failure: exit code 1 says that something could not be measured. Where
neighbours took the server's core ("others took"), a time that does not hold says nothing: repeat it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import NoReturn

import orjson

from bench import contest, footprint, json_relay, overhead, process, servers, table, websocket, wire
from bench.asking import ask
from bench.run import Run
from bench.servers import Server, SetupError
from bench.socket_run import GRACE, OPENS_WITHIN, Job, Outcome

_MANY, _FEWER, _IDLE = 10_000, 2_000, 1_000
_PINGS = 2_000  # a second
_SPARE = 256  # files for everything else
_TEMPLATE = (Path(__file__).parent / "runestone.toml").read_text()


@dataclass(frozen=True, slots=True)
class Headline(table.Line):
    """One number. `wanted` is the most it may be, or with `at_least` the least; `how` says what else there is to know.
    Where only a part was tried, it neither holds nor fails.
    """

    HEAD = ("headline", "mission", "measured", "holds", "printed by", "")
    LEFT = frozenset({0, 1, 3, 4, 5})

    what: str
    unit: str
    wanted: float
    measured: float
    command: str
    how: str = ""
    places: int = 0
    at_least: bool = False
    tried: bool = True

    @property
    def holds(self) -> bool | None:
        """None where it was not tried."""
        if not self.tried:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def cells(self) -> tuple[str, ...]:
        wanted = f"{'>=' if self.at_least else '<'} {self.wanted:,g} {self.unit}".rstrip()
        measured = f"{self.measured:,.{self.places}f} {self.unit}".rstrip()
        holds = {True: "yes", False: "NO", None: "not tried"}[self.holds]
        return self.what, wanted, measured, holds, f"python -m bench {self.command}", self.how


def _cache(plan: table.Plan) -> list[Headline]:
    run = Run(url="", connections=1, seconds=1.0)
    with servers.provider() as upstream, servers.gateway("runestone", _toml(upstream, cached=True)) as gateway:
        results = contest.alternate({"runestone": gateway}, run, 3 if plan.quick else 5, process.server_core())
    found = {name: median(table.spread(one.latency, name) for one in results["runestone"]) for name in ("p50", "p99")}
    how = "one connection"
    return [Headline(f"cache hit, {name}", "ms", 1, value, "cache", how, places=3) for name, value in found.items()]


def _websockets(plan: table.Plan) -> list[Headline]:
    count = min(_FEWER if plan.quick else _MANY, websocket._raise_file_limit(_MANY + _SPARE) - _SPARE)
    one = _held(count, Job("messages", count, seconds=3.0 if plan.quick else 6.0, rate=_PINGS), _toml)
    pings = one.result.latency
    how = f"{one.opened:,} connections, {_PINGS:,} pings/s (others took {one.result.taken:.0f} %)"
    held = f"{one.kilobytes:.1f} KB of memory each" + ("; --full tries them all" if plan.quick else "")
    return [
        Headline("WebSocket message, p50", "ms", 10, table.spread(pings, "p50"), "websocket", how, places=2),
        Headline("WebSocket message, p99", "ms", 10, table.spread(pings, "p99"), "websocket", how, places=2),
        Headline("connections held", "", _MANY, one.opened, "websocket", held, at_least=True, tried=not plan.quick),
    ]


def _batch(plan: table.Plan) -> list[Headline]:
    with servers.provider() as upstream, servers.gateway("runestone", _toml(upstream, "narrow/mission")) as gateway:
        seen = ask(gateway, "/v1/batch", [[_ten(number) for number in range(10 if plan.quick else 40)]])
    how = f"a provider of about 100 ms; p50 {seen.quantile(0.5):.0f} ms"
    return [Headline("batch of 10, slowest", "ms", 1_000, seen.quantile(1.0), "mission", how)]


def _ten(number: int) -> bytes:
    body = orjson.loads(wire.chat_body(stream=False))
    return orjson.dumps({"requests": [{"body": {**body, "seed": 10 * number + place}} for place in range(10)]})


def _pipeline(plan: table.Plan) -> list[Headline]:
    p50, p99, *_ = overhead._pipeline(4.0 if plan.quick else 10.0)
    return [Headline("pipeline, p99", "ms", 5, p99.value, "overhead", f"p50 {p50.value:.2f} ms", places=2)]


def _calls(plan: table.Plan) -> list[Headline]:
    rate, cost, _, busy = json_relay.measure(plan)
    how = f"one core, JSON; {cost.runestone:,.0f} µs of CPU each {busy.target}"
    return [
        Headline("calls a second, one process", "/s", 1_000, rate.runestone or 0.0, "json_relay", how, at_least=True)
    ]


def _reuse(plan: table.Plan) -> list[Headline]:
    run = Run(url="", connections=32, seconds=1.0 if plan.quick else 3.0)
    with servers.provider() as upstream, servers.gateway("runestone", _toml(upstream)) as gateway:
        before = _connections(upstream)
        for stream in (False, True):
            result = servers.drive(Run(gateway.url(), run.connections, run.seconds, stream=stream))
            if result.faults:
                raise SetupError(f"runestone: {result.faults} faults: {result.first_fault}")
        connections, calls = (after - one for after, one in zip(_connections(upstream), before, strict=True))
    how = f"{connections:,} connections for {calls:,} calls"
    return [Headline("connections reused", "%", 95, (1 - connections / calls) * 100, "mission", how, 2, at_least=True)]


def _connections(upstream: Server) -> tuple[int, int]:
    """Connections the provider has seen, and calls."""
    connection = HTTPConnection("127.0.0.1", upstream.port, timeout=5)
    try:
        connection.request("GET", "/stats")
        numbers = orjson.loads(connection.getresponse().read())
    except OSError as error:
        raise SetupError(f"the fake provider does not answer: {error}") from error
    finally:
        connection.close()
    return numbers["connections"], numbers["requests"]


def _footprint(plan: table.Plan) -> list[Headline]:
    memory, start = (row.runestone or 0.0 for row in footprint.measure(plan))
    return [
        Headline("memory at rest", "MB", 100, memory, "footprint", "the mission allows 100 to 200 MB", 1),
        Headline("start to first answer", "s", 1.5, start, "footprint", "", 2),
    ]


def _idle(plan: table.Plan) -> list[Headline]:
    """Both at the same time, each in a process of its own: there is room for two that do nothing."""
    websocket._raise_file_limit(_IDLE + _SPARE)
    job = Job("messages", _IDLE, seconds=10.0, rate=1)
    with servers.provider() as upstream, servers.gateway("runestone", _toml(upstream)) as still:
        servers.first_answer(still)
        time.sleep(1.0)
        before, began = process.cpu_seconds(still.pid), time.monotonic()
        one = _held(_IDLE, job, lambda upstream: _toml(upstream).replace("port = 0", 'port = 0\nheartbeat = "10s"'))
        share = (process.cpu_seconds(still.pid) - before) / (time.monotonic() - began) * 100
    return [
        Headline("CPU idle", "%", 10, share, "mission", "nothing connected; of one core", 2),
        Headline(f"CPU idle, {_IDLE:,} WebSockets", "%", 10, one.result.busy, "mission", "each with a heartbeat", 2),
    ]


def _held(count: int, job: Job, toml: Callable[[Server], str]) -> Outcome:
    """The load of websocket.py on a gateway of its own. Raises SetupError for a fault."""
    with servers.provider() as upstream, servers.gateway("runestone", toml(upstream)) as gateway:
        servers.first_answer(gateway)
        url = f"http://127.0.0.1:{gateway.port}/ws"
        ready = Job(job.kind, count, job.seconds, url, rate=job.rate, watch=gateway.pid, provider=upstream.pid)
        within = OPENS_WITHIN + job.warm_up + job.seconds + 2 * GRACE
        one = Outcome.read(servers.finish("bench.socket_load", ready, within))
    if one.result.faults or not one.result.units:
        raise SetupError(f"runestone: {one.result.faults} faults: {one.result.first_fault}")
    return one


def _toml(upstream: Server, mode: str = "fast", *, cached: bool = False) -> str:
    text = _TEMPLATE.replace("BASE_URL", f"http://127.0.0.1:{upstream.port}/{mode}/v1")
    text = text.replace("port = 0", f"port = 0\nmax_connections = {2 * _MANY}")
    return text.replace("enabled = false", "enabled = true") if cached else text


PARTS: tuple[Callable[[table.Plan], list[Headline]], ...] = (
    _cache,
    _websockets,
    _batch,
    _pipeline,
    _calls,
    _reuse,
    _footprint,
    _idle,
)


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command line."""
    flags = argparse.ArgumentParser(prog="python -m bench mission")
    flags.add_argument("--full", action="store_true", help="10,000 WebSockets, longer times: twice as long")
    flags.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    given = flags.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the `with` blocks stop the children
    rows: list[Headline] = []
    failed = 0
    plan = table.Plan(quick=not given.full, contenders=("runestone",))
    for part in PARTS:
        print(f"measuring {part.__name__.strip('_')} ...", file=sys.stderr, flush=True)
        try:
            rows += part(plan)
        except SetupError as failure:
            print(f"bench: mission: {failure}", file=sys.stderr)
            failed = 1
        except KeyboardInterrupt:
            sys.exit(130)
    print(f"{process.machine()}\n\n{table.render(rows)}")
    if given.json:
        told = [{**asdict(row), "holds": row.holds} for row in rows]
        given.json.write_bytes(orjson.dumps({"machine": process.machine(), "rows": told}, option=2))
    sys.exit(failed)


if __name__ == "__main__":
    main()
