"""Whether this file is the one that sends: nobody is messaged twice because there are two of it.

Invariant: in a file that was copied, moved to another disk or put back, nothing starts until a
person says that no other copy sends any more (`wabcast db adopt`). What no file can know of is
a whole machine that was put back to an earlier moment.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wabcast import locks
from wabcast.errors import Refused, WabcastError
from wabcast.store import copies, whereabouts
from wabcast.store.database import DatabaseError, connect, immediate

if TYPE_CHECKING:
    from pathlib import Path

    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection

COPIED = "was copied, or moved here: the other file may send, or may have sent since"

OLDER = "knows less than was sent: an older copy was put in its place"

ADOPT = "where no other copy of it sends any more, say so: wabcast db adopt --yes"

PUT_BACK = (
    "`wabcast db restore` puts a copy back and keeps what is known to have left; to send from this "
    "one all the same: wabcast db adopt --yes"
)

ADOPTED = "this file was adopted as the one that sends"


@dataclass(frozen=True, slots=True)
class Adopted:
    """The campaigns that came up paused, and how many messages are in doubt since."""

    paused: list[Campaign]
    in_doubt: int


def doubt(db: Connection) -> str | None:
    """Why nothing may start in this file; None where it is the one that sends."""
    if whereabouts.strayed(db):
        return COPIED
    return OLDER if _older(db) else None


def refuse(db: Connection) -> None:
    """Before anything is set in motion. Raises Refused, each time, until the file is adopted."""
    why = doubt(db)
    if why is None:
        return
    raise Refused(
        f"nothing starts: the database {why}",
        hint=PUT_BACK if why is OLDER else ADOPT,
    )


def adopt(db: Connection, *, at: str) -> Adopted | None:
    """A person's word that this file is the one that sends; None where it was already.

    What would have sent by itself is paused, what was on the wire is in doubt. Busy while a
    campaign of the file is carried.
    """
    path = whereabouts.file_of(db)
    if path is None or doubt(db) is None:
        return None
    with ExitStack() as stack:
        for campaign in copies.unfinished(db):
            stack.enter_context(locks.held(path, campaign))
        with immediate(db):
            paused, in_doubt = copies.calm(db, ADOPTED, at=at)
            whereabouts.belong(db)
        # After the commit: where this is cut off the file still refuses.
        for campaign in copies.unfinished(db):
            locks.note(path, campaign, campaign.last_slot_at)
    return Adopted(paused, in_doubt)


def is_doubtful(path: Path) -> bool:
    """Whether nothing may start in the database at `path`, or it is not there or not readable."""
    if not path.exists():
        return True
    try:
        with closing(connect(path)) as db:
            return doubt(db) is not None
    except (DatabaseError, WabcastError):
        return True


def _older(db: Connection) -> bool:
    """Whether more of a campaign has left than the file knows, by what stands beside its lock."""
    path: Path | None = whereabouts.file_of(db)
    if path is None:
        return False
    return any(
        locks.noted(path, campaign_id) > last_slot for campaign_id, last_slot in copies.slots(db)
    )
