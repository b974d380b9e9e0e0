"""One thread writes, in groups: nothing is told before it is on disk, nothing told is lost."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pysqlite3.dbapi2 import Connection

from wabcast.errors import StoreError
from wabcast.recorder import GROUP, Recorder
from wabcast.store import database

ADD = "insert into suppressions (phone_hash, reason, at) values (?, ?, '')"


def add(word: str, reason: str = "") -> Callable[[Connection], str]:
    def write(db: Connection) -> str:
        db.execute(ADD, (word, reason))
        return word

    return write


def fail(_db: Connection) -> None:
    raise ZeroDivisionError("a bug")


class Counted(Recorder):
    """Counts its commits."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.groups: list[int] = []

    def _attempt(self, db: Connection, group: list[Any]) -> None:  # type: ignore[override]
        self.groups.append(len(group))
        super()._attempt(db, group)


@pytest.fixture
async def recorder(db: Connection, db_path: Path) -> AsyncIterator[Counted]:
    assert db
    recorder = Counted(db_path)
    recorder.start()
    yield recorder
    await recorder.stop()


def words(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("select phone_hash from suppressions order by 1")]


async def test_what_is_told_is_on_disk(recorder: Counted, db: Connection) -> None:
    for number in range(20):
        assert await recorder.write(add(f"{number:03}")) == f"{number:03}"
        assert words(db)[-1] == f"{number:03}"


async def test_marks_that_gather_share_a_commit_in_their_order(
    recorder: Counted, db: Connection
) -> None:
    marks = [recorder.write(add(f"{number:04}")) for number in range(1000)]
    seen: list[int] = []
    for mark in marks:
        mark.add_done_callback(lambda done: seen.append(int(done.result())))
    await asyncio.wait(marks)
    await asyncio.sleep(0)
    assert len(words(db)) == 1000
    assert seen == sorted(seen)
    assert max(recorder.groups) <= GROUP
    assert len(recorder.groups) < 200


async def test_a_bug_in_one_write_undoes_its_group_and_no_other(
    recorder: Counted, db: Connection
) -> None:
    await recorder.write(add("before"))
    with database.immediate(db):  # the thread waits here: the three gather
        blocked = recorder.write(add("blocked"))
        await asyncio.sleep(0.05)
        writes: list[Callable[[Connection], Any]] = [add("first"), fail, add("last")]
        group = [recorder.write(write) for write in writes]
    await blocked
    for mark in group:
        with pytest.raises(ZeroDivisionError):
            await mark
    assert await recorder.write(add("after")) == "after"
    assert words(db) == ["after", "before", "blocked"]


async def test_a_locked_database_is_waited_for(recorder: Counted, db: Connection) -> None:
    await recorder.write(add("before"))
    with database.immediate(db):
        marks = [recorder.write(add("intent")), recorder.write(add("outcome"), must=True)]
        async with asyncio.timeout(10):
            while recorder.blocked_since is None:  # noqa: ASYNC110  # another thread says so
                await asyncio.sleep(0.02)
        assert not any(mark.done() for mark in marks)
    await asyncio.wait(marks)
    assert words(db) == ["before", "intent", "outcome"]
    assert recorder.blocked_since is None


async def test_an_outcome_goes_with_the_next_intent_and_alone_after_a_moment(
    recorder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wabcast.recorder.OUTCOME_DELAY", 60.0)
    waits = recorder.write(add("outcome"), must=True)
    await asyncio.sleep(0.05)
    assert not recorder.groups
    await recorder.write(add("intent"))
    assert waits.done()
    assert recorder.groups == [2]
    await asyncio.sleep(0)
    monkeypatch.setattr("wabcast.recorder.OUTCOME_DELAY", 0.001)
    fresh = Counted(recorder._path)  # one without a wait under way
    fresh.start()
    assert await fresh.write(add("alone"), must=True) == "alone"
    await fresh.stop()


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """No file may grow beyond `size`, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [50, 4_000, 60_000, 9_000_000])
async def test_a_full_disk_refuses_intents_and_keeps_outcomes(
    recorder: Counted, db: Connection, db_path: Path, size: int
) -> None:
    """The last size is spilled before the commit, the others fail at it."""
    await recorder.write(add("before"))
    wal = db_path.with_name(db_path.name + "-wal")
    db.execute("begin immediate")  # the thread waits here: the others gather
    blocked = recorder.write(lambda _db: None)
    await asyncio.sleep(0.05)
    outcome = recorder.write(add("outcome", "x" * size), must=True)
    intent = recorder.write(add("intent", "x" * size))
    with no_room(wal.stat().st_size + size // 2):
        db.execute("rollback")
        await blocked
        # The intent is refused, the outcome tried again.
        while recorder.groups[-1] != 1 or len(recorder.groups) < 4:  # noqa: ASYNC110  # a thread
            await asyncio.sleep(0.02)
        assert not outcome.done()
    async with asyncio.timeout(5):
        assert await outcome == "outcome"
        with pytest.raises(StoreError) as raised:
            await intent
        assert "free some space" in raised.value.hint
        assert await recorder.write(add("after")) == "after"
    assert words(db) == ["after", "before", "outcome"]
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"


async def test_a_waiter_that_is_cancelled_takes_nothing_back(
    recorder: Counted, db: Connection
) -> None:
    await recorder.write(add("before"))
    with database.immediate(db):
        mark = recorder.write(add("mark"))
        mark.cancel()
    assert await recorder.write(add("next")) == "next"
    assert words(db) == ["before", "mark", "next"]


async def test_stopping_writes_what_is_left(db: Connection, db_path: Path) -> None:
    recorder = Recorder(db_path)
    recorder.start()
    marks = [recorder.write(add(f"{number:04}")) for number in range(500)]
    await recorder.stop()
    assert len(words(db)) == 500
    await asyncio.wait(marks)
