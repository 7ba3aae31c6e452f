"""Many at once: 10,000 WebSockets, 1,000 streams over WebSockets, 8,000 SSE streams, in one process on one core.

    python -m bench.websocket [--quick]

WebSockets: so many held by one load generator; what one costs the server in resident memory (above what it had with the
first one served), then 2,000 pings a second over all of them at a fixed rate.
Streams: 10 on each connection, 50 events a second each, for some numbers of streams; an event's age on arrival, from
the stamp the provider gave it. Where the server's core is full, or "events/s" is less than offered, ages only say for
how long that went on; "apart" are streams that did not run beside all others, for that the machine was too busy.
Runestone sends text that came in one read as one message; bare sends one for each event.
SSE held: so many streams over HTTP that say a word every two seconds; alive are those that did so in the last 2.5.

With --quick, half as many WebSockets and SSE streams. The limit of open files is raised as far as the system allows;
what does not fit is not held, and the name says so.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import servers, table, wire
from bench.servers import Server, SetupError
from bench.socket_run import GRACE, OPENS_WITHIN, Job, Outcome

_SOCKETS = 10_000
_MESSAGES = 2_000  # a second
_STREAMS_EACH = 10  # on a connection
_HELD = 8_000
_SPARE = 256  # files for everything else
_DISTURBED = 5.0  # percent of the time in which the server wanted its core and did not have it
_LIMITS = """
max_connections = 20000
[pool]
max_overflow = 20000
max_waiting = 20000
"""

Outcomes = dict[str, list[Outcome]]


def measure(plan: table.Plan) -> Sequence[table.Row]:
    files = _raise_file_limit(max(_SOCKETS, 2 * _HELD) + _SPARE) - _SPARE
    share = 2 if plan.quick else 1
    rows = _sockets(plan, min(_SOCKETS // share, files))
    for count in (300, 1_000) if plan.quick else (300, 500, 1_000):
        rows += _streams(plan, count)
    return rows + _held(plan, min(_HELD // share, files // 2))


def _sockets(plan: table.Plan, count: int) -> list[table.Row]:
    job = Job("messages", count, seconds=3.0 if plan.quick else 6.0, rate=_MESSAGES)
    found = _anew(plan, "fast", "/ws", job, rounds=1 if plan.quick else 2)
    _sound(found)
    held, used = f"{count:,} WebSockets", f"{count:,} WebSockets, {_MESSAGES:,} pings/s"
    late = max(one.late.p99 for runs in found.values() for one in runs if one.late)
    return [
        _row(f"{held}: memory of one", "KB", found, lambda one: one.kilobytes, 1, "<= 25 KB"),
        _row(f"{held}: the same after the pings", "KB", found, lambda one: one.kilobytes_used, 1),
        _row(f"{used}: p50", "ms", found, _quantile("p50"), 2, "< 5 ms"),
        _row(f"{used}: p99", "ms", found, _quantile("p99"), 2, f"< 30 ms (their schedule's p99: {late:.2f} late)"),
        _row(f"{used}: CPU a ping", "µs", found, _cost, 1),
        _busy(used, found),
    ]


def _streams(plan: table.Plan, count: int) -> list[table.Row]:
    job = Job("streams", count // _STREAMS_EACH, 2.0 if plan.quick else 3.0, streams=_STREAMS_EACH)
    found = _anew(plan, "paced", "/ws", job, rounds=1 if plan.quick else 2)
    _sound(found)
    what = f"{count:,} streams over {count // _STREAMS_EACH} WebSockets"
    apart = " / ".join(str(max(one.apart for one in runs)) for runs in found.values())
    unfinished = " / ".join(str(count - min(one.whole for one in runs)) for runs in found.values())
    offered = f"({count * wire.EVENTS_A_SECOND:,} offered; apart {apart}; unfinished after {GRACE:.0f} s {unfinished})"
    return [
        _row(f"{what}: events", "events/s", found, lambda one: one.result.rate, target=offered),
        _row(f"{what}: CPU an event", "µs", found, _cost, 1),
        _row(f"{what}: event age p50", "ms", found, _quantile("p50"), 2, _added(found, "p50", "2 ms")),
        _row(f"{what}: event age p99", "ms", found, _quantile("p99"), 2, _added(found, "p99", "20 ms")),
        _busy(what, found),
    ]


def _held(plan: table.Plan, count: int) -> list[table.Row]:
    job = Job("held", count, seconds=1.0 if plan.quick else 6.0)
    found = _anew(plan, "held", "/v1/chat/completions", job, rounds=1)
    for name, runs in found.items():
        for one in runs:
            if one.result.faults:
                print(f"bench: websocket: {name}: {one.result.first_fault}", file=sys.stderr)
    what = f"{count:,} SSE streams held"
    return [
        _row(f"{what}: alive at the end", "", found, lambda one: one.whole, target="all"),
        _row(f"{what}: faults", "", found, lambda one: one.result.faults, target="0"),
        _row(f"{what}: memory of one", "KB", found, lambda one: one.kilobytes_used, 1),
        _row(f"{what}: event age p99", "ms", found, _quantile("p99"), 2),
        _row(f"{what}: CPU an event", "µs", found, _cost, 1),
        _busy(what, found),
    ]


def _anew(plan: table.Plan, mode: str, path: str, job: Job, rounds: int) -> Outcomes:
    """In turns, each run with a server started for it: what another run left in its memory would be counted too.

    As in contest.py, a run is repeated when others took its core; once, and not when it shall be quick.
    """
    found: Outcomes = {name: [] for name in plan.contenders}
    spare = 0 if plan.quick else 1
    with servers.provider() as upstream:
        for number in range(rounds):
            for name in plan.contenders if number % 2 == 0 else reversed(plan.contenders):
                one = _once(name, upstream, mode, path, job)
                if spare and one.result.taken > _DISTURBED:
                    spare -= 1
                    one = min(one, _once(name, upstream, mode, path, job), key=lambda run: run.result.taken)
                found[name].append(one)
    return found


def _once(name: str, upstream: Server, mode: str, path: str, job: Job) -> Outcome:
    with _contender(name, upstream, mode) as server:
        servers.first_answer(server)
        url = f"http://127.0.0.1:{server.port}{path}"
        ready = replace(job, url=url, watch=server.pid, provider=upstream.pid)
        within = OPENS_WITHIN + job.warm_up + job.seconds + 2 * GRACE
        return Outcome.read(servers.finish("bench.socket_load", ready, within))


def _contender(name: str, upstream: Server, mode: str) -> servers.Standing:
    if name == "bare":
        return servers.bare(upstream, mode)
    template = (Path(__file__).parent / "runestone.toml").read_text()
    limits = template.replace("[websocket]\nport = 0\n", f"[websocket]\nport = 0{_LIMITS}")
    return servers.gateway(name, limits.replace("BASE_URL", f"http://127.0.0.1:{upstream.port}/{mode}/v1"))


def _raise_file_limit(wanted: int) -> int:
    """For this process and those it starts, as far as the system allows. How many files each of them may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    boundless = hard == resource.RLIM_INFINITY
    for ceiling in (hard if boundless else max(wanted, hard), hard):
        most = wanted if boundless else min(wanted, ceiling)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), ceiling))
            break
    now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if now != soft or now < wanted:
        enough = "enough" if now >= wanted else f"{wanted:,} would be needed to hold all"
        print(f"websocket: a process may open {now:,} files ({soft:,} before): {enough}", file=sys.stderr)
    return now


def _sound(found: Outcomes) -> None:
    """Raises SetupError for a run with a fault, or without a single answer."""
    for name, runs in found.items():
        for result in (one.result for one in runs):
            if result.faults or not result.units:
                raise SetupError(f"{name}: {result.faults} faults, {result.units} answers: {result.first_fault}")


def _row(
    what: str, unit: str, found: Outcomes, of: Callable[[Outcome], float], places: int = 0, target: str = ""
) -> table.Row:
    return table.row(
        what, unit, {name: list(map(of, runs)) for name, runs in found.items()}, places=places, target=target
    )


def _quantile(name: str) -> Callable[[Outcome], float]:
    return lambda one: table.spread(one.result.latency, name)


def _cost(one: Outcome) -> float:
    return one.result.cpu_microseconds


def _busy(what: str, found: Outcomes) -> table.Row:
    """How busy the server's core was; beside it that of the load and the provider, and what neighbours took."""
    load = " / ".join(f"{median(one.load_busy for one in runs):.0f}" for runs in found.values())
    taken = table.others({name: [one.result for one in runs] for name, runs in found.items()})
    shares = _row(f"{what}: server core busy", "%", found, lambda one: one.result.busy)
    return replace(shares, ratio=None, target=f"(the load's {load} %; {taken})")


def _added(found: Outcomes, quantile: str, wanted: str) -> str:
    """How much older events are than through bare."""
    age = _quantile(quantile)
    pairs = zip(found.get("bare", []), found.get("runestone", []), strict=False)
    added = [age(gateway) - age(yardstick) for yardstick, gateway in pairs]
    return f"added: < {wanted}" + (f" (is {median(added):+.2f})" if added else "")


if __name__ == "__main__":
    table.run({"websocket": measure})
