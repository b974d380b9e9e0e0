"""Whether the file is sound, seen from outside: pages, references, schema. Changes nothing.

Whether the ledger's rows agree is `campaign audit`'s question, not ours; of campaigns only
those that wait for somebody are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from wabcast.store.database import SCHEMA, DatabaseError

if TYPE_CHECKING:
    from wabcast.store.database import Connection

FULL = "pragma integrity_check(20)"
QUICK = "pragma quick_check(5)"
ORPHANS = 'select "table", count(*) as count from pragma_foreign_key_check group by 1'
OBJECTS = """
select type || ' ' || name as name, sql from sqlite_schema
 where sql is not null and name not like 'sqlite\\_%' escape '\\'
   and name not like '\\_sqlite\\_%' escape '\\'
"""
IN_DOUBT = "select name, in_doubt from campaigns where in_doubt > 0 order by name"
SIZE = "select page_count * page_size from pragma_page_count, pragma_page_size"
VACUUM = "vacuum"
EMPTY_LOG = "pragma wal_checkpoint(truncate)"


def findings(db: Connection) -> list[str]:
    """Everything wrong with the file, a sentence each; empty if it is sound."""
    try:
        return [*_pages(db, FULL), *_orphans(db), *_schema(db)]
    except DatabaseError as exc:
        return [f"the file cannot be read: {exc}"]


def quick_findings(db: Connection) -> list[str]:
    """What a look at the pages tells in a moment; it does not compare indexes with tables."""
    try:
        return _pages(db, QUICK)
    except DatabaseError as exc:
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
    return [
        f"{row['count']} rows of {row['table']} refer to what is not there"
        for row in db.execute(ORPHANS)
    ]


def _schema(db: Connection) -> list[str]:
    version = db.execute("pragma user_version").fetchone()[0]
    if version != SCHEMA:
        return [f"the schema is version {version}, this wabcast writes {SCHEMA}"]
    here, wanted = _objects(db), _fresh()
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - here.keys())),
        *(f"{name} is not ours" for name in sorted(here.keys() - wanted.keys())),
        *(
            f"{name} differs from what this wabcast writes"
            for name in sorted(wanted.keys() & here.keys())
            if wanted[name] != here[name]
        ),
    ]


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
