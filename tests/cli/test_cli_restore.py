"""`db restore`: a copy in the place of the database, and nothing leaves until a person resumes."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import locks
from wabcast.store.database import backup, connect

Cli = Callable[..., Ran]


@pytest.fixture
def copied(db: Connection, make: Make, tmp_path: Path) -> Path:
    """A copy taken while one campaign ran, one waited for its time and one for its window."""
    running = make.campaign("running", status="running", run_id="old")
    make.campaign_message("queued", campaign=running)
    make.campaign_message("pending", campaign=running)
    make.campaign_message("sent", campaign=running, whatsapp_message_id="wamid.1")
    make.campaign("waiting", status="scheduled")
    make.campaign("resting", status="paused")
    make.campaign("by hand", status="paused")
    make.campaign("done", status="completed")
    db.execute("update campaigns set scheduled_at = '2020' where name = 'waiting'")
    db.execute("update campaigns set resume_at = '2020' where name = 'resting'")
    db.execute("update campaigns set reason = 'mine' where name = 'by hand'")
    copy = tmp_path / "copy.db"
    backup(db, copy)
    return copy


def test_everything_restless_comes_up_paused_and_run_sends_nothing(
    quick_cli: Cli, copied: Path, db: Connection, db_path: Path
) -> None:
    db.execute("delete from campaign_messages")
    ran = quick_cli("db", "restore", copied, "--yes", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.json["paused"] == ["running", "waiting", "resting"]
    assert ran.json["in_doubt"] == 1
    rows = db.execute("select name, status, reason, resume_at, run_id, queued from campaigns")
    told = {row["name"]: tuple(row)[1:] for row in rows}
    for name in ("running", "waiting", "resting"):
        assert told[name] == ("paused", "restored from copy.db", None, None, 0)
    assert told["by hand"][1] == "mine"
    assert told["done"][0] == "completed"
    ran = quick_cli("run")
    assert (ran.code, ran.stdout) == (0, "")
    assert quick_cli("campaign", "audit", "running", "--json").code == 0
    assert quick_cli("db", "check").code == 0
    assert not list(db_path.parent.glob("*.restoring*"))


def test_the_old_one_is_kept_under_a_name_of_its_own(
    quick_cli: Cli, copied: Path, db: Connection, db_path: Path
) -> None:
    db.execute("insert into segments (name, expression, created_at) values ('late', '1', '')")
    for name in ("wabcast.db.before-restore", "wabcast.db.before-restore-2"):
        ran = quick_cli("db", "restore", copied, "--yes", "--json")
        assert ran.json["before"] == str(db_path.with_name(name))
        assert stat.S_IMODE(db_path.with_name(name).stat().st_mode) == 0o600
    kept = connect(db_path.with_name("wabcast.db.before-restore"))
    assert kept.execute("select name from segments").fetchone()[0] == "late"
    kept.close()
    # A process that had the file open sees the new content.
    assert db.execute("select count(*) from segments").fetchone()[0] == 0


def test_what_left_after_the_copy_is_not_owed_again(
    quick_cli: Cli, copied: Path, db: Connection
) -> None:
    db.execute(
        "update campaign_messages set status = 'sent', sent_at = due_at, attempts = 1,"
        " queued_at = due_at,"
        " whatsapp_message_id = 'late.' || id where campaign_id = 1 and status <> 'sent'"
    )
    db.execute("update contacts set opted_out_at = '2026', opt_out_reason = 'STOP' where id = 1")
    ran = quick_cli("db", "restore", copied, "--yes", "--json")
    assert ran.json["known_since"] == 2
    assert ran.json["in_doubt"] == 0
    rows = db.execute("select status from campaign_messages where campaign_id = 1").fetchall()
    assert [row[0] for row in rows] == ["sent"] * 3
    assert db.execute("select opt_out_reason from contacts where id = 1").fetchone()[0] == "STOP"
    assert quick_cli("campaign", "audit", "running", "--json").code == 0


def test_it_asks_and_is_refused_while_a_campaign_is_carried(
    quick_cli: Cli, copied: Path, db: Connection, make: Make, db_path: Path
) -> None:
    assert quick_cli("db", "restore", copied).code == 5
    carried = make.campaign("carried", status="running")
    with locks.held(db_path, carried):
        assert quick_cli("db", "restore", copied, "--yes").code == 11
    assert make.look(carried).status == "running"
    assert not list(db_path.parent.glob("*before-restore*"))


def test_a_copy_that_is_none_changes_nothing(
    quick_cli: Cli, copied: Path, db: Connection, tmp_path: Path, db_path: Path
) -> None:
    garbage, theirs = tmp_path / "garbage", tmp_path / "theirs.db"
    garbage.write_bytes(b"this is no database at all, but long enough" * 100)
    content = bytearray(copied.read_bytes())
    content[4096 * 2 : 4096 * 12] = b"\xa5" * 4096 * 10
    theirs.write_bytes(content)
    newer = tmp_path / "newer.db"
    backup(db, newer)
    changed = connect(newer)
    changed.execute("pragma user_version = 999")
    changed.close()
    empty = tmp_path / "empty.db"
    empty.touch()
    for wrong in (garbage, theirs, newer, empty, db_path):
        ran = quick_cli("db", "restore", wrong, "--yes")
        assert (ran.code, "hint:" in ran.stderr) == (5, True), ran.stderr
    assert quick_cli("db", "restore", tmp_path / "nowhere", "--yes").code == 10
    assert db.execute("select count(*) from campaigns").fetchone()[0] == 5
    assert not list(tmp_path.glob("*.restoring*"))
    assert not list(tmp_path.glob("*before-restore*"))


def test_a_damaged_database_is_moved_aside(
    quick_cli: Cli, copied: Path, db: Connection, db_path: Path
) -> None:
    db.close()
    db_path.write_bytes(b"nothing that SQLite would know" * 1000)
    assert quick_cli("campaign", "list").code == 1
    ran = quick_cli("db", "restore", copied, "--yes")
    assert ran.code == 0, ran.stderr
    assert "would be sent twice" in ran.stderr
    assert "wabcast db adopt --yes" in ran.stderr
    for _ in range(2):
        assert quick_cli("campaign", "resume", "running", "--yes").code == 5
    assert db_path.with_name("wabcast.db.before-restore").read_bytes().startswith(b"nothing")
    assert quick_cli("campaign", "show", "running", "--json").json["status"] == "paused"


def test_where_there_is_no_database_yet(quick_cli: Cli, copied: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "deep" / "fresh.db"
    assert quick_cli("db", "restore", copied, "--db", fresh).code == 0
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600
    assert len(quick_cli("campaign", "list", "--json", "--db", fresh).json) == 5


def test_what_the_old_file_knows_of_pace_people_and_numbers_is_kept(
    quick_cli: Cli, copied: Path, db: Connection, make: Make
) -> None:
    db.execute("update accounts set next_slot_at = 777, cooling_until = 5, first_used_at = '2026'")
    db.execute("update campaigns set last_slot_at = 999 where name = 'running'")
    db.execute("insert into account_reach values (1, 1, '2026-11-05T10:00:00.000Z')")
    late = make.contact()
    ran = quick_cli("db", "restore", copied, "--yes", "--json")
    assert ran.json["adopted"] is True
    assert "adopt" not in ran.stderr
    account = db.execute("select next_slot_at, cooling_until, first_used_at from accounts")
    assert tuple(account.fetchone()) == (777, 5, "2026")
    slot = db.execute("select last_slot_at from campaigns where name = 'running'").fetchone()[0]
    assert slot == 999
    assert [row[0] for row in db.execute("select contact_id from account_reach")] == [1]
    assert make.contact("+491713920001") > late


def test_who_was_erased_since_is_not_owed_again(
    quick_cli: Cli, copied: Path, db: Connection
) -> None:
    db.execute(
        "update campaign_messages set status = 'sent', sent_at = due_at, contact_id = null"
        " where campaign_id = 1 and status = 'pending'"
    )
    assert quick_cli("db", "restore", copied, "--yes", "--json").json["known_since"] >= 1
    owed = "select count(*) from campaign_messages where campaign_id = 1 and status = 'pending'"
    assert db.execute(owed).fetchone()[0] == 0


def test_over_another_database_what_left_is_not_known(
    quick_cli: Cli, copied: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    assert quick_cli("contact", "add", "+491713920001", "--db", other).code == 0
    ran = quick_cli("db", "restore", copied, "--yes", "--json", "--db", other)
    assert ran.json["adopted"] is False
    assert quick_cli("run", "--db", other).code == 5
    ran = quick_cli("db", "adopt", "--yes", "--json", "--db", other)
    assert (ran.code, ran.json["adopted"]) == (0, True)
    ran = quick_cli("db", "adopt", "--yes", "--json", "--db", other)
    assert (ran.code, ran.json["adopted"]) == (0, False)
    assert quick_cli("run", "--db", other).code == 0


def test_over_a_copy_it_stays_one(quick_cli: Cli, copied: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.db"
    assert quick_cli("db", "backup", again, "--db", copied).code == 0
    ran = quick_cli("db", "restore", copied, "--yes", "--json", "--db", again)
    assert ran.json["adopted"] is False
    ran = quick_cli("doctor", "--db", again)
    assert "wabcast db adopt --yes" in ran.stdout
