"""The cache in a file: what comes back is what was kept, and whatever happens to the file, the server starts."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.core.answer import Answer, Form
from runestone.core.cache import OVERHEAD, Cache, Entry
from runestone.core.call import Operation, Target
from runestone.core.summary import Summary
from runestone.stores import sqlite
from runestone.stores.answers import AnswersFile, entry_of, rows_of
from runestone.stores.sqlite import Row, Unusable

NOW, WALL = 1000.0, 1_700_000_000.0
LOOK: dict[str, Any] = {"now": WALL, "max_size": 1000, "max_cost": 10**9}


def entry(forms: dict[Form, bytes] | None = None, *, age: float = 1.0, ttl: float = 60.0, **more: Any) -> Entry[Answer]:
    forms = forms or {Form.WHOLE: b'{"a":1}'}
    pace = more.pop("pace", ())
    answer = Answer(more.pop("operation", Operation.CHAT), forms, more.pop("summary", Summary()), None, pace)
    answer.target = more.pop("target", None)
    stored, size = NOW - age, sum(map(len, forms.values())) + 24 * len(pace)
    stale = more.pop("stale", 0.0)
    return Entry(answer, size, stored, stored + ttl, stored + ttl + stale, **more)


def contents(entry: Entry[Answer]) -> tuple[object, ...]:
    answer = entry.value
    said = (answer.operation, answer.forms, list(answer.forms), answer.summary, answer.target, answer.pace)
    return (*said, entry.size, entry.owner, entry.model, entry.tags)


def cache_of(*entries: Entry[Answer]) -> Cache[Answer]:
    kept: Cache[Answer] = Cache(max_size=1000, max_bytes=10**9)
    for number, one in enumerate(entries):
        kept.put(b"%032d" % number, one, NOW)
    return kept


def save(path: Path, kept: Cache[Answer]) -> None:
    asyncio.run(AnswersFile(path, kept, max_size=1000, max_bytes=10**9).save())


def load(path: Path, max_size: int = 1000, max_bytes: int = 10**9) -> Cache[Answer]:
    back: Cache[Answer] = Cache(max_size=20_000, max_bytes=10**9)
    asyncio.run(AnswersFile(path, back, max_size=max_size, max_bytes=max_bytes).load())
    return back


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """What the module's clocks say."""
    told = {"now": NOW, "wall": WALL}
    monkeypatch.setattr("runestone.stores.answers.perf_counter", lambda: told["now"])
    monkeypatch.setattr("runestone.stores.answers.time", lambda: told["wall"])
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


WORDS = st.text(st.characters(), max_size=20)  # lone surrogates too: headers and lenient JSON bring them in
COUNTS = st.none() | st.integers(0, 2**53 - 1)
PACES = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 2**40)), max_size=4).map(tuple)


@given(
    forms=st.dictionaries(st.sampled_from(Form), st.binary(max_size=50), min_size=1),
    operation=st.sampled_from(Operation),
    summary=st.builds(Summary, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.none() | WORDS, st.none() | WORDS, WORDS),
    target=st.none() | st.builds(Target, WORDS, WORDS),
    pace=PACES,
    owner=WORDS,
    model=WORDS,
    tags=st.lists(WORDS, max_size=3).map(tuple),
)
def test_what_comes_back_is_what_was_kept(**said: Any) -> None:
    """Every form, name, number and moment."""
    kept = entry(age=12.5, ttl=60.25, stale=7.0, **said)
    ((key, back),) = [entry_of(row, NOW, WALL) for row in rows_of([(b"key", kept)], NOW, WALL)]
    assert (key, contents(back)) == (b"key", contents(kept))
    assert [back.stored, back.expires, back.gone] == pytest.approx([kept.stored, kept.expires, kept.gone], abs=1e-5)


def test_a_file_brings_the_answers_back_in_their_order(path: Path, clock: dict[str, float]) -> None:
    """The least recently used is again the first to go; the file is its owner's alone, and alone."""
    kept = cache_of(*(entry(model=f"m{number}", tags=("t",), owner="k") for number in range(4)))
    kept.look(b"%032d" % 0, NOW)
    save(path, kept)
    assert (path.stat().st_mode & 0o777, [p.name for p in path.parent.iterdir()]) == (0o600, ["cache.db"])
    back = load(path)
    assert [(key, contents(one)) for key, one in back.items()] == [(key, contents(one)) for key, one in kept.items()]
    assert [one.model for _, one in back.items()] == ["m1", "m2", "m3", "m0"]
    assert back.bytes == kept.bytes


def test_a_second_save_takes_the_place_of_the_first(path: Path, clock: dict[str, float]) -> None:
    """What was cleared does not come back; a link to the file stays a link."""
    real = path.with_name("real.db")
    path.symlink_to(real)
    save(path, cache_of(entry(), entry()))
    save(path, cache_of())
    assert path.is_symlink()
    assert list(sqlite.load(path, **LOOK)) == []


@pytest.mark.parametrize(
    ("max_size", "max_bytes", "left"),
    [(10, 10**6, 4), (2, 10**6, 2), (10, 3 * (OVERHEAD + 100), 3), (10, 3 * (OVERHEAD + 100) - 1, 2), (0, 10**6, 0)],
)
def test_what_is_loaded_is_bounded(
    max_size: int, max_bytes: int, left: int, path: Path, clock: dict[str, float]
) -> None:
    """By number and by bytes, whatever the run before was allowed; the most recently used stay."""
    save(path, cache_of(*(entry({Form.WHOLE: b"x" * 100}, model=f"{n}") for n in range(4))))
    back = load(path, max_size, max_bytes)
    assert [one.model for _, one in back.items()] == ["0", "1", "2", "3"][4 - left :]


def test_one_that_is_too_large_now_does_not_keep_the_others_out(path: Path, clock: dict[str, float]) -> None:
    """A lower max_bytes leaves out what could never fit, and goes on."""
    sizes = (100, 100, 50_000)
    save(path, cache_of(*(entry({Form.WHOLE: b"x" * size}) for size in sizes)))
    rows = sqlite.load(path, now=WALL, max_size=10, max_cost=10_000, overhead=OVERHEAD)
    assert [len(row.body) for row in rows] == [100, 100]


def test_what_is_over_is_left_out(path: Path, clock: dict[str, float]) -> None:
    """At the save and at the load; what may still be given after its time comes back as what it is."""
    entries = [entry(ttl=30.0, model="short"), entry(ttl=30.0, stale=100.0, model="stale"), entry(ttl=500.0, model="")]
    save(path, cache_of(entry(ttl=0.5, model="over"), *entries))
    assert len(list(sqlite.load(path, **LOOK))) == 3
    clock["wall"] += 60.0
    clock["now"] = 5.0  # another process, another zero
    back = load(path)
    assert [(one.model, round(one.expires - 5.0), round(5.0 - one.stored)) for _, one in back.items()] == [
        ("stale", -31, 61),
        ("", 439, 61),
    ]


@pytest.mark.parametrize(
    ("stepped", "left", "age"),
    [
        (0.0, 50, 10),
        (20.0, 30, 30),
        (49.0, 1, 59),
        (51.0, None, None),
        (1e9, None, None),
        (-20.0, 50, 10),
        (-1e9, 50, 10),
    ],
)
def test_no_clock_lets_an_answer_live_longer(
    stepped: float, left: int | None, age: int | None, path: Path, clock: dict[str, float]
) -> None:
    """Time that passed counts; a wall clock that stepped back gives nothing, however far."""
    save(path, cache_of(entry(age=10.0, ttl=60.0)))
    clock["wall"] += stepped
    back = load(path)
    found = [(round(one.expires - NOW), round(NOW - one.stored)) for _, one in back.items()]
    assert found == ([(left, age)] if left is not None else [])


def test_many_runs_with_a_clock_that_goes_back_add_up_to_one_life(path: Path, clock: dict[str, float]) -> None:
    """Each run takes ten seconds, and the wall clock shows less each time: after six the minute is over."""
    kept = cache_of(entry(age=0.0, ttl=60.0))
    for run in range(1, 8):
        clock["now"] += 10.0
        save(path, kept)
        clock["wall"] -= 1000.0
        kept = load(path)
        assert len(kept) == (1 if run < 6 else 0), run


def test_a_save_that_fails_leaves_the_old_file(
    path: Path, clock: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether a row, SQLite or the system fails; nothing is left beside the file, and the end is not stopped."""
    save(path, cache_of(entry()))
    before = path.read_bytes()

    def breaking(error: Exception) -> Iterator[Row]:
        yield from rows_of([(b"k", entry())], NOW, WALL)
        raise error

    for error in (OSError("full"), sqlite3.OperationalError("disk full"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(OSError if isinstance(error, sqlite3.Error) else type(error)):
            sqlite.save(path, breaking(error))
    assert (path.read_bytes(), [p.name for p in path.parent.iterdir()]) == (before, ["cache.db"])
    nowhere = path.parent / "gone" / "cache.db"
    save(nowhere, cache_of(entry()))
    assert caplog.messages == [f"the answers could not be kept in {nowhere}: No such file or directory"]


def test_what_killed_saves_left_is_taken_away(path: Path) -> None:
    """Once it is old enough to be nobody's; and nothing that only looks like it."""
    old, young, other = (path.with_name(name) for name in ("cache.db.a.tmp", "cache.db.b.tmp", "cache.dbx.tmp"))
    for file in (old, young, other):
        file.write_text("x")
    os.utime(old, (1.0, 1.0))
    os.utime(other, (1.0, 1.0))
    sqlite.save(path, [])
    assert {file.name for file in path.parent.iterdir()} == {"cache.db", young.name, other.name}


def sample(count: int = 8) -> list[tuple[bytes, Entry[Answer]]]:
    """Rows of a page, of several, and of a few hundred bytes."""
    dice = random.Random(4)
    sizes = [dice.choice((40, 300, 3000, 9000)) for _ in range(count)]
    return list(cache_of(*(entry({Form.WHOLE: dice.randbytes(size)}, model=f"m{size}") for size in sizes)).items())


def survives(path: Path, whole: dict[bytes, tuple[object, ...]]) -> int:
    """Loads a damaged file: no exception, and nothing that was not kept. How many came back."""
    back = load(path)
    for key, one in back.items():
        assert contents(one) == whole[key]
    aside = path.with_name("cache.db.corrupt")
    if aside.exists():
        assert len(back) == 0
        assert not path.exists()
        aside.unlink()
    return len(back)


def test_a_file_cut_anywhere_never_stops_the_start(path: Path, clock: dict[str, float]) -> None:
    """At every few bytes: what comes back is right, or nothing does."""
    kept = sample()
    whole = {key: contents(one) for key, one in kept}
    sqlite.save(path, rows_of(kept, NOW, WALL))
    data = path.read_bytes()
    back = 0
    for end in sorted({0, 1, 15, 16, 99, 100, 101, *range(512, len(data), 509), len(data) - 1}):
        path.write_bytes(data[:end])
        back += survives(path, whole)
    assert back == 0


def test_a_file_with_noise_anywhere_never_stops_the_start(path: Path, clock: dict[str, float]) -> None:
    """Random bytes in random places: no wrong answer, and no exception."""
    dice = random.Random(7)
    kept = sample()
    whole = {key: contents(one) for key, one in kept}
    sqlite.save(path, rows_of(kept, NOW, WALL))
    data = path.read_bytes()
    refused = 0
    for round_ in range(200):
        noisy = bytearray(data)
        for _ in range(dice.choice((1, 1, 3, 20))):
            at = dice.randrange(100 if round_ % 4 == 0 else len(data))
            noise = dice.randbytes(dice.choice((1, 1, 8, 600)))[: len(data) - at]
            noisy[at : at + len(noise)] = noise
        path.write_bytes(noisy)
        refused += survives(path, whole) < len(kept)
    assert refused > 100, "most damage is noticed, and the rest lies where nothing is"


@pytest.mark.parametrize(
    "kind", ["empty", "text", "no words", "foreign", "older", "newer", "no table", "another table"]
)
def test_what_is_not_ours_is_moved_aside(
    kind: str, path: Path, clock: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, the file under another name, an empty cache; the next save goes where it always went."""
    sqlite.save(path, rows_of(sample(2), NOW, WALL))
    contents_of = {
        "empty": b"",
        "text": b"not a database at all\n" * 500,
        "no words": path.read_bytes().replace(b"CREATE TABLE", b"CREATE \x97ABLE"),
    }
    if kind in contents_of:
        path.write_bytes(contents_of[kind])
    else:
        statements = {
            "foreign": "PRAGMA application_id = 7",
            "older": f"PRAGMA user_version = {sqlite.FORMAT - 1}",
            "newer": f"PRAGMA user_version = {sqlite.FORMAT + 1}",
            "no table": "DROP TABLE rows",
            "another table": "ALTER TABLE rows RENAME COLUMN about TO above",
        }
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(statements[kind])
    data = path.read_bytes()
    back = load(path)
    assert len(back) == 0
    assert (path.exists(), path.with_name("cache.db.corrupt").read_bytes()) == (False, data)
    assert [(record.levelno, "cache begins empty" in record.message) for record in caplog.records] == [
        (logging.WARNING, True)
    ]
    save(path, cache_of(entry()))
    assert len(list(sqlite.load(path, **LOOK))) == 1


@pytest.mark.parametrize(
    "about", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"forms": [["none", 1]]}', b'{"forms": 1}']
)
def test_rows_of_another_mind_are_not_understood(about: bytes) -> None:
    """A row whose digest is right and whose contents mean nothing here."""
    with pytest.raises(Unusable):
        entry_of(Row(b"k", WALL, WALL, WALL + 9, WALL + 9, 1, about, b"x"), NOW, WALL)


def test_a_row_that_says_less_than_it_holds_is_not_believed(path: Path) -> None:
    """Forms and body belong together."""
    (row,) = rows_of([(b"k", entry())], NOW, WALL)
    for body in (row.body + b"x", row.body[:-1], b""):
        with pytest.raises(Unusable):
            entry_of(Row(row.key, row.saved, row.stored, row.expires, row.gone, row.size, row.about, body), NOW, WALL)


def test_without_a_file_nothing_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start is no fault."""
    caplog.set_level(logging.INFO)
    load(path)
    assert caplog.records == []


def test_what_cannot_be_read_stays_where_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder, or a file of somebody else, is not damaged: it is said, and left alone."""
    path.mkdir()
    load(path)
    said = f"{path} cannot be read: Is a directory; the cache begins empty, and is not kept there"
    assert caplog.messages == [said]
    assert path.is_dir()


def test_what_could_not_be_read_is_not_written(path: Path, clock: dict[str, float]) -> None:
    """It may be somebody else's, and worth more than a cache."""
    path.write_bytes(b"precious")
    (path.parent / "cache.db.corrupt" / "x").mkdir(parents=True)
    file = AnswersFile(path, cache_of(entry()), max_size=1000, max_bytes=10**9)
    asyncio.run(file.load())
    asyncio.run(file.save())
    assert path.read_bytes() == b"precious"


def test_what_cannot_be_moved_aside_stops_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The name is taken by a folder: the warning says so."""
    path.write_bytes(b"")
    (path.parent / "cache.db.corrupt" / "x").mkdir(parents=True)
    load(path)
    assert "cannot be moved aside (Is a directory)" in caplog.messages[0]


def test_a_full_cache_is_saved_and_loaded_in_a_moment(path: Path) -> None:
    """Ten thousand answers, as many as the defaults keep: far below a second each way, where nothing else runs."""
    kept: Cache[Answer] = Cache(max_size=10_000, max_bytes=10**9)
    now = time.perf_counter()
    for number in range(10_000):
        answer = Answer(Operation.CHAT, {Form.WHOLE: b"x" * 500}, Summary(), None)
        kept.put(b"%d" % number, Entry(answer, 500, now, now + 600.0, now + 600.0), now)
    began = time.perf_counter()
    save(path, kept)
    assert len(load(path, 10_000)) == 10_000
    assert time.perf_counter() - began < 10.0
