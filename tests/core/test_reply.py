"""A reply is closed once, whoever closes it and however often."""

from __future__ import annotations

from runestone.core.reply import Reply
from runestone.core.summary import Summary


class Blocks:
    """A stream that counts how often it was closed."""

    first_token: float | None = None

    def __init__(self) -> None:
        self.closed = 0

    async def next(self) -> bytes:
        return b""

    def close(self) -> None:
        self.closed += 1


def test_a_close_tells_who_asked_in_order() -> None:
    """Every callback is told of the reply and of what went wrong, the first registered first."""
    heard: list[tuple[str, Reply, BaseException | None]] = []
    reply = Reply(200, [], Summary(), body=b"{}")
    reply.when_closed(lambda reply, error: heard.append(("first", reply, error)))
    reply.when_closed(lambda reply, error: heard.append(("second", reply, error)))
    error = ConnectionResetError()
    reply.close(error)
    assert heard == [("first", reply, error), ("second", reply, error)]


def test_only_the_first_close_counts() -> None:
    """A second close tells nobody: one call, one record."""
    heard: list[BaseException | None] = []
    reply = Reply(200, [], Summary(), body=b"{}")
    reply.when_closed(lambda reply, error: heard.append(error))
    reply.close()
    reply.close(ConnectionResetError())
    assert heard == [None]


def test_a_close_ends_the_stream() -> None:
    """The provider's connection is given back with the reply, before anybody is told."""
    blocks = Blocks()
    closed_when_told: list[int] = []
    reply = Reply(200, [], Summary(), blocks=blocks)
    reply.when_closed(lambda reply, error: closed_when_told.append(blocks.closed))
    reply.close()
    assert closed_when_told == [1]


def test_a_callback_may_close_again() -> None:
    """Closing within a closing is the second close."""
    heard: list[str] = []
    reply = Reply(200, [], Summary(), body=b"{}")

    def again(reply: Reply, error: BaseException | None) -> None:
        heard.append("closed")
        reply.close()

    reply.when_closed(again)
    reply.close()
    assert heard == ["closed"]
