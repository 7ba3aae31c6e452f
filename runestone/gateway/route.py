"""Which targets may answer a call, in which order.

Rule: decides only; nothing is sent here. A model with one target and no steering costs a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import orjson

from runestone.core.call import Call, Target
from runestone.core.names import Names
from runestone.core.reply import Reply
from runestone.core.resilience import Resilience
from runestone.core.steer import Steering, emptied_by, read, select, without
from runestone.core.strategy import Candidate, Order
from runestone.errors import BadRequest
from runestone.gateway.pipeline import Next


@dataclass(frozen=True, slots=True)
class Way:
    """How a model of the configuration is routed: the order of its targets, and what is done when they do badly."""

    order: Order
    resilience: Resilience


class Route:
    """The stage. `ways` by the names of [models], `resilience` for models without one; `candidate` describes a
    target.
    """

    def __init__(
        self,
        names: Names,
        *,
        ways: Mapping[str | None, Way],
        resilience: Resilience,
        candidate: Callable[[Target], Candidate],
        chance: Callable[[], float],
    ) -> None:
        self._names = names
        self._ways = ways
        self._resilience = resilience
        self._candidate = candidate
        self._chance = chance

    async def __call__(self, call: Call, next: Next) -> Reply:  # noqa: A002
        call.watched()  # copies are made from here on, and share it
        targets = self._names.resolve(call.model)
        way = self._ways.get(self._names.model(call.model))
        if way is not None:
            call.resilience = way.resilience
            call.targets = way.order.plan(perf_counter(), self._chance)
        else:
            call.resilience = self._resilience
            call.targets = targets
        steering = read(call.fields)
        if steering is not None:
            self._steer(call, steering, way)
        return await next(call)

    def _steer(self, call: Call, steering: Steering, way: Way | None) -> None:
        candidates = way.order.candidates if way is not None else tuple(map(self._candidate, call.targets))
        left = {candidate.target for candidate in select(steering, candidates)}
        if not left:
            field = emptied_by(steering, candidates)
            raise BadRequest(f"no target of this model is left by {field!r}", param=field)
        call.targets = tuple(target for target in call.targets if target in left)
        call.fields = without(call.fields)
        call.body = orjson.dumps(call.fields)
