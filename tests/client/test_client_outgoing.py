"""What a session sends arrives once and in order, whatever connections do; and no more of it waits than may."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.client.errors import QueueFull, TooLarge
from runestone.client.options import Limits
from runestone.client.outgoing import Outgoing, Queue


class Line:
    """A connection that may lose what is on its way, and a gateway at its end that counts what it has had."""

    def __init__(self) -> None:
        self.queue = Queue(Limits(queued_messages=50, queued_bytes=5000))
        self.on_its_way: list[Outgoing] = []
        self.had: list[str] = []

    def send(self) -> None:
        message = self.queue.next()
        if message is not None:
            self.on_its_way.append(message)

    def arrive(self) -> int:
        """The oldest message on its way arrives; its ref."""
        message = self.on_its_way.pop(0)
        self.had.append(orjson.loads(message.data)["event"])
        return message.ref


@given(st.lists(st.sampled_from(["add", "send", "arrive", "answer", "lose"]), max_size=200))
def test_everything_arrives_once_and_in_order(steps: list[str]) -> None:
    """Sent, answered or not, lost with the connection: what the gateway has had is what was added, in that order."""
    line, added = Line(), 0
    last = 0
    for step in [*steps, "lose"]:
        if step == "add" and len(line.queue) < 50:
            line.queue.add(f"message {added}", {})
            added += 1
        elif step == "send":
            line.send()
        elif step == "arrive" and line.on_its_way:
            last = line.arrive()
        elif step == "answer":
            line.queue.acknowledge(last)
        elif step == "lose":
            line.on_its_way.clear()
            assert line.queue.settle(len(line.had))
    while line.queue.has_waiting:
        line.send()
        last = line.arrive()
    line.queue.acknowledge(last)
    assert line.had == [f"message {number}" for number in range(added)]
    assert len(line.queue) == 0
    line.queue.add("fits", "x" * 4900)  # no bytes were lost count of


def test_a_number_that_cannot_be_is_noticed() -> None:
    """A gateway that has had less than it answered, or more than was sent."""
    queue = Queue(Limits())
    for _ in range(2):
        queue.add("x", {})
        queue.next()
    queue.acknowledge(1)
    assert not queue.settle(0)
    assert not queue.settle(3)
    assert queue.settle(2)


def test_the_bounds() -> None:
    """So many messages, so many bytes; what is refused leaves nothing behind, and the session's own always fits."""
    queue = Queue(Limits(queued_messages=2))
    queue.add("a", {})
    queue.add("b", {})
    with pytest.raises(QueueFull):
        queue.add("c", {})
    queue.add("own", {}, anyway=True)
    assert len(queue) == 3
    small = Queue(Limits(queued_bytes=200))
    with pytest.raises(TooLarge):
        small.add("a", "x" * 200)
    small.add("a", "x" * 100)
    with pytest.raises(QueueFull):
        small.add("b", "x" * 100)
    small.next()
    with pytest.raises(QueueFull):  # under way counts too: it may have to be sent again
        small.add("b", "x" * 100)
    small.acknowledge(1)
    assert small.add("b", "x" * 100) == 2


def test_what_was_never_sent_may_be_taken_back() -> None:
    """And what was sent may not: the gateway may have it."""
    queue = Queue(Limits())
    first, second = queue.add("a", {}), queue.add("b", {})
    queue.next()
    assert not queue.withdraw(first)
    assert queue.withdraw(second)
    assert queue.next() is None


def test_a_lost_session_leaves_what_was_never_sent() -> None:
    """What was under way is lost, what names a stream of the session too; the new one counts from nothing."""
    queue = Queue(Limits())
    queue.add("sent", {})
    queue.next()
    queue.add("control", {}, is_bound=True)
    waiting = queue.add("waiting", {})
    assert queue.restart() == {waiting}
    message = queue.next()
    assert message is not None
    assert message.ref == waiting
    assert queue.settle(1)
