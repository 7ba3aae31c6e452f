"""Resilience: how long calls take and how many succeed when providers do not do well, with each remedy and without.

    python -m bench.resilience [--quick]

A few scenes (bench/faults.py holds what their providers do), in each of them one gateway for every line of the table,
all at the same time on the server's core, each called at the same fixed rate, far below what it can take. First a
second of warm-up, so that p95 is known and breakers have seen what there is to see; it does not count.

    flaky      1 % slow and 5 % failing answers, each attempt anew: nothing, then one remedy after the other
    overload   calls come 1.4 times as fast as one target can take, after a calm warm-up; more than 1 s is a 504
    dead       the first of two targets never answers, or fails every call

Latency is that of the calls that succeeded. Extra calls are those that arrived at the provider beyond one for each
call of a client, counted there. The provider gives each hundred calls exactly one slow and five failing answers; so
without hedging the 99th percentile is just a slow answer, and not by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection

import orjson

from bench import servers, table, wire
from bench.rate import Outcome, Schedule

_WARM_UP = 1.0
_FIRST_BYTE = "1s"


@dataclass(frozen=True, slots=True)
class Variant:
    """One gateway: what stands behind its model (MODE, or MODE of each target), and what is switched on."""

    what: str
    modes: tuple[str, ...]
    retries: int = 0
    hedge: bool = False
    breaker: bool = False
    adaptive: bool = False
    target: str = ""

    def configuration(self, port: int, ways: list[str]) -> str:
        """The gateway's file; a provider for each of `ways`."""
        providers = "".join(
            f'[providers.p{number}]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:{port}/{way}/v1"\n'
            for number, way in enumerate(ways)
        )
        targets = [f"p{number}/{wire.MODEL}" for number in range(len(ways))]
        hedge = 'hedge = "p95"\n' if self.hedge else ""
        return (
            f'{providers}[models.{wire.MODEL}]\ntargets = {orjson.dumps(targets).decode()}\n[log]\nlevel = "error"\n'
            f'[breaker]\nenabled = {str(self.breaker).lower()}\nreset_timeout = "2s"\n'
            f"[routing]\nretries = {self.retries}\n{hedge}adaptive_concurrency = {str(self.adaptive).lower()}\n"
            f'[routing.timeouts]\nfirst_byte = "{_FIRST_BYTE}"\n'
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """Variants that are called side by side, `rate` calls a second each."""

    name: str
    rate: float
    calm: float
    variants: tuple[Variant, ...]


FLAKY = Scene(
    "1 % slow, 5 % failing",
    rate=150,
    calm=150,
    variants=(
        Variant("nothing", ("flaky",)),
        Variant("retries", ("flaky",), retries=2),
        Variant("+ failover", ("flaky", "flaky"), retries=2),
        Variant("+ hedge p95", ("flaky", "flaky"), retries=2, hedge=True, target="p99 halved, < 10 % more calls"),
        Variant("+ breaker, adaptive", ("flaky", "flaky"), retries=2, hedge=True, breaker=True, adaptive=True),
    ),
)
# Two scenes, because timeouts and new connections are dear: all four at once would be the server's overload as well.
OVERLOAD_ONE = Scene(
    "overload, one target",
    rate=280,
    calm=100,
    variants=(
        Variant("nothing", ("narrow",)),
        Variant("adaptive", ("narrow",), adaptive=True, target="71 %: all it can take"),
    ),
)
OVERLOAD_TWO = Scene(
    "overload, two targets",
    rate=280,
    calm=100,
    variants=(
        Variant("failover", ("narrow", "narrow")),
        Variant("+ adaptive", ("narrow", "narrow"), adaptive=True, target="100 %"),
    ),
)
DEAD = Scene(
    "dead",
    rate=150,
    calm=150,
    variants=(
        Variant("one of two hangs", ("hung", "steady")),
        Variant("one of two hangs, breaker", ("hung", "steady"), breaker=True, target="100 %, no extra calls"),
        Variant("one of two fails", ("down", "steady")),
        Variant("one of two fails, breaker", ("down", "steady"), breaker=True, target="100 %, no extra calls"),
    ),
)


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """What came of one variant. `extra` are calls at the provider beyond the clients', in percent."""

    HEAD = ("what", "p50 ms", "p99 ms", "success %", "extra calls %", "failed", "target")
    LEFT = frozenset({0, 5, 6})

    what: str
    p50: float
    p99: float
    success: float
    extra: float
    failed: dict[str, int]
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        numbers = (f"{self.p50:.1f}", f"{self.p99:.1f}", f"{self.success:.1f}", f"{self.extra:+.1f}")
        return self.what, *numbers, ", ".join(f"{count} x {kind}" for kind, count in self.failed.items()), self.target


def measure(plan: table.Plan) -> Sequence[table.Line]:
    if "runestone" not in plan.contenders:
        return []
    seconds = 4.0 if plan.quick else 8.0
    with servers.provider() as upstream:
        return [line for scene in (FLAKY, OVERLOAD_ONE, OVERLOAD_TWO, DEAD) for line in _play(scene, upstream, seconds)]


def _play(scene: Scene, upstream: servers.Server, seconds: float) -> list[Line]:
    ways = [
        [f"{mode}/{_slug(scene.name)}-{number}-{turn}" for turn, mode in enumerate(variant.modes)]
        for number, variant in enumerate(scene.variants)
    ]
    with ExitStack() as stack:
        urls = []
        for variant, behind in zip(scene.variants, ways, strict=True):
            if len(set(variant.modes)) == 1 and variant.modes[0] == "flaky":
                behind[:] = behind[:1] * len(behind)  # both count their calls together: the share is that of all
            configuration = variant.configuration(upstream.port, behind)
            urls.append(stack.enter_context(servers.gateway(f"runestone ({variant.what})", configuration)).url())
        _drive(Schedule(tuple(urls), scene.calm, _WARM_UP))
        _ask(upstream, "/reset")
        outcomes = _drive(Schedule(tuple(urls), scene.rate, seconds))
        arrived = _ask(upstream, "/stats")
    return [
        _line(scene, variant, outcome, sum(arrived.get(way, 0) for way in set(behind)))
        for variant, behind, outcome in zip(scene.variants, ways, outcomes, strict=True)
    ]


def _line(scene: Scene, variant: Variant, outcome: Outcome, arrived: int) -> Line:
    p50, p99 = table.spread(outcome.latency, "p50"), table.spread(outcome.latency, "p99")
    success, extra = outcome.good / outcome.calls * 100, (arrived / outcome.calls - 1) * 100
    return Line(f"{scene.name}: {variant.what}", p50, p99, success, extra, outcome.failures, variant.target)


def _slug(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum())


def _drive(schedule: Schedule) -> list[Outcome]:
    return Outcome.read(servers.finish("bench.rate", schedule, schedule.seconds + schedule.grace))


def _ask(upstream: servers.Server, path: str) -> dict[str, int]:
    """The provider's counts by MODE/NAME."""
    connection = HTTPConnection("127.0.0.1", upstream.port, timeout=5)
    try:
        connection.request("GET", path)
        counts: dict[str, int] = orjson.loads(connection.getresponse().read())["modes"]
    except OSError as error:
        raise servers.SetupError(f"the fake provider does not answer: {error}") from error
    finally:
        connection.close()
    return counts


if __name__ == "__main__":
    table.run({"resilience": measure})
