"""A person's own question to the file: `db sql`. It can look and do nothing else.

Two locks: the connection is read-only, and the authorizer lets only reading through; ATTACH
would reach other files, a PRAGMA would change how this one is kept.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from wabcast.errors import Refused, UsageError
from wabcast.store.database import connect_read_only

_READS = frozenset({sqlite.SQLITE_SELECT, sqlite.SQLITE_READ, sqlite.SQLITE_RECURSIVE})
_PRAGMAS = frozenset(
    {
        "table_info",
        "table_xinfo",
        "table_list",
        "index_list",
        "index_info",
        "index_xinfo",
        "foreign_key_list",
        "compile_options",
        "page_count",
        "page_size",
        "freelist_count",
    }
)

STEPS = 100_000
"""Of SQLite's virtual machine: a few milliseconds."""


class Answer:
    """Columns, and the rows as they are read."""

    def __init__(self, path: Path, question: str) -> None:
        """Ask the database at `path`. UsageError for bad SQL, Refused for more than reading."""
        self._db = connect_read_only(path)
        self._db.text_factory = _readable
        self._db.set_authorizer(_allow)
        # A question without an end can be interrupted: Python hears its signals between two steps.
        self._db.set_progress_handler(_go_on, STEPS)
        try:
            self._cursor = self._db.execute(question)
        except (sqlite.Error, sqlite.Warning, ValueError) as exc:
            self._db.close()
            raise _told(exc) from exc
        except BaseException:
            self._db.close()
            raise
        self.columns = [column[0] for column in self._cursor.description or ()]

    def rows(self) -> Iterator[list[object]]:
        """Every row, as JSON values; bytes as `{"$base64": true, "encoded": ...}`."""
        try:
            for row in self._cursor:
                yield [_plain(value) for value in row]
        except sqlite.Error as exc:
            raise _told(exc) from exc
        finally:
            self._db.close()


def _allow(
    action: int, first: str | None, second: str | None, base: str | None, inner: str | None
) -> int:
    del base, inner
    if action in _READS:
        return int(sqlite.SQLITE_OK)
    if action == sqlite.SQLITE_FUNCTION and second != "load_extension":
        return int(sqlite.SQLITE_OK)
    if action == sqlite.SQLITE_PRAGMA and (
        first in _PRAGMAS or (first == "user_version" and second is None)
    ):
        return int(sqlite.SQLITE_OK)
    return int(sqlite.SQLITE_DENY)


def _told(exc: Exception) -> BaseException:
    name = str(getattr(exc, "sqlite_errorname", ""))
    if name == "SQLITE_INTERRUPT":
        return KeyboardInterrupt()
    if name.startswith(("SQLITE_AUTH", "SQLITE_READONLY")) or "not authorized" in str(exc):
        return Refused(
            f"`db sql` only reads: {exc}", hint="the other commands of wabcast change things"
        )
    wrong = sqlite.ProgrammingError | sqlite.DataError | sqlite.Warning
    if name in ("SQLITE_ERROR", "") or isinstance(exc, wrong):
        return UsageError(
            f"the SQL is wrong: {exc}",
            hint='one statement, as in wabcast db sql "select name, status from campaigns"',
        )
    return exc


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"$base64": True, "encoded": b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _readable(text: bytes) -> str:
    """A text that is not UTF-8 is shown as far as it is."""
    return text.decode(errors="replace")


def _go_on() -> int:
    return 0
