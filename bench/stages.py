"""Stages: what the stages of a call cost by themselves, in CPU time, without sockets.

    python -m bench.stages [--quick]

In this process: the chain of gateway/pipeline.py around an end that answers at once, one target, no faults; each line
has a few stages more than the one above. Beside the CPU a call of `json_relay` it says what they cost when idle.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

from bench import table
from runestone.core.breaker import Breaker
from runestone.core.budget import Budget
from runestone.core.call import ANONYMOUS, Call, Operation, Target
from runestone.core.names import Listing, Names
from runestone.core.reply import Reply
from runestone.core.resilience import Resilience
from runestone.core.summary import Summary
from runestone.gateway.continuation import Continue
from runestone.gateway.fallback import Fallback
from runestone.gateway.guard import Guard
from runestone.gateway.hedge import Hedge
from runestone.gateway.meter import Meter
from runestone.gateway.pipeline import Next, Stage, compose
from runestone.gateway.route import Route
from runestone.gateway.targets import Targets, Watched

_TARGET = Target("up", "m")


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """What one chain costs a call."""

    HEAD = ("what", "µs a call", "more than the line above")
    LEFT = frozenset({0})

    what: str
    microseconds: float
    more: float | None

    def cells(self) -> tuple[str, ...]:
        return self.what, f"{self.microseconds:.2f}", "" if self.more is None else f"{self.more:+.2f}"


def measure(plan: table.Plan) -> Sequence[table.Line]:
    if "runestone" not in plan.contenders:
        return []
    calls, rounds = (5_000, 5) if plan.quick else (20_000, 9)
    chains = _chains()
    costs: dict[str, list[float]] = {name: [] for name in chains}
    for _ in range(rounds):
        for name, chain in chains.items():
            costs[name].append(asyncio.run(_cost(chain, calls)))
    lines: list[Line] = []
    for name in chains:
        before = lines[-1].microseconds if lines else None
        cost = median(costs[name])
        lines.append(Line(name, cost, None if before is None else cost - before))
    return lines


def _chains() -> dict[str, Next]:
    targets = Targets((), ("up",), lambda target: Watched(target, Breaker(), None))
    budget = Budget()

    def count(what: str) -> None:
        """Nothing is counted here."""

    def route(resilience: Resilience) -> Route:
        return Route(
            Names({}, {}, [Listing("up", ("m",))]),
            ways={},
            resilience=resilience,
            candidate=lambda target: (_ for _ in ()).throw(AssertionError("nobody steers here")),
            chance=random.random,
        )

    plain: list[Stage] = [Meter(()), route(Resilience())]
    walk: list[Stage] = [Fallback(retries=2, budget=budget, chance=random.random, count=count), Guard(targets)]
    cared: list[Stage] = [Meter(()), route(Resilience(hedge=5.0, continues=True))]
    help_: list[Stage] = [Continue(budget=budget, count=count), Hedge(targets, budget=budget, count=count)]
    return {
        "meter, route": compose(plain, _answer),
        "+ fallback, guard": compose([*plain, *walk], _answer),
        "+ continue, hedge (off unless asked for)": compose([*cared, *help_, *walk], _answer),
    }


async def _answer(call: Call) -> Reply:
    return Reply(200, [], Summary(), body=b"{}")


async def _cost(chain: Next, calls: int) -> float:
    """Microseconds of CPU time a call."""
    before = process_time()
    for _ in range(calls):
        call = Call("id", Operation.CHAT, b"{}", {}, "m", False, ANONYMOUS, {}, None, perf_counter())
        call.target = _TARGET
        reply = await chain(call)
        reply.close()
    return (process_time() - before) / calls * 1e6


if __name__ == "__main__":
    table.run({"stages": measure})
