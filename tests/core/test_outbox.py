"""What a session keeps to send again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from runestone.core.outbox import LEAST, Ledger, Outbox

MOST = 1000


def outbox(most: int = MOST, keep_for: float = 60.0, ledger: Ledger | None = None) -> Outbox:
    return Outbox(max_kept=most, keep_for=keep_for, ledger=ledger or Ledger(10**9))


def filled(box: Outbox, count: int, size: int = 10, now: float = 0.0) -> list[bytes]:
    messages = [bytes([65 + (box.last + number) % 26]) * size for number in range(count)]
    for message in messages:
        box.put(message, now)
    return messages


def test_messages_have_the_numbers_that_were_promised() -> None:
    """`next` is the number the next one gets: 1, 2, 3 ..."""
    box = outbox()
    for number in (1, 2, 3):
        assert box.next == number
        box.put(b"x", 0.0)
        assert box.last == number


@pytest.mark.parametrize("is_away", [False, True])
def test_what_was_missed_comes_in_order(is_away: bool) -> None:
    """From any number the client has, the rest, each once; with the last one nothing is missed."""
    box = outbox()
    if is_away:
        box.leave()
    messages = filled(box, 5)
    for seq in range(6):
        assert box.after(seq) == messages[seq:]


@pytest.mark.parametrize("seq", [-1, 6, 10**30])
def test_nobody_can_have_had_what_was_not_said(seq: int) -> None:
    """A number that was never given is answered by None, not by silence."""
    box = outbox()
    filled(box, 5)
    assert box.after(seq) is None


def test_a_session_that_said_nothing_missed_nothing() -> None:
    """The empty outbox."""
    assert outbox().after(0) == []
    assert outbox().after(1) is None


def test_what_is_old_is_let_go_of_while_the_client_is_there() -> None:
    """Messages older than `keep_for` seconds go when a younger one comes."""
    box = outbox(keep_for=10.0)
    filled(box, 3, now=0.0)
    box.put(b"new", 10.5)
    assert box.after(3) == [b"new"]
    assert box.after(2) is None


def test_nothing_is_too_old_for_a_client_that_is_away() -> None:
    """It could not have had it sooner: its session ends when its time is over, not message by message."""
    box = outbox(keep_for=10.0)
    box.leave()
    messages = filled(box, 3, now=0.0)
    box.put(b"new", 100.0)
    assert box.after(0) == [*messages, b"new"]


def test_streams_are_asked_to_stop_before_anything_is_lost() -> None:
    """While the client is away, all that came until `is_full`, and what was on its way then, is there for it, however
    much was kept before.
    """
    box = outbox()
    filled(box, 200)
    box.leave()
    seq, messages = box.last, []
    while not box.is_full:
        messages += filled(box, 1)
    messages += filled(box, 5)
    assert sum(map(len, messages)) >= MOST
    assert box.after(seq) == messages


def test_a_client_that_is_there_stops_nothing() -> None:
    """Then the socket says when it is too much."""
    box = outbox()
    filled(box, 1000)
    assert not box.is_full


def test_a_client_that_came_back_and_left_again_is_owed_what_it_had_no_time_to_hear() -> None:
    """`is_full` counts that too, until as much more has gone out: then it begins anew."""
    box = outbox()
    box.leave()
    filled(box, 100)
    assert box.is_full
    box.come_back()
    assert not box.is_full
    box.leave()
    assert box.is_full
    box.come_back()
    filled(box, 300)
    box.leave()
    assert not box.is_full


def test_a_client_that_is_lost_while_it_is_told_what_it_missed_misses_nothing() -> None:
    """It came back, the first words went out (the session goes on at once), and it is gone again: what it was away for
    is there still.
    """
    box = outbox()
    box.leave()
    messages = []
    while not box.is_full:
        messages += filled(box, 1)
    box.come_back()
    messages += filled(box, 1, size=60)  # `session:resumed`
    messages += filled(box, 1, size=60)  # and one block of a stream, before its socket is seen to be full
    box.leave()
    assert box.after(0) == messages


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_client_that_comes_back_and_back_is_owed_no_more_each_time(is_lost: bool) -> None:
    """Lost in between, or by taking its session from itself: what is kept does not grow with every time it comes."""
    ledger = Ledger(10**9)
    box = outbox(ledger=ledger)
    for _ in range(50):
        if is_lost:
            box.leave()
        box.come_back()
        filled(box, 50)
    assert ledger.bytes <= 3 * MOST


def test_the_oldest_go_first() -> None:
    """A bound on bytes, and whoever needs what is gone hears so."""
    box = outbox()
    messages = filled(box, 300)
    kept = next(seq for seq in range(301) if box.after(seq) is not None)
    assert kept > 0
    assert box.after(kept) == messages[kept:]
    assert box.after(kept - 1) is None


def test_all_together_are_bounded_by_the_ledger() -> None:
    """Past its bound each session keeps little, whether its client is there or not: a thousand members of a room that
    are away do not keep a thousand times `max_kept`.
    """
    ledger = Ledger(10 * LEAST)
    boxes = [outbox(64 * LEAST, ledger=ledger) for _ in range(100)]
    for box in boxes:
        box.leave()
    for _ in range(256):
        for box in boxes:
            box.put(b"x" * (LEAST // 4), 0.0)
    assert ledger.bytes <= ledger.most + len(boxes) * 2 * LEAST


def test_past_the_ledgers_bound_streams_are_asked_to_stop_sooner() -> None:
    """What waits for one client is little then, and whoever frees memory lets it grow again."""
    ledger = Ledger(LEAST)
    other, box = outbox(10 * LEAST, ledger=ledger), outbox(10 * LEAST, ledger=ledger)
    box.leave()
    filled(box, 1, size=LEAST)
    assert not box.is_full
    filled(other, 1, size=LEAST)
    assert box.is_full
    other.close()
    assert not box.is_full


@pytest.mark.parametrize("is_away", [False, True])
def test_what_is_closed_owes_nothing(is_away: bool) -> None:
    """Its bytes are off the ledger, also those of streams that say their last word to a session that is over."""
    ledger = Ledger(10**9)
    box = outbox(ledger=ledger)
    filled(box, 10)
    if is_away:
        box.leave()
    box.close()
    assert ledger.bytes == 0
    box.put(b'{"event":"stream:cancelled"}', 1.0)
    assert ledger.bytes == 0


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 20)), max_size=60))
def test_what_is_kept_for_a_client_that_is_there(puts: list[tuple[int, float]]) -> None:
    """Sizes and pauses of any kind: what was said within `keep_for` and fits is there, and what is there is exact."""
    box, now, said = outbox(keep_for=30.0), 0.0, []
    for size, pause in puts:
        now += pause
        said.append((now, b"m" * size))
        box.put(said[-1][1], now)
    for seq in range(len(said) + 1):
        behind = said[seq:]
        told = box.after(seq)
        assert told is None or told == [message for _, message in behind]
        must = sum(len(message) for _, message in behind) <= MOST and all(at >= now - 30.0 for at, _ in behind)
        assert told is not None or not must


class Sessions(RuleBasedStateMachine):
    """Three sessions with one ledger, of clients that come and go."""

    boxes = Bundle("boxes")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(3000)
        self.now = 0.0
        self.said: dict[int, list[bytes]] = {}
        self.open: dict[int, Outbox] = {}
        self.away: set[int] = set()

    @initialize(target=boxes)
    def begin(self) -> int:
        return self._new()

    @rule(target=boxes)
    def another(self) -> int:
        return self._new()

    def _new(self) -> int:
        name = len(self.said)
        self.said[name] = []
        self.open[name] = Outbox(max_kept=MOST, keep_for=10.0, ledger=self.ledger)
        return name

    @rule(name=boxes, size=st.integers(1, 400))
    def say(self, name: int, size: int) -> None:
        self.said[name].append(bytes([len(self.said[name]) % 256]) * size)
        self._with(name, lambda box: box.put(self.said[name][-1], self.now))

    @rule(name=boxes)
    def leave(self, name: int) -> None:
        if name not in self.away:
            self.away.add(name)
            self._with(name, Outbox.leave)

    @rule(name=boxes)
    def come_back(self, name: int) -> None:
        self.away.discard(name)
        self._with(name, Outbox.come_back)

    @rule(name=boxes)
    def close(self, name: int) -> None:
        self._with(name, Outbox.close)
        self.open.pop(name, None)

    @rule(seconds=st.floats(0.1, 8))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _with(self, name: int, act: Callable[[Outbox], object]) -> None:
        if name in self.open:
            act(self.open[name])

    @invariant()
    def what_is_told_is_exact(self) -> None:
        for name, box in self.open.items():
            said = self.said[name]
            assert box.last == len(said)
            assert box.after(len(said)) == []
            told = [box.after(seq) for seq in range(len(said))]
            kept = next((seq for seq, messages in enumerate(told) if messages is not None), len(said))
            assert told[:kept] == [None] * kept
            assert told[kept:] == [said[seq:] for seq in range(kept, len(said))]

    @invariant()
    def the_ledger_is_right(self) -> None:
        kept = 0
        for box in self.open.values():
            longest = max((told for seq in range(box.last + 1) if (told := box.after(seq)) is not None), key=len)
            kept += sum(map(len, longest))
        assert self.ledger.bytes == kept

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        """As much as is allowed, and what a client that came back is owed still: as much as it may miss."""
        assert self.ledger.bytes <= len(self.open) * 3 * MOST


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=40)
