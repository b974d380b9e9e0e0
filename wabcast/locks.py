"""Who holds a campaign: a kernel file lock beside the database.

It dies with its process, `kill -9` included, so a lock that is free means that nobody is at
work, whatever the row says. Beside each lock stands how far its campaign has come: a file that
knows less was put back to what it had been before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.campaign import CampaignStatus, refusal

if TYPE_CHECKING:
    from filelock import FileLock

    from wabcast.campaign import Campaign

PATIENCE = 0.3
"""Seconds: somebody may just be looking whether the lock is free."""


def folder_of(database: Path) -> Path:
    """Where the locks of a database are, made if missing: beside the file itself.

    Whoever comes by a symbolic link must meet the others, as SQLite does with its WAL.
    """
    file = database.resolve()
    folder = file.with_name(file.name + ".locks")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _lock(database: Path, campaign: Campaign) -> FileLock:
    from filelock import FileLock

    folder = folder_of(database)
    return FileLock(folder / f"{campaign.id}.lock", mode=0o600, thread_local=False)


@contextmanager
def held(database: Path, campaign: Campaign) -> Iterator[None]:
    """Hold the campaign for as long as the block runs; Busy where another process does."""
    from filelock import Timeout

    lock = _lock(database, campaign)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.02)
    except Timeout as exc:
        raise refusal("start", campaign.name, CampaignStatus.RUNNING) from exc
    try:
        yield
    finally:
        lock.release()


def is_held(database: Path, campaign: Campaign) -> bool:
    """Whether a living process is at work on the campaign."""
    from filelock import Timeout

    lock = _lock(database, campaign)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def note(database: Path, campaign: Campaign, slot: int) -> None:
    """The campaign's last slot, microseconds, for whoever opens the file after a copy was put
    in its place. A hint: it is not waited for, and where it is lost nothing else is."""
    with suppress(OSError):
        file = os.open(_noted(database, campaign), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, b"%020d" % slot, 0)
        finally:
            os.close(file)


def noted(database: Path, campaign: Campaign) -> int:
    """What was noted last; 0 where nothing was."""
    try:
        return int(_noted(database, campaign).read_bytes() or 0)
    except (OSError, ValueError):
        return 0


def _noted(database: Path, campaign: Campaign) -> Path:
    return folder_of(database) / f"{campaign.id}.slot"
