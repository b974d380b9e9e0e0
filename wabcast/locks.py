"""Who holds a campaign: a kernel file lock beside the database.

It dies with its process, `kill -9` included, so a lock that is free means that nobody is at
work, whatever the row says. Beside each lock stands how far its campaign has come: a file that
knows less was put back to what it had been before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.campaign import CampaignStatus, refusal

if TYPE_CHECKING:
    from filelock import FileLock

    from wabcast.campaign import Campaign

ENDING = ".locks"

NOTE = ".slot"

PATIENCE = 0.3
"""Seconds that a holder is waited for: it may be letting go just now."""

LOOKERS_PATIENCE = 10.0
"""Seconds that lookers are waited for. Each has the file for some microseconds."""

RETRY_EVERY = 0.001


def folder_of(database: Path) -> Path:
    """Where the locks of a database are, made if missing: beside the file itself.

    Whoever comes by a symbolic link must meet the others, as SQLite does with its WAL.
    """
    file = database.resolve()
    folder = file.with_name(file.name + ENDING)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _file(database: Path, campaign: Campaign) -> Path:
    return folder_of(database) / f"{campaign.id}.lock"


@contextmanager
def held(database: Path, campaign: Campaign) -> Iterator[None]:
    """Hold the campaign for as long as the block runs; Busy where another process does."""
    from filelock import FileLock

    file = _file(database, campaign)
    lock = FileLock(file, mode=0o600, thread_local=False)
    if not _acquire(lock, file):
        raise refusal("start", campaign.name, CampaignStatus.RUNNING)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, file: Path) -> bool:
    """Take the lock; False where another process keeps it. Lookers are no reason to give up."""
    from filelock import Timeout

    began = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            patience = PATIENCE if _is_held(file) else LOOKERS_PATIENCE
            if time.monotonic() - began > patience:
                return False
            time.sleep(RETRY_EVERY)
        else:
            return True


def is_held(database: Path, campaign: Campaign) -> bool:
    """Whether a living process is at work on the campaign.

    Invariant: a look makes no file, and no other look takes it for a holder.
    """
    file = database.resolve()
    return _is_held(file.with_name(file.name + ENDING) / f"{campaign.id}.lock")


def _is_held(file: Path) -> bool:
    """Holders have the exclusive lock, lookers ask for a shared one: those agree."""
    try:
        looked_at = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(looked_at, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(looked_at)  # which lets go of it
    return False


def releases_of(database: Path, account: int) -> Path:
    """The file of an account's last releases (`store/release_log.py`)."""
    return folder_of(database) / f"account-{account}.releases"


def note(database: Path, campaign: Campaign, slot: int) -> None:
    """The campaign's last slot, microseconds, for whoever opens the file after a copy was put
    in its place. A hint: it is not waited for, and where it is lost nothing else is."""
    with suppress(OSError):
        file = os.open(
            folder_of(database) / f"{campaign.id}{NOTE}", os.O_WRONLY | os.O_CREAT, 0o600
        )
        try:
            os.pwrite(file, b"%020d" % slot, 0)
        finally:
            os.close(file)


def noted(database: Path, campaign_id: str) -> int:
    """What was noted last of the campaign; 0 where nothing was. Makes no file."""
    file = database.resolve()
    try:
        return int((file.with_name(file.name + ENDING) / f"{campaign_id}{NOTE}").read_bytes() or 0)
    except (OSError, ValueError):
        return 0
