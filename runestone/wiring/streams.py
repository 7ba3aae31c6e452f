"""The WebSocket endpoint and the streams that can be rejoined, from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files

from runestone.config.schema import Configuration
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


@dataclass(frozen=True, slots=True)
class Live:
    """What was built; `sockets` is None when there is no WebSocket endpoint."""

    running: Running
    streams: Streams
    sessions: Sessions
    rooms: Rooms
    sockets: WebSockets | None
    module: Module

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
    settings, streams = configuration.websocket, configuration.streams
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
        limits=Limits(
            messages_per_second=settings.messages_per_second or None,
            max_streams=settings.max_streams,
            max_rooms=settings.max_rooms,
            max_text=settings.max_kept,
        ),
        refused=refused,
    )
    terms = Terms(
        heartbeat=settings.heartbeat,
        stall=settings.stall,
        max_message=settings.max_message,
        max_waiting=settings.max_kept,
        total=configuration.routing.timeouts.total,
        origins=frozenset(configuration.server.cors_origins),
    )
    held = StreamTerms(
        resumable_for=streams.resumable_for,
        max_kept=streams.max_kept,
        max_streams=streams.max_streams,
        always=streams.resumable,
    )
    return Live(
        running,
        Streams(held, start=start, running=running),
        sessions,
        rooms,
        WebSockets(
            house,
            terms,
            begin=following.tracer.connection if following.tracer is not None else None,
            finish=following.connection,
        )
        if settings.enabled
        else None,
        Module(files("runestone.edge").joinpath("runestone.js").read_bytes()),
    )
