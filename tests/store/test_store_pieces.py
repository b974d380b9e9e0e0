"""Large work in small transactions: whole at the end, let in between, resumable."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast.clock import SECOND, Clock
from wabcast.store import database, pieces
from wabcast.store.database import immediate
from wabcast.store.pieces import in_pieces

ROWS = 12_000

FILL = """
with recursive n (i) as (select 1 union all select i + 1 from n where i < :rows)
insert into events (at, event) select '', 'new' from n
"""

CHANGE = """
update events set event = 'old'
 where id in (select id from events where event = 'new' limit :most)
"""


class SlowClock(StillClock):
    """A machine on which each piece takes so long, in seconds a row; it waits for nothing."""

    def __init__(self, a_row: float = 0.0) -> None:
        super().__init__()
        self.spent = 0
        self.a_row = a_row
        self.pauses: list[float] = []

    def steady(self) -> int:
        return self.spent

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def change(db: Connection) -> Callable[[int], int]:
    with immediate(db):
        db.execute(FILL, {"rows": ROWS})
    return lambda most: int(db.execute(CHANGE, {"most": most}).rowcount)


def left(db: Connection) -> int:
    return int(db.execute("select count(*) from events where event = 'new'").fetchone()[0])


def test_all_is_done_in_pieces_each_committed(
    db: Connection, change: Callable[[int], int], db_path: Path
) -> None:
    other = database.connect(db_path)
    seen: list[tuple[int, int]] = []
    clock = SlowClock()
    total = in_pieces(db, change, clock=clock, tick=lambda count: seen.append((count, left(other))))
    assert total == ROWS
    assert [ahead for _, ahead in seen][-1] == 0
    assert [count for count, _ in seen] == [500, 1000, 2000, 4000, 4500]  # as quick as it can
    done = 0
    for count, ahead in seen:
        done += count
        assert ahead == ROWS - done, "another process sees each piece when it is done"
    assert clock.pauses == [pieces.GAP], "nobody else writes, and it took no time"
    other.close()


@pytest.mark.parametrize("piece", [0.01, 0.03, 0.04, 0.2])
def test_where_nobody_else_writes_the_lock_is_held_for_a_tenth_of_a_second_at_a_stretch(
    db: Connection, piece: float
) -> None:
    clock = SlowClock()
    stretches: list[float] = [0.0]

    def change(most: int) -> int:
        clock.spent += round(piece * SECOND)
        if len(clock.pauses) >= len(stretches):
            stretches.append(0.0)
        stretches[-1] += piece
        return most if sum(stretches) < 4 else 0

    in_pieces(db, change, clock=clock)
    assert stretches[0] == piece, "behind the first it looks whether others write"
    assert max(stretches) <= max(piece, 0.11)
    assert max(stretches) >= min(piece, 0.07)


def test_where_others_write_each_piece_is_followed_by_a_rest(
    db: Connection, change: Callable[[int], int], db_path: Path
) -> None:
    other = database.connect(db_path)
    clock = SlowClock()

    sizes: list[int] = []

    def tick(count: int) -> None:
        sizes.append(count)
        if len(sizes) > 1:
            with immediate(other):
                other.execute("update events set actor = ? where id = 1", (count,))

    in_pieces(db, change, clock=clock, tick=tick)
    assert len(sizes) == 5
    rests = [pieces.GAP, pieces.GAP_BESIDE, pieces.GAP_BESIDE]
    assert clock.pauses == rests, "not behind the second, which nobody had written before"
    other.close()


def test_a_piece_is_as_large_as_the_machine_is_quick(db: Connection) -> None:
    clock = SlowClock()
    wanted: list[int] = []

    def change(most: int) -> int:
        wanted.append(most)
        clock.spent += round(most * 0.0002 * SECOND)  # a fifth of a millisecond each
        return most if len(wanted) < 5 else 0

    in_pieces(db, change, clock=clock)
    assert wanted == [500, 200, 200, 200, 200]


def test_beside_others_a_piece_is_half_as_large(db: Connection, db_path: Path) -> None:
    other = database.connect(db_path)
    clock = SlowClock()
    wanted: list[int] = []

    def change(most: int) -> int:
        wanted.append(most)
        clock.spent += round(most * 0.0002 * SECOND)  # a fifth of a millisecond each
        return most if len(wanted) < 5 else 0

    def tick(_count: int) -> None:
        with immediate(other):
            other.execute("insert into events (at, event) values ('', 'theirs')")

    in_pieces(db, change, clock=clock, tick=tick)
    assert wanted == [500, 100, 100, 100, 100]
    other.close()


@pytest.mark.parametrize("a_row", [1.0, 1e-9])
def test_a_piece_is_never_too_large_and_never_nothing(db: Connection, a_row: float) -> None:
    clock = SlowClock()
    wanted: list[int] = []

    def change(most: int) -> int:
        wanted.append(most)
        clock.spent += round(most * a_row * SECOND)
        return most if len(wanted) < 9 else 0

    in_pieces(db, change, clock=clock)
    assert max(wanted) <= pieces.MOST == 5000
    assert min(wanted) >= pieces.LEAST
    assert wanted[-1] == (pieces.LEAST if a_row == 1.0 else pieces.MOST)


def test_what_fails_in_a_piece_leaves_the_others_standing(
    db: Connection, change: Callable[[int], int]
) -> None:
    calls = 0

    def breaks(most: int) -> int:
        nonlocal calls
        calls += 1
        count = change(most)
        if calls == 2:
            raise RuntimeError("in the middle")
        return count

    with pytest.raises(RuntimeError, match="in the middle"):
        in_pieces(db, breaks, clock=SlowClock())
    assert not db.in_transaction
    assert left(db) == ROWS - 500
    assert in_pieces(db, change, clock=SlowClock()) == ROWS - 500
    assert left(db) == 0


def test_time_that_is_up_leaves_the_rest(db: Connection, change: Callable[[int], int]) -> None:
    clock = SlowClock()

    def slow(most: int) -> int:
        clock.spent += SECOND
        return change(most)

    within = timedelta(seconds=2)
    assert in_pieces(db, slow, clock=clock, within=within) == 600
    assert left(db) == ROWS - 600


def test_others_write_between_the_pieces(
    db: Connection, change: Callable[[int], int], db_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real time, a real lock, and a writer that waits for it as every process does."""
    monkeypatch.setattr(pieces, "MOST", 500)
    writes = 0
    over = threading.Event()
    ready = threading.Event()

    def write() -> None:
        nonlocal writes
        other = database.connect(db_path)
        ready.set()
        while not over.is_set():
            with immediate(other):
                other.execute("update events set data = '{}' where id = 1")
            writes += 1
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    ready.wait()
    before = writes
    sizes: list[int] = []
    in_pieces(db, change, clock=Clock(), tick=sizes.append)
    between = writes - before
    over.set()
    writer.join()
    assert len(sizes) >= ROWS / 500
    assert between >= len(sizes) / 2, f"{between} writes beside {len(sizes)} pieces"
