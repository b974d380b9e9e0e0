"""The schema as the sum of its migrations: one `.sql` file a step, in `schema/`, in their order.

Invariant: a file that has shipped is never edited; `tests/store/test_migrations.py` holds the hash
of each. A step that needs more than SQL names a function in `AFTER`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from sqlite_utils import Migrations

from wabcast.failpoints import failpoint
from wabcast.store import whereabouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlite_utils import Database

migrations = Migrations("wabcast")

SCRIPTS = {
    file.name.removesuffix(".sql"): file
    for file in sorted(files("wabcast.store").joinpath("schema").iterdir(), key=lambda f: f.name)
    if file.name.endswith(".sql")
}
"""By the name of the step, as `_sqlite_migrations` keeps it."""

AFTER: dict[str, Callable[[Database], None]] = {
    "m004_whereabouts": lambda db: whereabouts.belong(db.conn),
}


def run_script(db: Database, script: str) -> None:
    """Statement by statement: `executescript` would commit the migration's transaction."""
    from pysqlite3 import complete_statement

    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if complete_statement(statement):
            db.execute(statement)
            statement = ""


def _register(name: str) -> None:
    @migrations(name=name)
    def step(db: Database) -> None:
        run_script(db, SCRIPTS[name].read_text(encoding="utf-8"))
        if (after := AFTER.get(name)) is not None:
            after(db)
        failpoint("in-migration")


for _name in SCRIPTS:
    _register(_name)
