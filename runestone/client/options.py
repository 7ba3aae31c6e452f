"""How patient a client is, and how much may wait in it. Plain values with defaults for one program on one machine."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """How a lost connection is sought again; all in seconds. The waits double from `first_wait` to `longest_wait`, each
    of a random length up to that (core/backoff.py). `give_up_after` 0 never tries again.
    """

    first_wait: float = 0.2
    longest_wait: float = 5.0
    give_up_after: float = 60.0
    attempt: float = 10.0
    """One attempt, its handshake included; also what the gateway may take to accept a message."""

    def __post_init__(self) -> None:
        if self.first_wait <= 0 or self.longest_wait < self.first_wait or self.attempt <= 0 or self.give_up_after < 0:
            raise ValueError(f"waits are positive, and the longest is not shorter than the first: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may wait, and how large things may be; sizes in bytes of what goes over the wire."""

    queued_messages: int = 1_000
    """Messages of a session that wait to be sent or to be heard of; past it QueueFull."""
    queued_bytes: int = 16_000_000
    messages_per_second: int = 90
    """A session sends no more, so that a full queue does not make the gateway refuse it (its own default is 100)."""
    buffered: int = 1_000_000
    """What may wait for the reader of a stream that one began; past it the gateway is asked to pause it."""
    heard: int = 4_000_000
    """The same for a stream of a room that somebody else began, who alone can pause it; past it Overrun."""
    waiting_streams: int = 32
    """Streams of a room that wait to be taken; past it Overrun."""
    largest_sent: int = 4_000_000
    """A message of a session; past it TooLarge, and nothing is sent. The gateway ends a session that sends it more than
    its `websocket.max_message`, of which this is the default.
    """
    largest_read: int = 32_000_000
    """A message, an answer or an event; past it TooLarge."""

    def __post_init__(self) -> None:
        if any(getattr(self, field.name) < 1 for field in fields(self)):
            raise ValueError(f"every limit is at least 1: {self}")
