"""What has shipped of the schema is what it was, and its sum is the schema that is kept here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pysqlite3.dbapi2 import Connection

from wabcast.store.database import SCHEMA
from wabcast.store.migrations import SCRIPTS, migrations

# A new step gets its line when it is made; a line that stands here is never changed.
SHIPPED = {
    "m001_the_first_schema": "1b8637038ca40b65",
    "m002_hooks": "f1e1e4b5669d59d9",
    "m003_tokens": "df9d439ffc593f54",
    "m004_whereabouts": "26bee9e97a526f2b",
    "m005_revisions": "621cb353e1290164",
    "m006_canary": "e7902d669b73f6ed",
    "m007_condition": "4d70ca28d7332930",
    "m008_tallies": "79085de0f6c710b3",
    "m009_autoincrement": "e4ae89ddfe607b0d",
    "m017_idempotency_bounds": "f539d7a022689f72",
    "m010_recipients_state": "1b8014891ce42a14",
    "m014_cooling_since": "74ca54f3e40b3817",
    "m011_tests_and_erasure": "7af57b29f0788fac",
}

KEPT = Path(__file__).with_name("schema.sql")
"""The schema as it is now. After a new step: `python -m pytest -k kept` says what differs."""

OBJECTS = """
select type, name, sql from sqlite_schema
 where sql is not null and name not like 'sqlite\\_%' escape '\\'
   and name not like '\\_sqlite\\_%' escape '\\'
 order by 1, 2
"""


def schema_of(db: Connection) -> str:
    """Every object's own text, its white space folded: SQLite keeps what it was given."""
    return "".join(" ".join(str(row[2]).split()) + ";\n" for row in db.execute(OBJECTS))


def test_every_step_that_has_shipped_is_what_it_was() -> None:
    found = {
        name: hashlib.sha256(script.read_bytes()).hexdigest()[:16]
        for name, script in SCRIPTS.items()
    }
    assert found == SHIPPED


def test_the_sum_of_the_steps_is_the_kept_schema(db: Connection) -> None:
    assert schema_of(db) == KEPT.read_text(encoding="utf-8")


def test_the_number_of_the_last_step_is_the_schema_s() -> None:
    assert max(int(name[1:4]) for name in SCRIPTS) == SCHEMA


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_step_is_called_by_its_number_and_what_it_does(name: str) -> None:
    number, _, what = name.partition("_")
    assert number[0] == "m"
    assert number[1:].isdigit()
    assert len(number) == 4
    assert what


def test_step_by_step_is_the_same_as_all_at_once(db: Connection, tmp_path: Path) -> None:
    from sqlite_utils import Database

    one_by_one = Database(tmp_path / "again.db")
    for migration in migrations.pending(one_by_one):
        migrations.apply(one_by_one, stop_before=migration.name)
    migrations.apply(one_by_one)
    assert schema_of(one_by_one.conn) == schema_of(db)
    assert not list(migrations.pending(one_by_one))
    assert [step.name for step in migrations.applied(one_by_one)] == list(SCRIPTS)
    one_by_one.close()
