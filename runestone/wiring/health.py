"""What GET /health looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runestone.control import Control
from runestone.edge.health import Check, Status
from runestone.edge.running import Running
from runestone.edge.websocket.sessions import Sessions
from runestone.heartbeat import Heartbeat
from runestone.tasks import Supervisor

NEARLY = 0.9
"""Of a limit: from here on somebody should look."""
LATE = 0.5
"""Seconds the loop may be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The parts; `configuration` says what is wrong with the file."""

    control: Callable[[], Control]
    running: Running
    sessions: Sessions
    heartbeat: Heartbeat
    tasks: Supervisor
    configuration: Callable[[], tuple[str, ...]]
    connections: Callable[[], tuple[int, int]]
    """Open, and how many may be."""

    def __call__(self) -> Iterator[Check]:
        """Everything, as it is now."""
        yield self._providers()
        is_draining = self.running.draining or self.sessions.is_draining
        problems = ("the gateway is shutting down: it finishes what runs and takes nothing new",) if is_draining else ()
        yield Check("drain", "down" if is_draining else "ok", problems, is_needed=True)
        yield self._loop()
        failing = self.tasks.failing()
        yield Check(
            "tasks",
            "degraded" if failing else "ok",
            tuple(f"the background task {name!r} has failed, and is begun again shortly" for name in failing),
        )
        faults = self.configuration()
        yield Check("configuration", "degraded" if faults else "ok", faults)
        yield self._connections()

    def _providers(self) -> Check:
        control = self.control()
        configured, unable = len(control), control.unable()
        problems = tuple(dict.fromkeys([*unable.values(), *control.problems()]))
        status: Status = "degraded" if problems else "ok"
        if configured and len(unable) == configured:
            return Check("providers", "down", ("no target can serve", *problems), {"configured": configured}, True)
        return Check("providers", status, problems, {"configured": configured})

    def _loop(self) -> Check:
        age = self.heartbeat.age
        if self.heartbeat.is_stuck:
            return Check("loop", "down", (f"the loop has been stuck for {age:.1f} s",))
        late = age > LATE
        return Check("loop", "degraded" if late else "ok", (f"the loop is {age:.1f} s late",) if late else ())

    def _connections(self) -> Check:
        sessions = self.sessions
        problems = [
            f"{now} of at most {most} {what} are open"
            for what, (now, most) in {
                "connections": self.connections(),
                "WebSockets": (sessions.connections, sessions.most),
            }.items()
            if now >= NEARLY * most
        ]
        return Check("connections", "degraded" if problems else "ok", tuple(problems))
