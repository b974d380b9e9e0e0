from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from pysqlite3.dbapi2 import Connection

Cli = Callable[..., Ran]


def test_path_tells_where_it_would_be_and_makes_nothing(quick_cli: Cli, db_path: Path) -> None:
    assert quick_cli("db", "path").stdout == f"{db_path}\n"
    assert quick_cli("db", "path", "--json").json == {"path": str(db_path)}
    assert not db_path.exists()


def test_check_finds_a_sound_file_sound(quick_cli: Cli, db: Connection, db_path: Path) -> None:
    ran = quick_cli("db", "check", "--json")
    assert (ran.code, ran.json) == (0, {"ok": True, "path": str(db_path), "findings": []})


def test_check_finds_what_is_wrong(quick_cli: Cli, db: Connection) -> None:
    db.execute("pragma foreign_keys = off")
    db.execute("insert into contact_tags values (77, 'vip')")
    db.execute("drop index contacts_opted_out")
    db.execute("create table mine (x)")
    ran = quick_cli("db", "check", "--json")
    assert ran.code == 1
    assert ran.json["findings"] == [
        "1 rows of contact_tags refer to what is not there",
        "index contacts_opted_out is missing",
        "table mine is not ours",
    ]


def test_check_of_a_damaged_file_is_exit_1(quick_cli: Cli, db: Connection, db_path: Path) -> None:
    db.close()
    content = bytearray(db_path.read_bytes())
    content[4096 * 2 : 4096 * 12] = b"\xa5" * 4096 * 10
    db_path.write_bytes(content)
    assert quick_cli("db", "check").code == 1
    db_path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    assert quick_cli("db", "check").code == 1


def test_check_of_no_file_is_exit_10(quick_cli: Cli, db_path: Path) -> None:
    assert quick_cli("db", "check").code == 10
    assert quick_cli("db", "backup", "copy.db").code == 10
    assert not db_path.exists()


def test_a_backup_is_a_database_and_is_not_overwritten_unasked(
    quick_cli: Cli, db: Connection, db_path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"
    ran = quick_cli("db", "backup", target, "--json")
    assert ran.code == 0
    assert ran.json == {"path": str(target), "bytes": target.stat().st_size}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert quick_cli("db", "check", "--db", target).code == 0
    assert quick_cli("db", "backup", target).code == 5
    assert quick_cli("db", "backup", target, "--yes").code == 0
    assert quick_cli("db", "backup", db_path, "--yes").code == 5
    assert quick_cli("db", "backup", tmp_path).code == 2
    assert quick_cli("db", "backup", tmp_path / "no" / "copy.db").code == 10


def test_vacuum_tells_both_sizes(quick_cli: Cli, db: Connection) -> None:
    db.execute("create table big as select randomblob(100000) as x")
    db.execute("drop table big")
    ran = quick_cli("db", "vacuum", "--json")
    assert ran.code == 0
    assert ran.json["after"] <= ran.json["before"] - 90_000


def test_sql_answers(quick_cli: Cli, db: Connection) -> None:
    assert quick_cli("db", "sql", "select 1 as a, null as b", "--json").json == [
        {"a": 1, "b": None}
    ]
    assert quick_cli("db", "sql", "select 1 as a, 'x' as b").stdout == "a  b\n1  x\n"
    odd = quick_cli("db", "sql", "select x'ff' as a, 9e999 as b", "--json").json
    assert odd == [{"a": {"$base64": True, "encoded": "/w=="}, "b": None}]
    assert quick_cli("db", "sql", "select name from accounts", "--json").json == []
    assert quick_cli("db", "sql", "pragma table_info(accounts)").code == 0


def test_sql_is_read_from_stdin(cli: Cli, db: Connection) -> None:
    assert cli("db", "sql", "-", "--json", input="select 2 as n\n").json == [{"n": 2}]


@pytest.mark.parametrize(
    "question",
    [
        "delete from accounts",
        "attach '/tmp/other.db' as other",
        "vacuum into '/tmp/wabcast-stolen.db'",
        "pragma journal_mode = delete",
        "pragma user_version = 9",
        "pragma writable_schema = 1",
        "create temp table t (x)",
        "begin exclusive",
        "select load_extension('evil')",
        "explain delete from accounts",
    ],
)
def test_sql_only_reads(quick_cli: Cli, db: Connection, question: str) -> None:
    assert quick_cli("db", "sql", question).code == 5
    assert not Path("/tmp/wabcast-stolen.db").exists()  # noqa: S108  # what it would have made


@pytest.mark.parametrize("question", ["", "selec", "select 1; select 2", "select no", "select ?"])
def test_bad_sql_is_exit_2(quick_cli: Cli, db: Connection, question: str) -> None:
    assert quick_cli("db", "sql", question).code == 2
