"""A file that is not the one it was: nothing starts in it, each time, until a person adopts it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from make import Make
from pysqlite3 import dbapi2
from pysqlite3.dbapi2 import Connection

from wabcast import clone_guard, locks
from wabcast.campaign import Campaign
from wabcast.errors import Busy, Refused
from wabcast.store import campaigns, whereabouts
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
    make.campaign("a draft")
    make.campaign("done", status="completed")
    db.execute("pragma wal_checkpoint(truncate)").fetchall()


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    with closing(connect(path)) as db:
        yield db


def refused(path: Path) -> str:
    """Refused, and again: that it was asked for changes nothing."""
    told = set()
    for _ in range(3):
        with opened(path) as db:
            before = [tuple(row) for row in db.execute("select * from campaigns")]
            with pytest.raises(Refused) as caught:
                clone_guard.refuse(db)
            assert [tuple(row) for row in db.execute("select * from campaigns")] == before
        told.add(f"{caught.value.message} {caught.value.hint}")
    (only,) = told
    assert "wabcast db adopt --yes" in only
    return only


def adopted(path: Path) -> tuple[list[str], int, dict[str, Campaign]]:
    with opened(path) as db:
        done = clone_guard.adopt(db, at=AT)
        assert done is not None
        clone_guard.refuse(db)
        assert clone_guard.adopt(db, at=AT) is None
        told = {campaign.name: campaign for campaign in campaigns.listed(db)}
    return [campaign.name for campaign in done.paused], done.in_doubt, told


@pytest.mark.usefixtures("lively")
def test_a_copy_is_refused_until_it_is_adopted(db_path: Path) -> None:
    copy = db_path.with_name("copy.db")
    shutil.copy2(db_path, copy)
    assert "was copied" in refused(copy)
    names, in_doubt, told = adopted(copy)
    assert (names, in_doubt) == (["running", "waiting", "resting"], 1)
    assert {told[name].status for name in names} == {"paused"}
    assert {told[name].reason for name in names} == {clone_guard.ADOPTED}
    assert (told["running"].queued, told["running"].in_doubt) == (0, 1)
    assert told["resting"].resume_at is None
    assert told["a draft"].status == "draft"
    assert told["done"].status == "completed"
    with opened(db_path) as db:
        clone_guard.refuse(db)
        assert {c.name: c.status for c in campaigns.listed(db)}["running"] == "running"


@pytest.mark.usefixtures("lively")
def test_the_same_file_under_another_name_is_the_same(db: Connection, db_path: Path) -> None:
    db.close()
    moved = db_path.with_name("moved.db")
    db_path.rename(moved)
    link = db_path.with_name("link.db")
    link.symlink_to(moved)
    for name in (moved, link):
        with opened(name) as again:
            clone_guard.refuse(again)


@pytest.mark.usefixtures("lively")
def test_a_backup_is_a_copy_also_over_the_file_that_it_came_from(
    db: Connection, db_path: Path
) -> None:
    copy = db_path.with_name("copy.db")
    backup(db, copy)
    clone_guard.refuse(db)
    assert clone_guard.is_doubtful(copy)
    db.close()
    shutil.copyfile(copy, db_path)  # the inode stays
    assert "was copied" in refused(db_path)
    adopted(db_path)


@pytest.mark.parametrize("status", ["draft", "scheduled", "paused", "running"])
def test_an_older_copy_over_the_file_is_noticed_by_what_was_noted(
    db: Connection, db_path: Path, make: Make, status: str
) -> None:
    """A plain `cp`, put back: the inode is the same, and only the notes know more."""
    campaign = make.campaign("spring", status=status)
    db.execute("update campaigns set last_slot_at = 1000")
    locks.note(db_path, campaign, 1000)
    clone_guard.refuse(db)
    locks.note(db_path, campaign, 2000)  # as a run does, whose rows are gone
    assert "knows less than was sent" in refused(db_path)
    with locks.held(db_path, campaign), opened(db_path) as other, pytest.raises(Busy):
        clone_guard.adopt(other, at=AT)
    adopted(db_path)
    assert locks.noted(db_path, campaign.id) == 1000


def test_an_adoption_that_is_cut_off_is_none(
    db: Connection, db_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = make.campaign("spring")
    locks.note(db_path, campaign, 2000)

    def cut_off(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(locks, "note", cut_off)
        with pytest.raises(KeyboardInterrupt):
            clone_guard.adopt(db, at=AT)
    refused(db_path)
    adopted(db_path)


def test_a_look_makes_no_folder(db: Connection, db_path: Path, make: Make) -> None:
    make.campaign("spring")
    clone_guard.refuse(db)
    assert not db_path.with_name(db_path.name + locks.ENDING).exists()


def test_a_new_file_and_one_in_memory_are_at_home(db: Connection) -> None:
    clone_guard.refuse(db)
    memory = dbapi2.connect(":memory:")
    memory.execute("create table whereabouts (one integer primary key, inode integer)")
    memory.execute("create table campaigns (id text, status text, last_slot_at integer)")
    clone_guard.refuse(memory)
    assert clone_guard.adopt(memory, at=AT) is None
    whereabouts.forget(memory)
    memory.close()


def test_what_is_not_there_or_no_database_is_doubtful(tmp_path: Path) -> None:
    assert clone_guard.is_doubtful(tmp_path / "no.db")
    (tmp_path / "no.db").write_bytes(b"nothing that SQLite would know" * 100)
    assert clone_guard.is_doubtful(tmp_path / "no.db")
