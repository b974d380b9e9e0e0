"""Everything that can end a command, with the exit code it ends with.

    WabcastError                1   an error of ours or of the machine
    ├── UsageError              2   the command line is wrong
    ├── Refused                 5   the state, a check or a safety rule forbids it; nothing was sent
    │   └── BadContent          5   a message that cannot be said: a hole, a length, a kind
    ├── NotFound               10   no such campaign, contact, account, template, segment, file
    ├── Busy                   11   another process is running it
    └── StoreError             12   the disk is full or the database cannot be written

The codes 0, 3 and 4 are outcomes, not errors: see `Exit`. A test compares this
drawing with the classes.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a script may branch on. The only place where the numbers stand."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SOME_FAILED = 3
    STOPPED = 4
    REFUSED = 5
    NOT_FOUND = 10
    BUSY = 11
    STORE = 12
    INTERRUPTED = 130


# Which of several outcomes a command over several campaigns ends with.
WORST_FIRST = (
    Exit.ERROR,
    Exit.STORE,
    Exit.BUSY,
    Exit.REFUSED,
    Exit.STOPPED,
    Exit.SOME_FAILED,
    Exit.DONE,
)


class WabcastError(Exception):
    """Says what was wrong with which thing; `hint` says what to do about it."""

    exit_code = Exit.ERROR
    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(WabcastError):
    exit_code = Exit.USAGE
    code = "usage"


class Refused(WabcastError):
    exit_code = Exit.REFUSED
    code = "refused"


class BadContent(Refused):
    code = "bad_content"


class NotFound(WabcastError):
    exit_code = Exit.NOT_FOUND
    code = "not_found"


class Busy(WabcastError):
    exit_code = Exit.BUSY
    code = "busy"


class StoreError(WabcastError):
    exit_code = Exit.STORE
    code = "store"
