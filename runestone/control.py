"""What operators see of providers and targets, and what they may do to them.

Rule: reads and switches; decides nothing by itself. Credentials are shown by their place in the configuration, never
by value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter

from runestone.core.breaker import State
from runestone.core.buckets import Buckets
from runestone.core.json import JsonObject
from runestone.core.upstream import Upstream
from runestone.errors import BadRequest, NotFound
from runestone.gateway.targets import ANY, Targets, Watched
from runestone.providers.http import HttpProvider

Sample = tuple[str, dict[str, str], float | Buckets]
"""A metric's name, its labels, its value."""

_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class Control:
    """The upstreams by name, and the state of every target."""

    def __init__(self, upstreams: Mapping[str, Upstream], targets: Targets) -> None:
        self._upstreams = upstreams
        self._targets = targets

    def __len__(self) -> int:
        return len(self._upstreams)

    def providers(self) -> JsonObject:
        """Every pool, credential, breaker, limit and score."""
        return {name: self._describe(name, upstream) for name, upstream in self._upstreams.items()}

    def act(self, name: str, verb: str) -> JsonObject:
        """Drains (finishes what runs, takes nothing new), resumes, or resets a provider. Raises NotFound,
        BadRequest.
        """
        upstream = self._upstreams.get(name)
        if upstream is None:
            raise NotFound(f"no provider {name[:100]!r} is configured")
        if not isinstance(upstream, HttpProvider):
            raise BadRequest(f"the provider {name!r} has no connections to {verb}")
        if verb == "reset":
            upstream.credentials.reset()
            for watched in self._targets.of_provider(name):
                if watched.breaker is not None:
                    watched.breaker.reset(perf_counter())
        upstream.draining = verb == "drain"
        return self._describe(name, upstream)

    def unable(self) -> dict[str, str]:
        """The providers that can take no call now, and why, in words."""
        now = perf_counter()
        told = {name: self._why_not(name, upstream, now) for name, upstream in self._upstreams.items()}
        return {name: why for name, why in told.items() if why}

    def problems(self) -> Iterator[str]:
        """What is wrong with single targets and credentials, in words; the provider may serve all the same."""
        now = perf_counter()
        for watched in self._targets:
            rests = _rest(watched, now)
            if rests:
                yield f"{watched.target} has failed too often and rests for {rests:.0f} s"
            elif watched.health.has_failed_check(now):
                yield f"{watched.target.provider} does not answer its health check"
        for name, upstream in self._upstreams.items():
            if isinstance(upstream, HttpProvider):
                for credential in upstream.credentials.all:
                    if credential.rests_until > now:
                        rest = credential.rests_until - now
                        yield f"credential {credential.index} of {name} was {credential.reason}: rests for {rest:.0f} s"
                if upstream.pool.waiting:
                    yield f"{upstream.pool.waiting} calls wait for a connection to {name}"

    def _why_not(self, name: str, upstream: Upstream, now: float) -> str:
        if isinstance(upstream, HttpProvider):
            if upstream.draining:
                return f"{name} is drained by an operator"
            if upstream.credentials.all and not upstream.credentials.has_other(now):
                return f"every credential of {name} rests"
        targets = list(self._targets.of_provider(name))
        # The state that unlisted models share says nothing while all calls go to listed ones.
        asked = [watched for watched in targets if watched.target.model != ANY or watched.health.is_known]
        rests = [_rest(watched, now) for watched in asked or targets]
        if all(rests):
            return f"every target of {name} has failed too often; the next try is in {min(rests):.0f} s"
        return ""

    def checked(self, provider: str, is_well: bool) -> None:
        """An active health check has answered."""
        for watched in self._targets.of_provider(provider):
            watched.health.checked(perf_counter(), is_well)

    def samples(self) -> Iterator[Sample]:
        """The gauges and counters of pools and breakers, for whoever scrapes."""
        for name, upstream in self._upstreams.items():
            if isinstance(upstream, HttpProvider):
                pool = upstream.pool
                for state, value in (("active", pool.active), ("idle", pool.idle), ("waiting", pool.waiting)):
                    yield "pool_connections", {"provider": name, "state": state}, value
                yield "pool_capacity", {"provider": name}, pool.capacity
                yield "pool_wait_seconds", {"provider": name}, pool.waits
                yield "pool_refused_total", {"provider": name}, pool.tally.refused
                yield "pool_acquired_total", {"provider": name, "reused": "true"}, pool.tally.reused
                yield "pool_acquired_total", {"provider": name, "reused": "false"}, pool.tally.fresh
        for watched in self._targets:
            if watched.breaker is not None:
                yield "breaker_state", {"target": str(watched.target)}, _STATES[watched.breaker.state]

    def _describe(self, name: str, upstream: Upstream) -> JsonObject:
        described: JsonObject = {"targets": [_target(watched) for watched in self._targets.of_provider(name)]}
        if isinstance(upstream, HttpProvider):
            pool, now = upstream.pool, perf_counter()
            described["draining"] = upstream.draining
            described["pool"] = {
                "active": pool.active,
                "idle": pool.idle,
                "waiting": pool.waiting,
                "capacity": pool.capacity,
                "acquired": pool.tally.acquired,
                "opened": pool.opened,
                "reused": pool.tally.reused,
                "refused": pool.tally.refused,
                "errors": pool.tally.errors,
            }
            described["credentials"] = [
                {"index": credential.index, "state": credential.reason, "rests": max(credential.rests_until - now, 0.0)}
                if credential.rests_until > now
                else {"index": credential.index, "state": "ok"}
                for credential in upstream.credentials.all
            ]
        return described


def _rest(watched: Watched, now: float) -> float:
    """Seconds until its breaker lets a call through; 0.0 where it would."""
    breaker = watched.breaker
    return breaker.retry_after(now) if breaker is not None and breaker.state is State.OPEN else 0.0


def _target(watched: Watched) -> JsonObject:
    now = perf_counter()
    health, breaker, concurrency = watched.health, watched.breaker, watched.concurrency
    return {
        "target": str(watched.target),
        "in_flight": health.in_flight,
        "score": round(health.score(now), 3),
        "latency_seconds": round(health.latency(now), 4),
        "breaker": breaker.state.value if breaker is not None else None,
        "breaker_retry_after": round(breaker.retry_after(now), 1) if breaker is not None else None,
        "concurrency_limit": concurrency.limit if concurrency is not None else None,
    }
