"""Which file this database is: it knows its own inode, so that a copy knows that it is one.

A `cp`, an rsync, or an `mv` to another disk makes another inode; an `mv` on the same disk, a
reboot and a mount elsewhere do not. A copy made by `database.backup` is born without any. What
no file can know is that a whole machine was put back to an earlier moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pysqlite3.dbapi2 import Connection

INODE = "select inode from whereabouts"
BELONGS = "insert or replace into whereabouts (one, inode) values (1, :inode)"
KNOWN = "select 1 from sqlite_schema where name = 'whereabouts'"
FORGET = "delete from whereabouts"
FILE = "select file from pragma_database_list where name = 'main'"


def strayed(db: Connection) -> bool:
    """Whether the file is not the one that it was: a copy, or moved here from elsewhere."""
    row = db.execute(INODE).fetchone()
    inode = _inode(db)
    return inode is not None and (row is None or row[0] != inode)


def belong(db: Connection) -> None:
    """This file is the one, from now on."""
    db.execute(BELONGS, {"inode": _inode(db) or 0})


def forget(copy: Connection) -> None:
    """A copy is nowhere at home, wherever it is put; also over the file that it came from."""
    if copy.execute(KNOWN).fetchone():
        copy.execute(FORGET)


def file_of(db: Connection) -> Path | None:
    """Where the database is; None for one that is in memory only."""
    file = db.execute(FILE).fetchone()[0]
    return Path(file) if file else None


def _inode(db: Connection) -> int | None:
    """None for a database that is in memory only; 0 where its file is gone."""
    file = file_of(db)
    try:
        return file.stat().st_ino if file else None
    except FileNotFoundError:
        return 0
