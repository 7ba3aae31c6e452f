"""What is kept in memory for a while: who goes first, what it costs, and when it is over."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runestone.core import cache as module
from runestone.core.cache import OVERHEAD, SWEPT, Cache, Entry

PLENTY = 10**9


def entry(
    size: int = 0, *, expires: float = 50.0, gone: float = 100.0, owner: str = "", tags: tuple[str, ...] = ()
) -> Entry[str]:
    return Entry("value", size, 0.0, expires, gone, owner=owner, tags=tags)


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def filled(names: Iterable[bytes], *, max_size: int = 100, max_bytes: int = PLENTY) -> Cache[str]:
    """A cache with an empty entry under each of `names`, put in that order at 0.0."""
    cache = Cache[str](max_size=max_size, max_bytes=max_bytes)
    for name in names:
        assert cache.put(name, entry(), 0.0)
    return cache


def names(cache: Cache[str]) -> list[bytes]:
    return [name for name, _ in cache.items()]


def cost(cache: Cache[str]) -> int:
    return sum(kept.size + OVERHEAD for _, kept in cache.items())


def test_what_was_put_is_found() -> None:
    """The very entry, under its own key and no other."""
    cache, kept = Cache[str](max_size=2, max_bytes=PLENTY), entry(7)
    assert cache.put(b"a", kept, 0.0)
    assert cache.look(b"a", 0.0) is kept
    assert cache.look(b"b", 0.0) is None
    assert (len(cache), cache.bytes, cache.stores) == (1, 7 + OVERHEAD, 1)


def test_the_least_recently_used_goes_first() -> None:
    """A look makes an entry the youngest, and so does putting it again; what is pushed out is the oldest."""
    cache = filled([b"a", b"b", b"c", b"d"], max_size=4)
    assert cache.look(b"a", 0.0) is not None
    assert cache.put(b"b", entry(), 0.0)
    assert names(cache) == [b"c", b"d", b"a", b"b"]
    assert cache.put(b"e", entry(), 0.0)
    assert names(cache) == [b"d", b"a", b"b", b"e"]
    assert cache.evictions == 1


def test_a_look_in_vain_moves_nothing() -> None:
    """Neither one for what is not there, nor going over everything."""
    cache = filled([b"a", b"b"])
    assert cache.look(b"x", 0.0) is None
    assert names(cache) == names(cache) == [b"a", b"b"]


@pytest.mark.parametrize("max_size", [1, 2, 7])
def test_never_more_entries_than_allowed(max_size: int) -> None:
    """The last `max_size` that were put are there, and the others were pushed out one by one."""
    cache = filled(map(key, range(20)), max_size=max_size)
    assert names(cache) == [key(number) for number in range(20 - max_size, 20)]
    assert cache.evictions == 20 - max_size


def test_never_more_bytes_than_allowed() -> None:
    """Contents and overhead together: as many of the oldest go as make room, and no more."""
    cache = Cache[str](max_size=100, max_bytes=10 * (OVERHEAD + 100))
    for number in range(10):
        assert cache.put(key(number), entry(100), 0.0)
    assert len(cache) == 10
    assert cache.put(b"large", entry(3 * (OVERHEAD + 100) - OVERHEAD), 0.0)
    assert names(cache) == [*map(key, range(3, 10)), b"large"]
    assert cache.bytes == cost(cache) == 10 * (OVERHEAD + 100)
    assert cache.put(b"one more byte", entry(1), 0.0)
    assert names(cache) == [*map(key, range(4, 10)), b"large", b"one more byte"]


@pytest.mark.parametrize(("size", "is_kept"), [(0, True), (5000 - OVERHEAD, True), (5001 - OVERHEAD, False)])
def test_what_could_never_fit_is_refused(size: int, is_kept: bool) -> None:
    """An entry of the whole allowance is kept, alone; a larger one pushes nobody out, and the one it was for stays."""
    cache = Cache[str](max_size=9, max_bytes=5000)
    first = entry(10)
    assert cache.put(b"a", first, 0.0)
    assert cache.put(b"a", entry(size), 0.0) is is_kept
    assert (len(cache), cache.bytes) == (1, (size if is_kept else 10) + OVERHEAD)
    assert (cache.look(b"a", 0.0) is first) is not is_kept
    assert cache.stores == 1 + is_kept


@pytest.mark.parametrize("bounds", [(0, PLENTY), (9, 0), (9, OVERHEAD - 1), (0, 0)])
def test_a_cache_without_room_keeps_nothing(bounds: tuple[int, int]) -> None:
    """It says so, and everything else works as on an empty one."""
    cache = Cache[str](max_size=bounds[0], max_bytes=bounds[1])
    assert not cache.put(b"a", entry(), 0.0)
    assert cache.look(b"a", 0.0) is None
    assert not cache.grow(b"a", 0)
    cache.sweep(1e9)
    assert (len(cache), cache.bytes, cache.stores, cache.evictions, cache.clear()) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("now", "is_found"), [(0.0, True), (50.0, True), (99.9, True), (100.0, False), (1e9, False)])
def test_an_entry_is_found_until_it_is_gone(now: float, is_found: bool) -> None:
    """That its time is over (`expires`) is the caller's business; `gone`, to the moment, it is not there any more."""
    cache = filled([b"a"])
    assert (cache.look(b"a", now) is not None) is is_found
    assert (len(cache), cache.expirations) == (is_found, not is_found)
    assert cache.bytes == is_found * OVERHEAD


@pytest.mark.parametrize("gone", [5.0, 4.9, -1.0])
def test_what_is_gone_already_is_not_kept(gone: float) -> None:
    """And what was kept under the key stays."""
    cache = filled([b"a"])
    assert not cache.put(b"a", entry(gone=gone), 5.0)
    assert cache.look(b"a", 5.0) is not None
    assert cache.stores == 1


def test_replacing_counts_once() -> None:
    """The new one's size takes the place of the old one's, and a replacement is no eviction."""
    cache = Cache[str](max_size=2, max_bytes=PLENTY)
    for size in (10, 1000, 0, 7):
        assert cache.put(b"a", entry(size), 0.0)
        assert (len(cache), cache.bytes) == (1, size + OVERHEAD)
    assert (cache.stores, cache.evictions, cache.expirations) == (4, 0, 0)


def test_a_full_cache_replaces_without_pushing_others_out() -> None:
    """The room of the old one is there for the new one."""
    cache = filled([b"a", b"b", b"c"], max_size=3, max_bytes=3 * OVERHEAD + 10)
    assert cache.put(b"b", entry(10), 0.0)
    assert names(cache) == [b"a", b"c", b"b"]
    assert cache.evictions == 0


@pytest.mark.parametrize(("first", "second"), [(100.0, 300.0), (300.0, 100.0), (100.0, 100.0)])
def test_a_replaced_entrys_time_says_nothing_of_the_new_one(first: float, second: float) -> None:
    """A sweep goes by the time of what is kept now, whatever the one before it had."""
    cache = Cache[str](max_size=3, max_bytes=PLENTY)
    assert cache.put(b"a", entry(gone=first), 0.0)
    assert cache.put(b"a", entry(gone=second), 0.0)
    cache.sweep(second - 1)
    assert len(cache) == 1
    cache.sweep(second)
    assert (len(cache), cache.bytes, cache.expirations) == (0, 0, 1)


def test_a_sweep_lets_go_of_a_few() -> None:
    """SWEPT at a time, those that are gone longest first, and nothing that is not gone."""
    cache = Cache[str](max_size=100, max_bytes=PLENTY)
    for number in range(30):
        assert cache.put(key(number), entry(gone=100.0 - number), 0.0)
    left = 30
    for _ in range(2):
        cache.sweep(90.0)  # 20 of them are gone
        left -= SWEPT
        assert names(cache) == [*map(key, range(left))]
    for _ in range(2):
        cache.sweep(90.0)
        assert names(cache) == [*map(key, range(10))]
    assert cache.expirations == 20
    assert cache.bytes == 10 * OVERHEAD


def test_a_put_pays_for_the_sweep_of_a_few() -> None:
    """One put drops at most SWEPT that are gone; with room enough it pushes nobody out beside."""
    cache = filled(map(key, range(100)), max_size=1000)
    for puts in range(1, 13):
        assert cache.put(b"new", entry(gone=500.0), 200.0)
        assert len(cache) == max(100 - SWEPT * puts, 0) + 1
    assert (cache.expirations, cache.evictions) == (12 * SWEPT, 0)


def test_what_is_gone_makes_room_before_anything_else_is_pushed_out() -> None:
    """The oldest is not evicted while the sweep finds room."""
    cache = Cache[str](max_size=3, max_bytes=PLENTY)
    for name, gone in ((b"a", 900.0), (b"b", 100.0), (b"c", 900.0)):
        assert cache.put(name, entry(gone=gone), 0.0)
    assert cache.put(b"d", entry(gone=900.0), 100.0)
    assert names(cache) == [b"a", b"c", b"d"]
    assert (cache.evictions, cache.expirations) == (0, 1)


def test_an_entry_may_grow_where_there_is_room() -> None:
    """To the last byte, and not by pushing others out; what does not fit changes nothing."""
    cache = filled([b"a", b"b"], max_bytes=2 * OVERHEAD + 50)
    assert cache.grow(b"a", 30)
    assert not cache.grow(b"b", 21)
    assert cache.grow(b"b", 20)
    assert not cache.grow(b"a", 1)
    assert not cache.grow(b"x", 0)
    assert {name: kept.size for name, kept in cache.items()} == {b"a": 30, b"b": 20}
    assert cache.bytes == cost(cache) == 2 * OVERHEAD + 50


@pytest.mark.parametrize("end", ["replaced", "evicted", "swept", "looked for", "cleared"])
def test_what_has_grown_is_given_back_whole(end: str) -> None:
    """However an entry leaves, all its bytes leave with it."""
    cache = filled([b"a"], max_size=1)
    assert cache.grow(b"a", 1000)
    if end == "replaced":
        assert cache.put(b"a", entry(), 0.0)
    elif end == "evicted":
        assert cache.put(b"b", entry(), 0.0)
    elif end == "swept":
        cache.sweep(100.0)
    elif end == "looked for":
        assert cache.look(b"a", 100.0) is None
    else:
        assert cache.clear() == 1
    assert cache.bytes == cost(cache) == len(cache) * OVERHEAD


def test_clearing_forgets_what_matches() -> None:
    """And says how many they were; the others stay as and where they are. Without a condition it is everything."""
    cache = Cache[str](max_size=10, max_bytes=PLENTY)
    for number in range(6):
        assert cache.put(key(number), entry(number, owner="ab"[number % 2], tags=("t",) * (number > 3)), 0.0)
    assert cache.clear(lambda kept: kept.owner == "a" and "t" not in kept.tags) == 2
    assert names(cache) == [key(1), key(3), key(4), key(5)]
    assert cache.bytes == cost(cache)
    assert cache.clear(lambda kept: kept.owner == "nobody") == 0
    assert cache.clear() == 4
    assert (len(cache), cache.bytes, cache.evictions, cache.expirations) == (0, 0, 0, 0)
    assert cache.put(b"a", entry(), 0.0)
    assert cache.look(b"a", 0.0) is not None


def tables(cache: Cache[str]) -> int:
    """Bytes of what the cache itself is made of."""
    return sys.getsizeof(cache._entries) + sys.getsizeof(cache._ends)


@pytest.mark.parametrize("churn", ["distinct", "replaced", "looked for when gone", "by bytes"])
def test_churn_leaves_no_trace(churn: str) -> None:
    """200,000 puts leave what 10,000 left, in bytes and tables: what was replaced or pushed out costs nothing."""
    entries = 100
    by_bytes = churn == "by bytes"
    cache = Cache[str](
        max_size=PLENTY if by_bytes else entries, max_bytes=entries * (OVERHEAD + 10) if by_bytes else PLENTY
    )
    early = late = 0
    for number in range(200_000 if churn == "distinct" else 40_000):
        now = number / 1000
        name = key(number % 50 if churn == "replaced" else number)
        gone = now + 0.001 if churn == "looked for when gone" else now + 1000
        assert cache.put(name, entry(10, gone=gone), now)
        if churn == "looked for when gone":
            assert cache.look(name, gone) is None
        assert len(cache) <= entries
        assert cache.bytes == len(cache) * (OVERHEAD + 10)
        assert len(cache._ends) <= 2 * (entries + 1) + 64
        if number < 10_000:
            early = max(early, tables(cache))
        else:
            late = max(late, tables(cache))
    assert late <= early


@pytest.mark.parametrize("load", ["distinct", "replaced", "large ones between small ones", "cleared"])
def test_tidying_up_costs_each_put_a_constant(load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of ends is made anew now and then: over all puts that touches no more places than a few for each."""
    touched: list[int] = []
    heapify = module.heapify

    def counted(ends: list[tuple[float, bytes]]) -> None:
        touched.append(len(ends))
        heapify(ends)

    monkeypatch.setattr(module, "heapify", counted)
    puts = 20_000
    cache = Cache[str](max_size=PLENTY, max_bytes=2000 * OVERHEAD)
    for number in range(puts):
        name = key(number % 300 if load == "replaced" else number)
        is_large = load.startswith("large") and number % 1000 == 999
        assert cache.put(name, entry(1990 * OVERHEAD if is_large else 0, gone=1e9), 0.0)
        if load == "cleared" and number % 1000 == 999:
            cache.clear()
    assert touched
    assert sum(touched) <= 2 * puts


def test_a_cleared_cache_gives_its_tables_back() -> None:
    """The next sweep lets go of the ends of what is there no more."""
    cache = filled(map(key, range(10_000)), max_size=10_000)
    assert cache.clear() == 10_000
    cache.sweep(0.0)
    assert len(cache._ends) <= 64


class Naive:
    """What the cache promises, in the simplest way: a list, oldest first."""

    def __init__(self) -> None:
        self.kept: list[tuple[bytes, Entry[str], int]] = []  # with the size it should have

    def names(self) -> list[bytes]:
        return [name for name, _, _ in self.kept]

    def without(self, *gone: bytes) -> None:
        self.kept = [place for place in self.kept if place[0] not in gone]

    @property
    def bytes(self) -> int:
        return sum(size + OVERHEAD for _, _, size in self.kept)


KEYS = st.integers(0, 30).map(key)


class CacheMachine(RuleBasedStateMachine):
    """Any order of calls, beside the naive one."""

    @initialize(max_size=st.integers(1, 25), room=st.integers(OVERHEAD, 25 * OVERHEAD))
    def begin(self, max_size: int, room: int) -> None:
        self.max_size, self.max_bytes = max_size, room
        self.cache, self.naive = Cache[str](max_size=max_size, max_bytes=room), Naive()
        self.now = 0.0
        self.stores = self.evictions = self.expirations = 0

    @rule(pause=st.sampled_from([0.0, 0.5, 1.0, 5.0]))
    def wait(self, pause: float) -> None:
        self.now += pause

    def swept(self) -> None:
        """What left because its time was over: as many as were counted, at most SWEPT, gone longest first."""
        amount = self.cache.expirations - self.expirations
        assert 0 <= amount <= SWEPT
        first = sorted((kept.gone, name) for name, kept, _ in self.naive.kept)[:amount]
        assert len(first) == amount
        assert all(gone <= self.now for gone, _ in first)
        self.expirations += amount
        self.naive.without(*(name for _, name in first))

    @rule(name=KEYS, size=st.integers(0, 5 * OVERHEAD), lives=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0, 10.0, 100.0]))
    def put(self, name: bytes, size: int, lives: float) -> None:
        new = entry(size, gone=self.now + lives)
        fits = size + OVERHEAD <= self.max_bytes and lives > 0
        assert self.cache.put(name, new, self.now) is fits
        if not fits:
            return
        self.stores += 1
        self.naive.without(name)
        self.naive.kept.append((name, new, size))
        self.swept()
        while len(self.naive.kept) > self.max_size or self.naive.bytes > self.max_bytes:
            self.naive.kept.pop(0)
            self.evictions += 1

    @rule(amount=st.integers(5, 30), first=st.integers(0, 30), lives=st.sampled_from([1.0, 3.0]))
    def put_many(self, amount: int, first: int, lives: float) -> None:
        for number in range(amount):
            self.put(key((first + number) % 31), number, lives)

    @rule(name=KEYS)
    def look(self, name: bytes) -> None:
        found = self.cache.look(name, self.now)
        known = next((place for place in self.naive.kept if place[0] == name), None)
        self.naive.without(name)
        if known is None or known[1].gone <= self.now:
            assert found is None
            self.expirations += known is not None
        else:
            assert found is known[1]
            self.naive.kept.append(known)

    @rule(name=KEYS, more=st.integers(0, 3 * OVERHEAD))
    def grow(self, name: bytes, more: int) -> None:
        fits = name in self.naive.names() and self.naive.bytes + more <= self.max_bytes
        assert self.cache.grow(name, more) is fits
        if fits:
            self.naive.kept = [(n, kept, size + more * (n == name)) for n, kept, size in self.naive.kept]

    @rule()
    def sweep(self) -> None:
        self.cache.sweep(self.now)
        self.swept()

    @rule(owner=st.integers(0, 3))
    def clear(self, owner: int) -> None:
        matching = [name for name, kept, _ in self.naive.kept if kept.size % 4 == owner]
        assert self.cache.clear(lambda kept: kept.size % 4 == owner) == len(matching)
        self.naive.without(*matching)

    @precondition(lambda self: len(self.naive.kept) > 20)
    @rule()
    def clear_all(self) -> None:
        assert self.cache.clear() == len(self.naive.kept)
        self.naive.kept.clear()

    @invariant()
    def both_keep_the_same(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert [(name, kept, kept.size) for name, kept in self.cache.items()] == self.naive.kept
        assert (len(self.cache), self.cache.bytes) == (len(self.naive.kept), self.naive.bytes)
        assert len(self.cache) <= self.max_size
        assert self.cache.bytes <= self.max_bytes
        counted = (self.cache.stores, self.cache.evictions, self.cache.expirations)
        assert counted == (self.stores, self.evictions, self.expirations)

    def teardown(self) -> None:
        """Sweeping often enough lets go of everything that is gone, whatever was replaced or pushed out before."""
        if not hasattr(self, "cache"):
            return
        for _ in range((2 * self.max_size + 64 + 31) // SWEPT + 2):
            self.cache.sweep(self.now)
        assert self.cache.clear(lambda kept: kept.gone <= self.now) == 0
        assert self.cache.bytes == cost(self.cache)


TestAnyOrderOfCalls = CacheMachine.TestCase
TestAnyOrderOfCalls.settings = settings(max_examples=50, stateful_step_count=40)
