"""The numbered events of a stream that can be rejoined."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runestone.core.event_log import RETRY, EventLog


def numbered(events: list[bytes], first: int) -> bytes:
    """As they are told: the first of all says too when to come back."""
    told = b"".join(b"id: %d\n%b" % (number, event) for number, event in enumerate(events, first))
    return RETRY + told if first == 1 and events else told


def test_events_are_numbered_from_one() -> None:
    """The first event has the id 1, and a reader that has had nothing says 0."""
    log = EventLog(1000)
    log.put(b"data: a\n\n")
    log.put(b"data: b\n\n")
    assert (log.first, log.last) == (1, 2)
    assert log.after(0) == b"retry: 500\nid: 1\ndata: a\n\nid: 2\ndata: b\n\n"
    assert log.after(1) == b"id: 2\ndata: b\n\n"
    assert log.after(2) == b""


def test_an_empty_log_has_what_was_said_so_far() -> None:
    """Which is nothing: reader 0 may go on, nobody else can have had more."""
    log = EventLog(10)
    assert log.has(0)
    assert log.after(0) == b""
    assert not log.has(1)
    assert not log.is_full


def test_what_was_let_go_of_is_not_here() -> None:
    """A reader before the oldest event cannot go on, the one just before it can, and none from the future."""
    log = EventLog(40)
    for number in range(10):
        log.put(b"data: %d\n\n" % number)
        log.forget(number)
    assert log.last == 10
    assert log.first > 1
    assert not log.has(log.first - 2)
    assert log.has(log.first - 1)
    assert log.has(10)
    assert not log.has(11)


def test_nothing_is_let_go_of_without_need() -> None:
    """As long as there is room a reader may come back for everything, though all of it has been read."""
    log = EventLog(1000)
    for _ in range(5):
        log.put(b"data: x\n\n")
        log.forget(log.last)
    assert log.has(0)


def test_an_event_larger_than_the_log_is_kept_until_it_is_read() -> None:
    """One event may be larger than all that may be kept: it is given whole, and then let go of."""
    log = EventLog(100)
    log.put(b"data: " + b"x" * 1000 + b"\n\n")
    assert log.is_full
    assert len(log.after(0)) > 1000
    log.forget(1)
    assert not log.is_full
    assert log.has(1)
    assert not log.has(0)


EVENTS = st.binary(min_size=1, max_size=40)
STEPS = st.lists(st.one_of(EVENTS, st.integers(0, 60)), max_size=80)


@given(STEPS, st.integers(1, 200))
def test_it_tells_all_or_nothing(steps: list[bytes | int], most: int) -> None:
    """Whatever is put and let go of: who can go on gets exactly the events behind theirs with their numbers; nobody
    who has read as far as was said is turned away; and with readers that keep up no more is kept than allowed.
    """
    log, all_of_them, read = EventLog(most), [], 0
    for step in steps:
        if isinstance(step, bytes):
            if log.is_full:  # who writes asks first
                log.forget(log.last)
                read = log.last
            assert not log.is_full
            log.put(step)
            all_of_them.append(step)
        else:
            read = max(read, min(step, log.last))
            log.forget(read)
        assert log.last == len(all_of_them)
        assert log.has(read)
        for number in range(-1, log.last + 2):
            assert log.has(number) == (log.first - 1 <= number <= log.last)
            if log.has(number):
                assert log.after(number) == numbered(all_of_them[number:], number + 1)
        assert len(log.after(log.first - 1)) < most + 60
