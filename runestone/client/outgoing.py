"""What a session sends: numbered, kept until the gateway is known to have it, sent again when it never arrived.

    waiting  ->  under way  ->  known to have arrived: forgotten
       ^            |
       └────────────┘  the connection was lost, and the gateway says it never had it

Each message has a `ref` that the gateway repeats in its answer. Messages arrive in the order they are sent, so an
answer to one says that all before it have arrived too.
Rule: pure. Nothing is sent twice within a session: after a lost connection nothing is sent before the gateway has said
how many it had (`settle`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import orjson

from runestone.client.errors import QueueFull, TooLarge
from runestone.client.options import Limits


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message. `is_bound` says that it means nothing outside its session (it names a stream, for instance)."""

    ref: int
    data: bytes
    is_bound: bool


class Queue:
    """The messages of one session after another. Pings and resumes are not in it: the gateway does not count them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._under_way: deque[Outgoing] = deque()
        self._waiting: deque[Outgoing] = deque()
        self._arrived = 0
        self._bytes = 0
        self._ref = 0

    def __len__(self) -> int:
        return len(self._under_way) + len(self._waiting)

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._waiting)

    @property
    def last_sent(self) -> int:
        """The ref of the youngest message that is under way; 0 when none is."""
        return self._under_way[-1].ref if self._under_way else 0

    @property
    def is_half_full(self) -> bool:
        """Whether so much is under way that the gateway should be asked what has arrived."""
        return len(self) * 2 > self._limits.queued_messages or self._bytes * 2 > self._limits.queued_bytes

    def add(self, event: str, payload: object, *, is_bound: bool = False, anyway: bool = False) -> int:
        """Puts a message at the end, and returns its ref. `anyway` is for the few that the session itself sends.

        Raises QueueFull, TooLarge for one that would never fit, and TypeError for what JSON cannot say.
        """
        ref = self._ref + 1
        data = orjson.dumps({"event": event, "payload": payload, "ref": ref})
        limits = self._limits
        if not anyway:
            most = min(limits.largest_sent, limits.queued_bytes)
            if len(data) > most:
                raise TooLarge(f"a message of {len(data)} bytes; {most} may be sent")
            if len(self) >= limits.queued_messages or self._bytes + len(data) > limits.queued_bytes:
                raise QueueFull(f"{len(self)} messages of {self._bytes} bytes wait to reach the gateway already")
        self._ref = ref
        self._bytes += len(data)
        self._waiting.append(Outgoing(ref, data, is_bound))
        return ref

    def next(self) -> Outgoing | None:
        """The message to send now, which is under way from here on; None when there is none."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self._under_way.append(message)
        return message

    def withdraw(self, ref: int) -> bool:
        """Takes back a message that was not sent; False when it was."""
        for message in self._waiting:
            if message.ref == ref:
                self._waiting.remove(message)
                self._bytes -= len(message.data)
                return True
        return False

    def acknowledge(self, ref: int) -> None:
        """The gateway has answered that message, so it has all before it."""
        while self._under_way and self._under_way[0].ref <= ref:
            self._bytes -= len(self._under_way.popleft().data)
            self._arrived += 1

    def settle(self, received: int) -> bool:
        """The session goes on with another connection, and the gateway has had `received` of its messages: the others
        wait again, before what waits already. False when that number cannot be.
        """
        if not self._arrived <= received <= self._arrived + len(self._under_way):
            return False
        if received > self._arrived:
            self.acknowledge(self._under_way[received - self._arrived - 1].ref)
        self._waiting.extendleft(reversed(self._under_way))
        self._under_way.clear()
        return True

    def restart(self) -> set[int]:
        """The session was lost, and what was under way or bound to it with it. The refs of what was never sent, which
        waits on for the new one.
        """
        self._waiting = deque(message for message in self._waiting if not message.is_bound)
        self._under_way.clear()
        self._bytes = sum(len(message.data) for message in self._waiting)
        self._arrived = 0
        return {message.ref for message in self._waiting}

    def drop(self) -> None:
        """Forgets what waits: nothing is to be sent any more."""
        self._bytes -= sum(len(message.data) for message in self._waiting)
        self._waiting.clear()
