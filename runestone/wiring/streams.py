"""The WebSocket endpoint and the streams that can be rejoined, from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files

from runestone.config.schema import Configuration
from runestone.core.trace import Context, Trace
from runestone.edge.module import Module
from runestone.edge.running import Running
from runestone.edge.streams import Start, Streams
from runestone.edge.streams import Terms as StreamTerms
from runestone.edge.websocket.conversation import House, Limits
from runestone.edge.websocket.endpoint import Terms, WebSockets
from runestone.edge.websocket.rooms import Rooms
from runestone.edge.websocket.sessions import Sessions
from runestone.edge.websocket.stream import Gateway
from runestone.errors import RunestoneError
from runestone.wiring.telemetry import Following

Begin = Callable[[Context | None], Trace | None] | None


@dataclass(frozen=True, slots=True)
class Live:
    """What was built. Connections, sessions and streams outlive a reload."""

    running: Running
    streams: Streams
    sessions: Sessions
    rooms: Rooms
    sockets: WebSockets
    module: Module
    house: House

    def adopt(self, configuration: Configuration, gateway: Gateway, following: Following) -> None:
        """Goes on under another configuration: calls that begin from now on, and connections made from now on."""
        told = configuration.websocket
        self.house.gateway, self.house.limits = gateway, _limits(configuration)
        self.sessions.most, self.sessions.resumable_for = told.max_connections, told.resumable_for
        self.sessions.max_kept = told.max_kept
        self.rooms.most_members = told.max_members
        self.streams.terms = _held(configuration)
        self.sockets.terms = _terms(configuration)
        self.sockets.begin, self.sockets.finish = _traces(following)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What metrics read at any time."""
        sessions, tally = self.sessions, self.sessions.tally
        yield "streams_active", {}, self.running.streams
        yield "websocket_connections", {}, sessions.connections
        yield "websocket_connections_limit", {}, sessions.most
        yield "websocket_messages_total", {"direction": "in"}, tally.received
        yield "websocket_messages_total", {"direction": "out"}, tally.sent


def live_of(
    configuration: Configuration,
    gateway: Gateway,
    *,
    running: Running,
    start: Start,
    refused: Callable[[RunestoneError], None],
    following: Following,
) -> Live:
    """`start` runs something in a task that somebody owns; `refused` is told of calls that did not become one."""
    settings = configuration.websocket
    rooms = Rooms(most_members=settings.max_members)
    sessions = Sessions(
        most=settings.max_connections,
        resumable_for=settings.resumable_for,
        max_kept=settings.max_kept,
        max_bytes=settings.max_bytes,
        leave=rooms.leave_all,
    )
    house = House(
        gateway=gateway,
        sessions=sessions,
        rooms=rooms,
        running=running,
        start=start,
        limits=_limits(configuration),
        refused=refused,
    )
    begin, finish = _traces(following)
    return Live(
        running,
        Streams(_held(configuration), start=start, running=running),
        sessions,
        rooms,
        WebSockets(house, _terms(configuration), begin=begin, finish=finish),
        Module(files("runestone.edge").joinpath("runestone.js").read_bytes()),
        house,
    )


def _limits(configuration: Configuration) -> Limits:
    told = configuration.websocket
    return Limits(
        messages_per_second=told.messages_per_second or None,
        max_streams=told.max_streams,
        max_rooms=told.max_rooms,
        max_text=told.max_kept,
    )


def _terms(configuration: Configuration) -> Terms:
    told = configuration.websocket
    return Terms(
        heartbeat=told.heartbeat,
        stall=told.stall,
        max_message=told.max_message,
        max_waiting=told.max_kept,
        total=configuration.routing.timeouts.total,
        origins=frozenset(configuration.server.cors_origins),
    )


def _held(configuration: Configuration) -> StreamTerms:
    told = configuration.streams
    return StreamTerms(
        resumable_for=told.resumable_for,
        max_kept=told.max_kept,
        max_streams=told.max_streams,
        always=told.resumable,
    )


def _traces(following: Following) -> tuple[Begin, Callable[[Trace], None]]:
    return (following.tracer.connection if following.tracer is not None else None), following.connection
