"""The load generator of the soak: visitors of every kind, so many a second, each doing what its kind does.

    python -m bench.soak_load --run '{"port": 4003, "seconds": 10}'

Prints one JSON object (`Tally`). The gateway has to be that of soak.py: its models, its keys.

Rule: visits begin when they are due, whatever became of those before, so that a slow gateway is not given less to do;
with too many under way one does not begin, and is counted. Which comes next, and what it does, is the same in every
run (`random` with a seed); bounded in time, each visit too; loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
from collections.abc import Awaitable, Callable
from itertools import accumulate, count
from time import perf_counter

import orjson
import uvloop

from bench import soak_calls, soak_rude, soak_sockets
from bench.frames import BadFrameError
from bench.reader import BadReplyError
from bench.soak_calls import Visit
from bench.soak_client import Client, Wrong
from bench.soak_run import GRACE, Job, Tally

_AT_ONCE = 600
_DEADLINE = GRACE - 5.0
_A_TURN = 10_000_000  # numbers of questions
KINDS: dict[str, tuple[float, Callable[[Visit], Awaitable[None]]]] = {
    "asked anew": (50, soak_calls.anew),
    "asked again": (60, soak_calls.again),
    "asked by five at once": (4, soak_calls.together),
    "failing targets": (15, soak_calls.failing),
    "limited key": (4, soak_calls.limited),
    "embeddings": (20, soak_calls.embeddings),
    "batch of ten": (1, soak_calls.batch),
    "SSE": (12, soak_calls.streamed),
    "SSE, broken": (5, soak_calls.broken),
    "SSE, slow reader": (2, soak_calls.slow),
    "SSE, resumable": (3, soak_calls.resumed),
    "WebSocket": (2, soak_sockets.talked),
    "WebSocket, rooms": (0.5, soak_sockets.shared),
    "left": (15, soak_rude.left),
    "wrong": (12, soak_rude.wrong),
    "looking": (2, soak_calls.looking),
}
"""What there is, and how many visits of it a second begin."""


class Load:
    """One stretch."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._client = Client(job.port)
        self._chance = random.Random(4003 + job.turn)
        self._numbers = count(job.turn * _A_TURN + 1000)
        self._tally = Tally()
        self._visits: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []  # our own: what was measured means nothing

    async def run(self) -> Tally:
        job, start = self._job, perf_counter()
        names = list(KINDS)
        shares = list(accumulate(rate for rate, _ in KINDS.values()))
        rate = shares[-1] * job.share
        for number in range(round(rate * job.seconds)):
            if (wait := start + number / rate - perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._tally.late = max(self._tally.late, perf_counter() - start - number / rate)
            kind = self._chance.choices(names, cum_weights=shares)[0]
            if len(self._visits) >= _AT_ONCE:
                self._tally.skipped += 1
                continue
            visit = asyncio.create_task(self._visit(kind))
            self._visits.add(visit)
            visit.add_done_callback(self._over)
        self._tally.seconds = perf_counter() - start
        while self._visits:
            await asyncio.wait(self._visits)
        self._client.close()
        if self._faults:
            raise self._faults[0]
        return self._tally

    def _over(self, visit: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        if (fault := visit.exception()) is not None:
            self._faults.append(fault)

    async def _visit(self, kind: str) -> None:
        visit = Visit(kind, self._client, random.Random(self._chance.random()), self._numbers, self._tally)
        try:
            async with asyncio.timeout(_DEADLINE):
                await KINDS[kind][1](visit)
        except Wrong as wrong:
            self._wrong(kind, str(wrong))
        except TimeoutError:
            self._wrong(kind, f"not over after {_DEADLINE:.0f} s")
        except (OSError, EOFError, ValueError, KeyError, BadReplyError, BadFrameError) as error:
            self._wrong(kind, f"{type(error).__name__}: {error}")

    def _wrong(self, kind: str, what: str) -> None:
        self._tally.failed(kind, what[:300], expected=False)


async def perform(job: Job) -> Tally:
    """Ends by itself, at most GRACE seconds after the last visit began."""
    load = Load(job)
    return await load.run()


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m bench.soak_load")
    flags.add_argument("--run", required=True, help="a Job as JSON")
    job = Job(**orjson.loads(flags.parse_args().run))
    gc.freeze()
    print(orjson.dumps(uvloop.run(perform(job))).decode())


if __name__ == "__main__":
    main()
