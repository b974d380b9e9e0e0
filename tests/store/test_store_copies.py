"""A file that is not the one it was: what would send is paused, once, until a person resumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign
from wabcast.store import campaigns, copies, whereabouts
from wabcast.store.database import backup, connect

AT = "2026-11-05T10:00:00.000Z"


@pytest.fixture
def lively(db: Connection, make: Make) -> None:
    running = make.campaign("running", status="running", run_id="a run")
    make.campaign_message("queued", campaign=running)
    make.campaign("waiting", status="scheduled")
    make.campaign("resting", status="paused")
    db.execute("update campaigns set resume_at = '2020' where name = 'resting'")
    make.campaign("by hand", status="paused")
    make.campaign("done", status="completed")
    db.execute("pragma wal_checkpoint(truncate)").fetchall()


@contextmanager
def met(path: Path) -> Iterator[tuple[list[str], dict[str, Campaign]]]:
    with closing(connect(path)) as db:
        names = [campaign.name for campaign in copies.meet(db, at=AT)]
        yield names, {campaign.name: campaign for campaign in campaigns.listed(db)}


@pytest.mark.usefixtures("lively")
def test_a_copy_comes_up_paused_and_is_met_once(db_path: Path) -> None:
    copy = db_path.with_name("copy.db")
    shutil.copy2(db_path, copy)
    with met(copy) as (names, told):
        assert names == ["running", "waiting", "resting"]
        assert {told[name].status for name in names} == {"paused"}
        assert {told[name].reason for name in names} == {copies.STRAYED}
        assert (told["running"].queued, told["running"].in_doubt) == (0, 1)
        assert told["resting"].resume_at is None
        assert told["done"].status == "completed"
        assert "running, waiting, resting" in copies.warning([told[name] for name in names])
    with met(copy) as (names, _):
        assert names == []
    with met(db_path) as (names, told):
        assert names == []
        assert told["running"].status == "running"


@pytest.mark.usefixtures("lively")
def test_the_same_file_under_another_name_is_the_same(db: Connection, db_path: Path) -> None:
    db.close()
    moved = db_path.with_name("moved.db")
    db_path.rename(moved)
    link = db_path.with_name("link.db")
    link.symlink_to(moved)
    for name in (moved, link):
        with met(name) as (names, told):
            assert names == []
            assert told["running"].status == "running"


@pytest.mark.usefixtures("lively")
def test_a_backup_put_over_the_file_that_it_came_from_is_a_copy(
    db: Connection, db_path: Path
) -> None:
    copy = db_path.with_name("copy.db")
    backup(db, copy)
    assert whereabouts.strayed(db) is False
    db.close()
    shutil.copyfile(copy, db_path)  # the inode stays
    with met(db_path) as (names, _):
        assert names == ["running", "waiting", "resting"]


def test_a_new_file_and_one_in_memory_are_at_home(db: Connection) -> None:
    from pysqlite3 import dbapi2

    assert not whereabouts.strayed(db)
    memory = dbapi2.connect(":memory:")
    memory.execute("create table whereabouts (one integer primary key, inode integer)")
    assert not whereabouts.strayed(memory)
    whereabouts.forget(memory)
    memory.close()
