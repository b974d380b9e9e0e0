"""A row's number is never used again, and a file from before that rule learns it whole."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import WABCAST, StillClock
from make import Make
from pysqlite3 import dbapi2 as sqlite
from pysqlite3.dbapi2 import Connection
from sqlite_utils import Database
from test_migrations import schema_of

from wabcast.store import erasure, marks
from wabcast.store.database import connect, immediate
from wabcast.store.marks import Intent, Told
from wabcast.store.migrations import migrations
from wabcast.store.reach import Cap, Seen
from wabcast.store.soundness import examine

OUR_TABLES = r"""
select name, sql from sqlite_schema
 where type = 'table' and name not like 'sqlite\_%' escape '\'
   and name not like '\_sqlite\_%' escape '\'
"""

ONE_ROW = {"whereabouts"}
"""What has one row, whose number is 1."""


def test_every_table_that_numbers_its_rows_never_uses_a_number_again(db: Connection) -> None:
    numbered = {
        name: sql for name, sql in db.execute(OUR_TABLES) if re.search(r"integer primary key", sql)
    }
    assert numbered.keys() >= {"contacts", "campaigns", "campaign_messages", "tokens", "events"}
    again = {name for name, sql in numbered.items() if "autoincrement" not in sql}
    assert again == ONE_ROW


def test_an_erased_person_s_place_in_the_daily_cap_is_nobody_else_s(
    db: Connection, make: Make, clock: StillClock
) -> None:
    campaign = make.campaign("spring", status="running", run_id="run")

    def told(phone: str) -> Told:
        message = make.campaign_message(campaign=campaign, contact=make.contact(phone))
        (due,) = (one for one in make.due(campaign) if one.id == message)
        with immediate(db):
            (intended,) = marks.intend(
                db,
                [Intent(due, "{}", 1, Cap(campaign.account_id, 1))],
                campaign=campaign.number,
                run="run",
                at=clock.now(),
                seen=Seen(),
            )
        return intended.told

    assert told("+491512345611") is Told.INTENDED
    erasure.remove(db, "+491512345611", at=make.at, clock=make.clock)
    clock.advance(timedelta(minutes=1))
    assert told("+491512345622") is Told.CAPPED


@pytest.mark.parametrize("table", ["contacts", "segments", "campaigns"])
def test_a_number_does_not_come_again(db: Connection, make: Make, table: str) -> None:
    key = "number" if table == "campaigns" else "id"
    for again in ("a", "b", "c"):
        if table == "campaigns":
            make.campaign(again)
        elif table == "contacts":
            make.contact()
        else:
            db.execute(
                "insert into segments (name, expression, created_at) values (?, '', '')", again
            )
        newest = db.execute(f"select max({key}) from {table}").fetchone()[0]  # noqa: S608
        db.execute(f"delete from {table} where {key} = ?", (newest,))  # noqa: S608
    assert newest == 3


# -- an older file

PEOPLE = """
with recursive n(x) as (select 1 union all select x + 1 from n where x < 50)
insert into contacts (phone, created_at, updated_at)
select printf('+4915112%05d', x), '2026-01-01', '2026-01-01' from n
"""

CAMPAIGN = """
insert into campaigns (id, name, account_id, content, audience, total_recipients, pending,
                       created_at, updated_at)
values ('0190-abc', 'spring', 1, '{}', '{}', 50, 50, '2026-01-01', '2026-01-01')
"""

OWED = """
insert into campaign_messages (campaign_id, contact_id, due_at)
select 1, id, '2026-01-01' from contacts
"""

TOLD = """
insert into events (at, event, data) values ('', 'message:sent', '{"messageId": 900}')
"""

ACCOUNT = """
insert into accounts (name, provider, created_at, updated_at)
values ('shop', 'sandbox', '2026-01-01', '2026-01-01')
"""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file as the steps before m009 left it, with a life behind it and things of a person."""
    path = tmp_path / "older.db"
    with closing(sqlite.connect(path, isolation_level=None)) as raw:
        raw.execute("pragma journal_mode = wal")
        migrations.apply(Database(raw), stop_before="m009_autoincrement")
        raw.execute("pragma user_version = 8")
        for statement in (ACCOUNT, PEOPLE, CAMPAIGN, OWED):
            raw.execute(statement)
        raw.execute("update campaign_messages set status = 'sent', sent_at = '2026-01-01T10:00:00'")
        raw.execute("insert into account_reach values (1, 77, '2026-01-01')")  # removed since
        raw.execute(TOLD)
        raw.execute("create table mine (id integer primary key, x text)")
        raw.execute("create index mine_too on contacts (company, name)")
        raw.execute("create trigger mine_also after delete on contacts begin select 1; end")
    return path


def rows_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite.connect(path)) as raw:
        raw.row_factory = sqlite.Row
        names = [name for name, _ in raw.execute(OUR_TABLES)]
        return {
            name: [dict(row) for row in raw.execute(f"select * from {name} order by 1")]  # noqa: S608
            for name in names
        }


def test_an_older_file_learns_it_and_nothing_else_changes(older: Path, db: Connection) -> None:
    before = rows_of(older)
    with closing(connect(older)) as learnt:
        told = examine(learnt)
        assert (told.findings, len(told.own)) == ([], 3)
        learnt.execute("drop table mine")
        learnt.execute("drop index mine_too")
        learnt.execute("drop trigger mine_also")
        assert schema_of(learnt) == schema_of(db)
        next_of = dict(learnt.execute("select name, seq from sqlite_sequence").fetchall())
        assert next_of["contacts"] == 77
        assert next_of["campaign_messages"] == 900
        assert (next_of["campaigns"], next_of["accounts"]) == (1, 1)
        assert "tokens" not in next_of
        learnt.execute("delete from campaign_messages where id > 40")
        learnt.execute("delete from contacts where id > 40")
        learnt.execute(PEOPLE.replace("+4915112", "+4915113").replace("x < 50", "x < 1"))
        assert learnt.execute("select max(id) from contacts").fetchone()[0] == 78
        # The triggers count on.
        learnt.execute("update campaign_messages set delivered_at = '2026' where id = 1")
        assert learnt.execute("select messages_delivered from campaigns").fetchone()[0] == 1
        assert learnt.execute("pragma integrity_check").fetchone()[0] == "ok"
    del before["mine"]
    after = rows_of(older)
    same = [name for name in before if name not in ("contacts", "campaign_messages", "campaigns")]
    for name in (*same, "contacts"):
        if name != "campaign_tallies":
            ours = before[name][:40] if name == "contacts" else before[name]
            assert of_before(ours, after[name][: len(ours)]) == ours, name
            assert name == "contacts" or len(after[name]) == len(ours), name


def of_before(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a later step may have added or dropped is left as it was before."""
    return [
        old | {key: new[key] for key in old.keys() & new.keys()}
        for old, new in zip(ours, theirs, strict=True)
    ]


def test_who_has_the_file_open_meanwhile_keeps_the_rule_too(older: Path) -> None:
    with closing(sqlite.connect(older, isolation_level=None)) as other:
        other.execute("select count(*) from contacts").fetchone()
        connect(older).close()
        other.execute("insert into contacts (phone, created_at, updated_at) values ('+1', '', '')")
        assert other.execute("select max(id) from contacts").fetchone()[0] == 78


def test_a_kill_in_the_middle_leaves_the_older_file_whole(
    older: Path, cli_env: dict[str, str]
) -> None:
    before = rows_of(older)
    asked = [str(WABCAST), "account", "list", "--db", str(older)]
    died = subprocess.run(asked, env=cli_env | {"WABCAST_FAILPOINT": "in-migration"})
    assert died.returncode == -9
    assert rows_of(older) == before
    with closing(sqlite.connect(older)) as raw:
        assert raw.execute("pragma user_version").fetchone()[0] == 8
        assert "autoincrement" not in raw.execute(OUR_TABLES).fetchall()[0][1]
    assert subprocess.run(asked, env=cli_env, capture_output=True).returncode == 0
    with closing(connect(older)) as learnt:
        assert examine(learnt).findings == []
