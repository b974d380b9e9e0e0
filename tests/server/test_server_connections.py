"""The server's connections: a thread that is still at work keeps the one it has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from doors import Door
from pysqlite3.dbapi2 import Connection

from wabcast.server.connections import Connections
from wabcast.store import accounts


@pytest.fixture
async def door(db: Connection, db_path: Path, clock: StillClock) -> AsyncIterator[Door]:
    async with Door(db, db_path, clock) as door:
        yield door


async def test_a_request_that_is_cancelled_does_not_free_the_connection_of_its_thread(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, enough, ended = threading.Event(), threading.Event(), threading.Event()
    at_work: list[Connection] = []

    def every(db: Connection) -> list[Any]:
        at_work.append(db)
        db.execute("begin")
        begun.set()
        enough.wait(30)
        assert db.in_transaction, "another thread has ended what this one began"
        ended.set()
        return []

    monkeypatch.setattr(accounts, "every", every)
    asking = asyncio.create_task(door.get("/accounts"))
    assert await asyncio.to_thread(begun.wait, 30)
    asking.cancel()
    await asyncio.wait([asking])
    for _ in range(3):
        assert (await door.get("/campaigns")).status_code == 200
    free = [id(db) for db in door.house.connections._free]
    assert id(at_work[0]) not in free
    enough.set()
    assert await asyncio.to_thread(ended.wait, 30)


def test_what_was_left_open_is_rolled_back_and_used_again(db_path: Path) -> None:
    connections = Connections(db_path)
    with connections.one() as first:
        first.execute("begin immediate")
    with connections.one() as second:
        assert second is first
        assert not second.in_transaction
    connections.close()
