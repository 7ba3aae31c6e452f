"""What outlives a reload: connections, sessions, calls in flight, what was counted, what runs in the background.

Lasting   made once, handed from the parts of one configuration to those of the next
Now       the parts of the configuration in force that are looked at from outside
Reloads   what has become of the configuration files so far
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from runestone.config.schema import Configuration
from runestone.control import Control
from runestone.core.buckets import Buckets
from runestone.core.json import JsonObject
from runestone.edge.running import Running
from runestone.edge.state import Followed, Follower
from runestone.edge.websocket.stream import Gateway
from runestone.errors import BadRequest
from runestone.gateway.inflight import InFlight
from runestone.heartbeat import Heartbeat
from runestone.providers.pool import Tally
from runestone.tasks import Supervisor
from runestone.telemetry.metrics import Metrics
from runestone.telemetry.tail import Tail
from runestone.wiring.caching import Caching
from runestone.wiring.health import Looked
from runestone.wiring.state import log_samples
from runestone.wiring.streams import Live, live_of
from runestone.wiring.telemetry import Following

Sample = tuple[str, dict[str, str], float | Buckets]


@dataclass(slots=True)
class Reloads:
    """`generation` counts the configurations that were served with; `refusal` says, to anybody, that the last file was
    refused.
    """

    generation: int = 1
    done: int = 0
    refused: int = 0
    refusal: str = ""
    stuck: tuple[str, ...] = ()
    """What the file says otherwise and takes a new process."""

    def problems(self) -> tuple[str, ...]:
        """In words."""
        told = [f"{name} has changed in the file, and takes a new process (SIGUSR2)" for name in self.stuck]
        return (*([self.refusal] if self.refusal else []), *told)


@dataclass(frozen=True, slots=True)
class Now:
    """Of the configuration in force."""

    control: Control
    caching: Caching
    following: Following


async def _not_here() -> JsonObject:
    raise BadRequest("this gateway was not started from a configuration that can be read again")


class Siblings(Protocol):
    """The other workers, where there are some. This one was started again `restarts` times."""

    restarts: int
    parent: int

    async def metrics(self, own: bytes) -> bytes:
        """The metrics of all, `own` among them."""

    async def everywhere(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware that has all of them do, and answer, what one is asked."""

    def follow(self, tail: Followed) -> Follower:
        """The calls of all of them, for one who follows those of this one."""


class _Everybody:
    """What follows the calls of all workers."""

    def __init__(self, tail: Tail, siblings: Siblings) -> None:
        self._tail = tail
        self._siblings = siblings

    def follow(self) -> Follower:
        return self._siblings.follow(self._tail)


@dataclass(slots=True)
class Lasting:
    """`now` and `live` are set by the first configuration, the rest by who serves."""

    now: Now = field(init=False)
    live: Live = field(init=False)
    metrics: Metrics = field(init=False)
    tail: Tail = field(init=False)
    heartbeat: Heartbeat
    running: Running = field(default_factory=Running)
    tasks: Supervisor = field(default_factory=Supervisor)
    inflight: InFlight = field(default_factory=InFlight)
    reloads: Reloads = field(default_factory=Reloads)
    tallies: dict[str, Tally] = field(default_factory=dict)
    """What has been counted of the connections to each provider there was, by its name."""
    reload: Callable[[], Awaitable[JsonObject]] = _not_here
    """Reads the configuration again; what has become of that."""
    connections: Callable[[], tuple[int, int, int]] = lambda: (0, 1, 0)
    """Of clients: open now, how many may be, how many were refused."""
    since: float = field(default_factory=monotonic)
    siblings: Siblings | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics(state=self.samples)
        self.tail = Tail(self.metrics.cost_of)

    def begin(self, configuration: Configuration, now: Now, gateway: Gateway) -> None:
        """What the first configuration makes, and later ones change."""
        self.now = now
        self.live = live_of(
            configuration,
            gateway,
            running=self.running,
            start=self.tasks.start,
            refused=self.metrics.refused,
            following=now.following,
        )

    async def reload_now(self) -> JsonObject:
        """Reads the configuration again. Raises ConfigurationError, after which everything is as it was."""
        return await self.reload()

    async def expose(self) -> bytes:
        """The metrics of this process."""
        return self.metrics.expose()

    async def expose_all(self) -> bytes:
        """Those of all workers, where there are several."""
        own = self.metrics.expose()
        return await self.siblings.metrics(own) if self.siblings is not None else own

    def followed(self) -> Followed:
        """The calls as they end; of all workers, where there are several."""
        return _Everybody(self.tail, self.siblings) if self.siblings is not None else self.tail

    def checked(self, provider: str, is_well: bool) -> None:
        """An active health check has answered: targets are others after a reload, and the provider may have stayed."""
        self.now.control.checked(provider, is_well)

    def samples(self) -> Iterator[Sample]:
        """What metrics read at any time."""
        yield from self.now.control.samples()
        yield from self.now.caching.samples()
        yield from self.live.samples()
        yield from self.now.following.samples()
        yield from self.heartbeat.samples()
        yield from log_samples()
        for task, restarts in self.tasks.restarts():
            yield "task_restarts_total", {"task": task}, restarts
        yield "worker_restarts_total", {}, self.siblings.restarts if self.siblings is not None else 0
        yield "reloads_total", {"result": "done"}, self.reloads.done
        yield "reloads_total", {"result": "refused"}, self.reloads.refused
        yield "config_generation", {}, self.reloads.generation
        now, most, refused = self.connections()
        yield "connections", {}, now
        yield "connections_limit", {}, most
        yield "connections_refused_total", {}, refused

    def looked(self) -> Looked:
        """What GET /health looks at."""
        return Looked(
            control=lambda: self.now.control,
            running=self.running,
            sessions=self.live.sessions,
            heartbeat=self.heartbeat,
            tasks=self.tasks,
            configuration=self.reloads.problems,
            connections=lambda: self.connections()[:2],
        )


def lasting_of(configuration: Configuration, siblings: Siblings | None) -> Lasting:
    """For a process that begins with `configuration`."""
    return Lasting(Heartbeat(configuration.server.stuck_after), siblings=siblings)
