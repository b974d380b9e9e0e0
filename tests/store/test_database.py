from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import WABCAST, Ran
from pysqlite3 import dbapi2 as sqlite
from pysqlite3.dbapi2 import Connection

from wabcast.errors import NotFound, Refused, StoreError
from wabcast.store import database
from wabcast.store.database import (
    SCHEMA,
    OperationalError,
    advice,
    backup,
    connect,
    connect_read_only,
    file_system,
    immediate,
)

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
nas:/export /mnt/nas nfs4 rw 0 0
//win/share /mnt/with\\040space cifs rw 0 0
tmpfs /mnt/nas/local tmpfs rw 0 0
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_and_its_journals_are_private_from_birth(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "w.db"
    db = connect(path)
    db.execute("pragma user_version").fetchone()
    assert mode(path) == 0o600
    assert mode(path.with_name("w.db-wal")) == 0o600
    assert mode(path.with_name("w.db-shm")) == 0o600
    assert mode(path.parent) == 0o700
    db.close()


def test_it_is_opened_the_safe_way(db: Connection) -> None:
    def pragma(name: str) -> object:
        return db.execute(f"pragma {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    assert pragma("trusted_schema") == 0
    assert pragma("user_version") == SCHEMA
    assert sqlite.sqlite_version_info >= (3, 51, 3)


def test_a_newer_schema_is_refused(db: Connection, db_path: Path) -> None:
    db.execute(f"pragma user_version = {SCHEMA + 1}")
    with pytest.raises(Refused) as caught:
        connect(db_path)
    assert "newer" in caught.value.message
    assert "upgrade" in caught.value.hint


def test_a_database_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite.connect(path)
    theirs.execute("create table theirs (x)")
    theirs.commit()
    theirs.close()
    with pytest.raises(Refused, match="not a wabcast database"):
        connect(path)
    theirs = sqlite.connect(path)
    assert [row[0] for row in theirs.execute("select name from sqlite_schema")] == ["theirs"]
    theirs.close()


def test_what_cannot_be_opened_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError):
        connect(tmp_path / "file" / "w.db")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/ada", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/deep/er", "nfs4"),
        ("/mnt/nas2", "ext4"),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/nas/local/x", "tmpfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mounted(folder: Path) -> str:
        return file_system(folder, f"nas:/x {tmp_path} nfs4 rw 0 0\n")

    monkeypatch.setattr(database, "file_system", mounted)
    with pytest.raises(Refused, match="nfs4"):
        connect(tmp_path / "not yet there" / "w.db")
    assert not (tmp_path / "not yet there").exists()


def test_read_only_looks_and_does_not_touch(db: Connection, db_path: Path) -> None:
    eyes = connect_read_only(db_path)
    assert eyes.execute("select count(*) from accounts").fetchone()[0] == 0
    with pytest.raises(sqlite.OperationalError, match="readonly"):
        eyes.execute("delete from accounts")
    eyes.close()
    with pytest.raises(NotFound):
        connect_read_only(db_path.with_name("no.db"))


def test_immediate_rolls_back_what_failed(db: Connection) -> None:
    def fail() -> None:
        with immediate(db):
            db.execute("insert into segments (name, expression, created_at) values ('a', '', '')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert db.execute("select count(*) from segments").fetchone()[0] == 0
    assert not db.in_transaction


def test_a_backup_is_whole_and_private(db: Connection, tmp_path: Path) -> None:
    db.execute("insert into segments (name, expression, created_at) values ('a', '1', '')")
    target = tmp_path / "copy.db"
    backup(db, target)
    assert mode(target) == 0o600
    copy = connect(target)
    assert copy.execute("select name from segments").fetchone()[0] == "a"
    copy.close()
    assert not list(tmp_path.glob("*.part"))


def test_fifty_first_starts_at_once_all_succeed(
    cli_env: dict[str, str], cli: Callable[..., Ran], tmp_path: Path
) -> None:
    env = cli_env | {"WABCAST_DB": str(tmp_path / "fresh" / "deep" / "w.db")}
    started = [
        subprocess.Popen(
            [WABCAST, "account", "list", "--json"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(50)
    ]
    ended = [(*process.communicate(timeout=100), process.returncode) for process in started]
    assert ended == [("[]\n", "", 0)] * 50
    assert mode(tmp_path / "fresh" / "deep" / "w.db") == 0o600
    assert cli("db", "check", env=env).code == 0


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ("attempt to write a readonly database", "right to write"),
        ("database or disk is full", "free some space"),
        ("database is locked", "end the process"),
        ("disk I/O error", "doctor"),
    ],
)
def test_the_advice_fits_what_the_file_said(told: str, what: str) -> None:
    assert what in advice(OperationalError(told))
