from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import WABCAST, Ran
from pysqlite3.dbapi2 import Connection

from wabcast.store.database import connect

Cli = Callable[..., Ran]


def test_path_tells_where_it_would_be_and_makes_nothing(quick_cli: Cli, db_path: Path) -> None:
    assert quick_cli("db", "path").stdout == f"{db_path}\n"
    assert quick_cli("db", "path", "--json").json == {"path": str(db_path)}
    assert not db_path.exists()


def test_check_finds_a_sound_file_sound(quick_cli: Cli, db: Connection, db_path: Path) -> None:
    ran = quick_cli("db", "check", "--json")
    sound = {"ok": True, "path": str(db_path), "findings": [], "own": []}
    assert (ran.code, ran.json) == (0, sound)


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
    ]
    assert ran.json["own"] == ["table mine is not ours"]
    ran = quick_cli("db", "check")
    assert "every row in it can be read" in ran.stderr
    assert "restore" not in ran.stderr


def test_what_a_person_added_is_named_and_is_no_fault(
    quick_cli: Cli, db: Connection, db_path: Path, tmp_path: Path
) -> None:
    db.execute("create table mine (x)")
    db.execute("create index mine_too on contacts (company)")
    db.execute("create trigger mine_also after insert on mine begin select 1; end")
    ran = quick_cli("db", "check")
    assert ran.code == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "index mine_too is not ours",
        "table mine is not ours",
        "trigger mine_also is not ours",
    ]
    assert ran.stderr == f"{db_path} is sound\n"
    assert quick_cli("db", "backup", tmp_path / "copy.db").code == 0
    assert quick_cli("db", "restore", tmp_path / "copy.db", "--yes").code == 0


def test_a_reference_of_a_person_s_own_that_cannot_be_checked_is_no_bug(
    quick_cli: Cli, db: Connection
) -> None:
    db.execute("create table mine (company text references contacts (company))")
    ran = quick_cli("db", "check")
    assert (ran.code, "cannot be checked" in ran.stdout) == (1, True), ran.stderr


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that the process may read and not write, whoever it runs as."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_in_a_read_only_folder_is_looked_at(
    quick_cli: Cli, db: Connection, read_only_folder: Path
) -> None:
    copy = read_only_folder / "copy.db"
    assert quick_cli("db", "backup", copy).code == 0
    copy.chmod(0o444)
    looks = ["db check", "db sql 'select count(*) from contacts'"]
    for look in looks:  # once as we are: what is imported now need not be readable then
        assert quick_cli(*shlex.split(look)).code == 0
    with without_rights(read_only_folder):
        for look in looks:
            ran = quick_cli(*shlex.split(look), "--db", copy)
            assert ran.code == 0, ran.stderr
        assert not list(read_only_folder.glob("*-wal"))
    copy.chmod(0o600)
    writer = connect(copy)
    writer.execute("insert into segments (name, expression, created_at) values ('a', '', '')")
    for suffix in ("", "-wal"):
        shutil.copy2(f"{copy}{suffix}", read_only_folder / f"late.db{suffix}")
        (read_only_folder / f"late.db{suffix}").chmod(0o444)
    writer.close()
    with without_rights(read_only_folder):
        ran = quick_cli("db", "check", "--db", read_only_folder / "late.db")
        assert ran.code == 12
        assert "late.db-wal" in ran.stderr
        assert "restore" not in ran.stderr
        assert "not sound" not in ran.stderr


def test_check_of_a_damaged_file_is_exit_1(quick_cli: Cli, db: Connection, db_path: Path) -> None:
    db.close()
    content = bytearray(db_path.read_bytes())
    content[4096 * 2 : 4096 * 12] = b"\xa5" * 4096 * 10
    db_path.write_bytes(content)
    ran = quick_cli("db", "check")
    assert ran.code == 1
    assert "keeps this file beside it" in ran.stderr
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


@pytest.mark.parametrize("flag", [[], ["--json"]])
@pytest.mark.parametrize(
    "question",
    [
        "select randomblob(1500000000)",
        "select value, case value when 3 then zeroblob(1500000000) end from json_each('[1,2,3]')",
        "select printf('%*d', 2147483647, 1)",
    ],
)
def test_what_is_too_large_is_no_bug(
    quick_cli: Cli, db: Connection, question: str, flag: list[str]
) -> None:
    ran = quick_cli("db", "sql", question, *flag)
    assert (ran.code, "too big" in ran.stderr, "a bug" in ran.stderr) == (2, True, False)


def test_text_that_is_none_is_shown_as_far_as_it_is(quick_cli: Cli, db: Connection) -> None:
    ran = quick_cli("db", "sql", "select cast(x'61e262' as text) as a", "--json")
    assert (ran.code, ran.json) == (0, [{"a": "a\ufffdb"}])


def test_a_question_without_an_end_can_be_interrupted(
    db: Connection, cli_env: dict[str, str]
) -> None:
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select sum(x) from c"
    asked = subprocess.Popen(
        [WABCAST, "db", "sql", endless], env=cli_env, stderr=subprocess.PIPE, text=True
    )
    while "wabcast.db" not in " ".join(opened(asked.pid)):
        assert asked.poll() is None
    asked.send_signal(signal.SIGINT)
    _, stderr = asked.communicate(timeout=30)
    assert (asked.returncode, "bug" in stderr) == (130, False)


def opened(pid: int) -> list[str]:
    """The files that a process has open."""
    try:
        return [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


@pytest.mark.parametrize("question", ["", "selec", "select 1; select 2", "select no", "select ?"])
def test_bad_sql_is_exit_2(quick_cli: Cli, db: Connection, question: str) -> None:
    assert quick_cli("db", "sql", question).code == 2
