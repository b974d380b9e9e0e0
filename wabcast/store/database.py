"""Opening the file, the one safe way; nothing else in the program makes a connection.

pysqlite3 with WAL and `synchronous=FULL`: a power cut may not forget that something left.
Several processes write, so every read-then-write begins with `immediate`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from wabcast.errors import NotFound, Refused, StoreError
from wabcast.failpoints import failpoint
from wabcast.store import whereabouts

if TYPE_CHECKING:
    from pysqlite3.dbapi2 import Connection, Cursor, Row

    __all__ = ["Connection", "Cursor", "Row"]

SCHEMA = 17
"""The number of the last migration in `schema/`; `PRAGMA user_version` holds the file's."""

BUSY_SECONDS = 30.0
NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre")
) | {"beegfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone"}

Tell = Callable[[int, int], None]
"""Hears how far a copy has come: pages done, pages in all."""

DatabaseError = sqlite.DatabaseError
OperationalError = sqlite.OperationalError
IntegrityError = sqlite.IntegrityError


def connect(
    path: Path, *, busy_seconds: float = BUSY_SECONDS, any_thread: bool = False
) -> Connection:
    """Open or create the database at `path`, at the schema this code knows.

    A new file is 0600 from birth; an old one is backed up, then migrated. Refuses a network
    file system and a newer schema; raises StoreError where the file cannot be used. The
    connection is of the thread that opened it; with `any_thread` the caller answers for it
    that no two threads have it at once.
    """
    _refuse_network(path)
    try:
        _give_birth(path)
        db = _open(path, busy_seconds, any_thread=any_thread)
    except OSError as exc:
        raise StoreError(
            f"cannot open the database {path}: {exc.strerror or exc}",
            hint="check the folder's permissions, or name another file with --db",
        ) from exc
    try:
        _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def connect_read_only(path: Path) -> Connection:
    """A second pair of eyes on an existing file: can look, cannot touch."""
    if not path.exists():
        raise NotFound(f"no database at {path}", hint="`wabcast db path` says where it is")
    db = _look(path, "mode=ro")
    try:
        db.execute("select 1 from sqlite_schema limit 1").fetchall()
    except OperationalError as exc:
        db.close()
        if not _lacks_room(exc):
            raise
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise StoreError(
                f"cannot look at {path} here: its last changes are in {log.name}, and its folder "
                "is read-only",
                hint="copy both files to a folder that can be written, and look there: --db COPY",
            ) from exc
        return _look(path, "immutable=1")
    except DatabaseError:
        pass  # damaged: whoever looks says how
    return db


def _look(path: Path, how: str) -> Connection:
    db = sqlite.connect(f"file:{_quoted(path)}?{how}", uri=True, isolation_level=None)
    db.row_factory = sqlite.Row
    db.execute(f"pragma busy_timeout = {int(BUSY_SECONDS * 1000)}")
    return db


def _lacks_room(exc: BaseException) -> bool:
    """A folder, or a medium, that cannot be written has no room for SQLite's shared memory."""
    name = str(getattr(exc, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")) and _may_open_files()


def path_of(db: Connection) -> Path:
    """The file that a connection was opened on."""
    return Path(
        db.execute("select file from pragma_database_list where name = 'main'").fetchone()[0]
    )


@contextmanager
def hurried(db: Connection, milliseconds: int) -> Iterator[None]:
    """Wait no longer than this for others while it is entered, and then as long as before."""
    usual = int(db.execute("pragma busy_timeout").fetchone()[0])
    db.execute(f"pragma busy_timeout = {milliseconds}")
    try:
        yield
    finally:
        db.execute(f"pragma busy_timeout = {usual}")


@contextmanager
def immediate(db: Connection) -> Iterator[Connection]:
    """A transaction that holds the write lock from its first statement.

    A deferred one that reads first fails at once under contention, whatever the timeout.
    """
    db.execute("begin immediate")
    try:
        yield db
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise
    db.execute("commit")


def is_busy(exc: BaseException) -> bool:
    return isinstance(exc, OperationalError) and (
        "locked" in str(exc) or "busy" in str(exc).lower()
    )


def is_damaged(exc: BaseException) -> bool:
    """Whether SQLite says that the file is broken or no database; no retry would help."""
    name = str(getattr(exc, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def advice(exc: BaseException) -> str:
    """What a person can do about a file that cannot be written."""
    told = str(exc).lower()
    if "readonly" in told or "read-only" in told:
        what = "the file, or its folder, is read-only for you: give yourself the right to write"
    elif "full" in told:
        what = "free some space on its disk"
    elif "locked" in told or "busy" in told:
        what = "end the process that holds it"
    elif "unable to open" in told and not _may_open_files():
        what = "let this process open more files, as with: ulimit -n 1024"
    else:
        what = "free some space on its disk, or see what `wabcast doctor` finds"
    return f"{what}; then run the same command again: it goes on where it stopped"


def _may_open_files() -> bool:
    try:
        with open(os.devnull, "rb"):
            return True
    except OSError:
        return False


def backup(db: Connection, target: Path, tell: Tell = lambda _done, _total: None) -> None:
    """Copy the live database to `target`, whole or not at all; `tell` hears of the pages.

    The copy knows that it is one: wherever it is put, nothing leaves until a person resumes.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    copy = sqlite.connect(str(part), isolation_level=None)
    try:
        copy_pages(db, copy, tell)
        failpoint("in-backup")
        whereabouts.forget(copy)
    finally:
        copy.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def copy_pages(source: Connection, target: Connection, tell: Tell) -> None:
    """Make `target` what `source` is now, in one transaction of `target`.

    The snapshot is held for as long as it takes: without it every commit of another process
    would make SQLite begin again, for ever on a busy file.
    """
    source.execute("begin")
    try:
        source.execute("select 1 from sqlite_schema limit 1").fetchall()
        source.backup(
            target, pages=2000, progress=lambda _status, left, total: tell(total - left, total)
        )
    finally:
        source.execute("rollback")


def _open(path: Path, busy_seconds: float, *, any_thread: bool) -> Connection:
    try:
        db = sqlite.connect(
            str(path),
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=not any_thread,
        )
        db.row_factory = sqlite.Row
        db.execute("pragma foreign_keys = on")
        db.execute("pragma trusted_schema = off")
        db.execute("pragma secure_delete = fast")  # who is removed is gone from the pages too
        _write_ahead(db, busy_seconds)
        db.execute("pragma synchronous = full")
        db.execute("pragma cache_size = -4000")
    except sqlite.DatabaseError as exc:
        if is_damaged(exc):
            raise
        raise StoreError(
            f"cannot use the database {path}: {exc}",
            hint=advice(exc),
        ) from exc
    return db


def _write_ahead(db: Connection, busy_seconds: float) -> None:
    """Turn WAL on; the switch ignores the busy timeout, so we wait ourselves."""
    until = time.monotonic() + busy_seconds
    while True:
        try:
            if db.execute("pragma journal_mode").fetchone()[0] == "wal":
                return
            db.execute("pragma journal_mode = wal")
        except OperationalError as exc:
            if not is_busy(exc) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _give_birth(path: Path) -> None:
    """Make the file private before SQLite sees it: its journals inherit the mode."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return  # another first start was a moment earlier


def _migrate(db: Connection, path: Path) -> None:
    version = _version(db)
    if version == SCHEMA:
        return
    _refuse_newer(version, path)
    if version:
        backup(db, path.with_name(f"{path.name}.v{version}.bak"))
    import sqlite_utils

    from wabcast.store.migrations import migrations

    with _named_errors(path), immediate(db):
        # Somebody else may have done it while we waited for the lock.
        version = _version(db)
        _refuse_newer(version, path)
        if version < SCHEMA:
            if not version and db.execute("select 1 from sqlite_master limit 1").fetchone():
                raise Refused(
                    f"{path} is not a wabcast database",
                    hint="name another file with --db; nothing was changed in this one",
                )
            migrations.apply(sqlite_utils.Database(db))
            db.execute(f"pragma user_version = {SCHEMA}")


def _version(db: Connection) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])


def _refuse_newer(version: int, path: Path) -> None:
    if version > SCHEMA:
        raise Refused(
            f"{path} was written by a newer wabcast (schema {version}, this one knows {SCHEMA})",
            hint="upgrade wabcast: pip install --upgrade wabcast",
        )


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite.DatabaseError as exc:
        if is_damaged(exc):
            raise
        raise StoreError(
            f"cannot write the database {path}: {exc}",
            hint="check free space and permissions, then run the same command again",
        ) from exc


def _refuse_network(path: Path) -> None:
    """SQLite's WAL needs shared memory, which a network file system does not have."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    kind = file_system(folder.resolve())
    if kind in NETWORK_FILE_SYSTEMS:
        raise Refused(
            f"{path} is on a network file system ({kind}), where SQLite loses data",
            hint="keep the database on a local disk: --db FILE or WABCAST_DB",
        )


def file_system(folder: Path, mounts: str | None = None) -> str:
    """The type of the file system that holds `folder`, "" where nobody says (not Linux)."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = folder == Path(point) or Path(point) in folder.parents
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
