"""Traffic: how many calls the cache and collapsing save, for traffic that repeats itself in a known way.

    python -m bench.traffic [--quick]

A rate without its profile says nothing: real traces repeat 1 to 5 % of their prompts exactly, a help desk's far more.
Each profile is a fixed list of chats, sent by 40 callers at once to a provider that takes about 20 ms:

    no repetition   every chat is another one
    trace           3 in 100 repeat one of the last thousand, as exact repetition was seen in public traces
    agent loop      40 agents, each chat one turn longer than the last; 1 step in 20 is sent again, as retries are, and
                    agents of one kind begin with the same first step
    Zipf            from 1,000 chats, the n-th most wanted asked for 1/n as often as the first
    FAQ             8 in 10 from 50 questions, the others new
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import orjson

from bench import servers, table, wire
from bench.asking import ask

_CALLERS = 40
_GATEWAY = """[providers.bench]
kind = "openai-compatible"
base_url = "http://127.0.0.1:{port}/steady/{name}/v1"
models = ["bench-model"]
[log]
level = "error"
"""

Chats = list[list[str]]
"""The turns of each chat, in the order they are sent."""


@dataclass(frozen=True, slots=True)
class Line(table.Line):
    """What one profile's traffic cost. Shares in percent of the calls."""

    HEAD = ("profile", "calls", "hits %", "collapsed %", "to the provider %", "p50 ms")
    LEFT = frozenset({0})

    profile: str
    calls: int
    hits: float
    collapsed: float
    sent: float
    p50: float

    def cells(self) -> tuple[str, ...]:
        shares = (f"{share:.1f}" for share in (self.hits, self.collapsed, self.sent))
        return self.profile, f"{self.calls:,}", *shares, f"{self.p50:.1f}"


def measure(plan: table.Plan) -> Sequence[table.Line]:
    if "runestone" not in plan.contenders:
        return []
    count = 1_000 if plan.quick else 4_000
    lines = []
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.provider())
        for name, make in PROFILES.items():
            slug = "".join(filter(str.isalnum, name))
            toml = _GATEWAY.format(port=upstream.port, name=slug)
            gateway = stack.enter_context(servers.gateway(f"runestone ({name})", toml))
            chats = make(count, random.Random(4003))
            bodies = [_body(chat) for chat in chats]
            seen = ask(gateway, wire.CHAT_PATH, [bodies[caller::_CALLERS] for caller in range(_CALLERS)])
            hits = sum("hit" in status for status in seen.cached) / seen.calls * 100
            collapsed = sum("collapsed" in status for status in seen.cached) / seen.calls * 100
            lines.append(Line(name, seen.calls, hits, collapsed, 100 - hits - collapsed, seen.quantile(0.5)))
    return lines


def _none(count: int, chance: random.Random) -> Chats:
    return [[f"question {number}"] for number in range(count)]


def _trace(count: int, chance: random.Random) -> Chats:
    chats: Chats = []
    for number in range(count):
        again = chats and chance.random() < 0.03
        chats.append(chance.choice(chats[-1000:]) if again else [f"question {number}"])
    return chats


def _agents(count: int, chance: random.Random) -> Chats:
    agents: Chats = [[f"task of kind {agent % 8}"] for agent in range(_CALLERS)]
    chats: Chats = []
    while len(chats) < count:
        for number, agent in enumerate(agents):  # caller and agent are one: chats[caller::_CALLERS] are its own
            chats.append(list(agent))
            if chance.random() >= 0.05:
                agent.append(f"observation {len(agent)} of agent {number}")
    return chats[:count]


def _zipf(count: int, chance: random.Random) -> Chats:
    weights = [1 / (rank + 1) for rank in range(1_000)]
    return [[f"question {number}"] for number in chance.choices(range(1_000), weights, k=count)]


def _faq(count: int, chance: random.Random) -> Chats:
    return [
        [f"usual question {chance.randrange(50)}" if chance.random() < 0.8 else f"new question {number}"]
        for number in range(count)
    ]


PROFILES: dict[str, Callable[[int, random.Random], Chats]] = {
    "no repetition": _none,
    "trace": _trace,
    "agent loop": _agents,
    "Zipf": _zipf,
    "FAQ": _faq,
}


def _body(chat: list[str]) -> bytes:
    messages = [{"role": "assistant" if turn % 2 else "user", "content": text} for turn, text in enumerate(chat)]
    return orjson.dumps({"model": wire.MODEL, "messages": messages})


if __name__ == "__main__":
    table.run({"traffic": measure})
