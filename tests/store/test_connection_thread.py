"""One thread has the connection, from its opening to its end, whoever stops waiting."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from pysqlite3.dbapi2 import Connection, ProgrammingError

from wabcast.store import database
from wabcast.store.connection_thread import ConnectionThread

LONG = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


class Reading:
    """A question that SQLite is at until it is let go of."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.enough = threading.Event()
        self.ended = threading.Event()

    def __call__(self, db: Connection) -> str:
        def look() -> int:
            self.begun.set()
            return int(self.enough.is_set())

        db.set_progress_handler(look, 1000)
        try:
            db.execute(LONG)
        except database.OperationalError:  # interrupted, as it was asked to
            self.ended.set()
        db.set_progress_handler(None, 0)
        return "read"


async def begun(reading: Reading) -> None:
    assert await asyncio.to_thread(reading.begun.wait, 30)


async def test_closing_waits_for_what_is_read_also_where_its_reader_was_cancelled(
    db_path: Path,
) -> None:
    thread, reading = ConnectionThread(db_path, "test"), Reading()
    asking = asyncio.create_task(thread.ask(reading))
    await begun(reading)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    closing = asyncio.create_task(thread.aclose())
    await asyncio.sleep(0.05)
    assert not closing.done()
    closing.cancel()  # nor does that free it
    await asyncio.wait([closing])
    assert not reading.ended.is_set()
    reading.enough.set()
    assert await asyncio.to_thread(reading.ended.wait, 30)


async def test_the_next_question_comes_after_an_answer_that_nobody_awaits(db_path: Path) -> None:
    thread, reading = ConnectionThread(db_path, "test"), Reading()
    first = asyncio.create_task(thread.ask(reading))
    await begun(reading)
    first.cancel()
    second = asyncio.create_task(thread.ask(lambda db: db.execute("select 1").fetchone()[0]))
    await asyncio.sleep(0.05)
    assert not second.done()
    reading.enough.set()
    assert await second == 1
    assert reading.ended.is_set()
    await thread.aclose()


async def test_nobody_else_may_touch_it(db_path: Path) -> None:
    thread = ConnectionThread(db_path, "test")
    connection = await thread.ask(lambda db: db)
    for touch in (connection.close, lambda: connection.execute("select 1")):
        with pytest.raises(ProgrammingError):
            touch()
    await thread.aclose()
