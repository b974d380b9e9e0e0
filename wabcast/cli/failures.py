"""What others threw, in our words: the command line's faults, the disk's, and our bugs.

Only `__main__` and `output.close` end a command with what comes from here.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from wabcast.errors import NotFound, StoreError, UsageError, WabcastError

if TYPE_CHECKING:
    import typer

_STORE = (
    "SQLITE_FULL",
    "SQLITE_READONLY",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
    "SQLITE_PERM",
)
MORE_FILES = "raise its limit, as with: ulimit -n 1024"

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def from_typer(exc: typer.TyperException) -> WabcastError:
    """A wrong command line. The hint is the command whose `--help` tells it right."""
    command = getattr(getattr(exc, "ctx", None), "command_path", "wabcast")
    message = " ".join(exc.format_message().split())
    return _because(exc, UsageError(message, hint=f"{command} --help"))


def from_machine(exc: Exception) -> WabcastError:
    """What SQLite, the operating system or a mistake of ours raised.

    A damaged database and a bug end with 1, a disk that does not take our writes with 12.
    """
    while isinstance(exc, ExceptionGroup):  # thrown out of a group of tasks
        exc = exc.exceptions[0]
    if isinstance(exc, WabcastError):
        return exc
    if _too_many_files(exc):
        return _because(exc, WabcastError("this process may open no more files", hint=MORE_FILES))
    name = str(getattr(exc, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _because(
            exc,
            WabcastError(
                f"the database is damaged: {exc}",
                hint="`wabcast db check` looks at it; `wabcast db restore` puts a backup in its "
                "place, and keeps this file beside it",
            ),
        )
    if name.startswith(_STORE):
        from wabcast.store.database import advice

        return _because(exc, StoreError(f"the database cannot be used: {exc}", hint=advice(exc)))
    if isinstance(exc, UnicodeEncodeError):  # SQLite holds nothing else
        half = exc.object[exc.start : exc.end].encode("unicode_escape").decode()
        said = f"a text holds half a character ({half})"
        return _because(exc, UsageError(said, hint="texts are UTF-8; look at it in an editor"))
    if isinstance(exc, OSError) and exc.strerror:
        return _because(exc, _from_system(exc))
    return _because(
        exc,
        WabcastError(
            f"{type(exc).__name__}: {exc} (a bug)",
            hint="run it again with --verbose and report what it says",
        ),
    )


def _from_system(exc: OSError) -> WabcastError:
    what = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror)
    if exc.errno in _DISK:
        return StoreError(f"cannot write: {what}", hint="make room, then run it again")
    if isinstance(exc, FileNotFoundError):
        return NotFound(f"no such file: {exc.filename}", hint="check the spelling of the path")
    return WabcastError(what, hint="run it again with --verbose to see where")


def _too_many_files(exc: BaseException | None) -> bool:
    """Also where cleaning up after it failed as well."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in (errno.EMFILE, errno.ENFILE):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _because(cause: Exception, error: WabcastError) -> WabcastError:
    error.__cause__ = cause
    return error
