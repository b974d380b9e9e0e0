"""Whether the file is sound, seen from outside: pages, references, schema. Changes nothing.

Whether the ledger's rows agree is `campaign audit`'s question, not ours; of campaigns only
those that wait for somebody are told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from wabcast.store.database import SCHEMA, DatabaseError, OperationalError, is_damaged

if TYPE_CHECKING:
    from wabcast.store.database import Connection

PUT_BACK = "`wabcast db restore BACKUP` puts a backup in its place, and keeps this file beside it"
"""What to do about a damaged file: whatever it still holds is not lost by it."""

FULL = "pragma integrity_check(20)"
QUICK = "pragma quick_check(5)"
ORPHANS = 'select "table", count(*) as count from pragma_foreign_key_check group by 1'
OBJECTS = """
select type || ' ' || name as name, sql from sqlite_schema
 where sql is not null and name not like 'sqlite\\_%' escape '\\'
   and name not like '\\_sqlite\\_%' escape '\\'
"""
IN_DOUBT = """
select name, in_doubt from campaigns where in_doubt > 0 and test_of is null order by name
"""
SIZE = "select page_count * page_size from pragma_page_count, pragma_page_size"
VACUUM = "vacuum"
EMPTY_LOG = "pragma wal_checkpoint(truncate)"


@dataclass(frozen=True, slots=True)
class Soundness:
    """What is wrong with the file, a sentence each: `damage` of its pages, `faults` of references
    and schema, whose rows are whole; `own` is what a person added, and is no fault."""

    damage: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        return [*self.damage, *self.faults]


def examine(db: Connection) -> Soundness:
    """Read the whole file. Raises OperationalError where it cannot be read for now."""
    try:
        if damage := _pages(db, FULL):
            return Soundness(damage)
        faults, own = _schema(db)
        return Soundness([], [*_orphans(db), *faults], own)
    except OperationalError as exc:
        if not is_damaged(exc):
            raise
        return Soundness([f"the file cannot be read: {exc}"])
    except DatabaseError as exc:
        return Soundness([f"the file cannot be read: {exc}"])


def quick_findings(db: Connection) -> list[str]:
    """What a look at the pages tells in a moment; it does not compare indexes with tables."""
    try:
        return _pages(db, QUICK)
    except DatabaseError as exc:
        if isinstance(exc, OperationalError) and not is_damaged(exc):
            raise
        return [f"the file cannot be read: {exc}"]


def in_doubt(db: Connection) -> list[tuple[str, int]]:
    """The campaigns with messages that may have left, and how many."""
    return [(str(row["name"]), int(row["in_doubt"])) for row in db.execute(IN_DOUBT)]


def vacuum(db: Connection) -> tuple[int, int]:
    """Rewrite the file without its holes: its bytes before and after.

    Needs as much free disk as the file is large.
    """
    before = int(db.execute(SIZE).fetchone()[0])
    db.execute(VACUUM)
    db.execute(EMPTY_LOG).fetchall()
    return before, int(db.execute(SIZE).fetchone()[0])


def _pages(db: Connection, pragma: str) -> list[str]:
    told = [str(row[0]) for row in db.execute(pragma)]
    return [] if told == ["ok"] else told


def _orphans(db: Connection) -> list[str]:
    try:
        rows = db.execute(ORPHANS).fetchall()
    except OperationalError as exc:
        if "foreign key mismatch" not in str(exc):
            raise
        return [f"references cannot be checked: {exc}"]
    return [f"{row['count']} rows of {row['table']} refer to what is not there" for row in rows]


def _schema(db: Connection) -> tuple[list[str], list[str]]:
    """What is not as this wabcast writes it, and what it never wrote."""
    version = db.execute("pragma user_version").fetchone()[0]
    if version != SCHEMA:
        return [f"the schema is version {version}, this wabcast writes {SCHEMA}"], []
    here, wanted = _objects(db), _fresh()
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - here.keys())]
    faults += [
        f"{name} differs from what this wabcast writes"
        for name in sorted(wanted.keys() & here.keys())
        if wanted[name] != here[name]
    ]
    return faults, [f"{name} is not ours" for name in sorted(here.keys() - wanted.keys())]


def _fresh() -> dict[str, str]:
    """The schema as the sum of the migrations, made in memory."""
    import sqlite_utils

    from wabcast.store.migrations import migrations

    db = sqlite.connect(":memory:", isolation_level=None)
    try:
        migrations.apply(sqlite_utils.Database(db))
        return _objects(db)
    finally:
        db.close()


def _objects(db: Connection) -> dict[str, str]:
    return {str(name): " ".join(str(sql).split()) for name, sql in db.execute(OBJECTS)}
