"""Putting a copy in the place of the database, so that nothing leaves until a person says so.

What must not break: a copy knows nothing of what was sent after it was made. Its campaigns come
up paused, what was on the wire is in doubt, and so is whatever the database that it replaces
knows to have left since; only a person, or a receipt, decides about those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite

from wabcast.campaign import FINISHED, Campaign
from wabcast.errors import NotFound, Refused
from wabcast.store import campaigns, copies, database, whereabouts
from wabcast.store.database import Tell

if TYPE_CHECKING:
    from wabcast.store.database import Connection

UNCHANGED = "nothing was changed; `wabcast db check --db FILE` looks at a copy"

ATTACH = "attach database :path as later"
DETACH = "detach database later"

# Owed or open in the copy, but the database that it replaces knows that it left, or may have.
LEFT_SINCE = """
update campaign_messages as open
   set status = case m.status when 'queued' then 'in_doubt' else m.status end,
       error_code = case m.status when 'queued' then 'restore' else m.error_code end,
       error_message = case m.status when 'queued'
           then 'it was on the wire when a copy was put back' else m.error_message end,
       attempts = m.attempts, run_id = m.run_id, content = m.content, pricing = m.pricing,
       whatsapp_message_id = m.whatsapp_message_id, queued_at = m.queued_at,
       sent_at = m.sent_at, delivered_at = m.delivered_at, read_at = m.read_at,
       replied_at = m.replied_at, failed_at = m.failed_at
  from later.campaign_messages m
  join later.campaigns c on c.number = m.campaign_id
  join main.campaigns mine on mine.id = c.id
 where mine.number = open.campaign_id
   and (m.contact_id = open.contact_id or m.contact_id is null and m.id = open.id)
   and open.status in ('pending', 'queued', 'in_doubt')
   and m.status not in ('pending', 'skipped')
   and (m.status <> open.status or open.status = 'queued')
"""

OPTED_OUT_SINCE = """
update contacts
   set opted_out_at = coalesce(contacts.opted_out_at, theirs.opted_out_at),
       opt_out_reason = coalesce(contacts.opt_out_reason, theirs.opt_out_reason),
       blocked_at = coalesce(contacts.blocked_at, theirs.blocked_at)
  from later.contacts theirs
 where theirs.phone = contacts.phone
   and (theirs.opted_out_at is not null or theirs.blocked_at is not null)
"""

SUPPRESSED_SINCE = "insert or ignore into suppressions select * from later.suppressions"

# How far each campaign and each account has come: the pace goes on from there.
SLOTS_SINCE = """
update campaigns set last_slot_at = max(campaigns.last_slot_at, theirs.last_slot_at)
  from later.campaigns theirs where theirs.id = campaigns.id
"""

PACE_SINCE = """
update accounts
   set next_slot_at = max(accounts.next_slot_at, theirs.next_slot_at),
       first_used_at = coalesce(accounts.first_used_at, theirs.first_used_at)
  from later.accounts theirs where theirs.name = accounts.name
"""

COOLING_SINCE = """
update accounts
   set cooling_until = theirs.cooling_until, cooling_since = theirs.cooling_since,
       cooling_reason = theirs.cooling_reason
  from later.accounts theirs
 where theirs.name = accounts.name and theirs.cooling_until > accounts.cooling_until
"""

REACHED_SINCE = """
insert into account_reach (account_id, contact_id, at)
select mine.id, r.contact_id, r.at
  from later.account_reach r
  join later.accounts theirs on theirs.id = r.account_id
  join main.accounts mine on mine.name = theirs.name
 where true
    on conflict (account_id, contact_id) do update set at = max(at, excluded.at)
"""

NUMBERED_SINCE = """
update sqlite_sequence set seq = max(sqlite_sequence.seq, theirs.seq)
  from later.sqlite_sequence theirs where theirs.name = sqlite_sequence.name
"""

NUMBERED_FIRST_SINCE = """
insert into sqlite_sequence (name, seq)
select name, seq from later.sqlite_sequence
 where name not in (select name from main.sqlite_sequence)
"""

# A file is born with its first migration, and its copies with it.
SAME_LIFE = """
select 1 from main._sqlite_migrations mine
  join later._sqlite_migrations theirs on theirs.applied_at = mine.applied_at
 where mine.name = 'm001_the_first_schema' and theirs.name = mine.name
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: the names that came up paused, how many were on the wire and are in
    doubt (`queued`), and of how many more the old database knew that they left (`since`).

    `known` is False where that old database could not be read, was another one, or did not know
    itself what has left: then nothing starts until the file is adopted.
    """

    paused: list[str] = field(default_factory=list)
    queued: int = 0
    since: int = 0
    known: bool = False


def take(source: Path, part: Path, tell: Tell) -> None:
    """A private copy of `source` at `part`, checked. Refused where it is not whole or not ours."""
    if not source.is_file():
        raise NotFound(f"no file {source}", hint="give a copy made by `wabcast db backup`")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        _copy(source, part, tell)
        with closing(sqlite.connect(str(part))) as copy:
            version = copy.execute("pragma user_version").fetchone()[0]
        if not version:
            raise Refused(f"{source} is not a wabcast database", hint=UNCHANGED)
        if version > database.SCHEMA:
            raise Refused(
                f"{source} was written by a newer wabcast", hint="upgrade wabcast; " + UNCHANGED
            )
        with closing(database.connect(part)) as db:  # an older schema is migrated
            from wabcast.store.soundness import examine

            found = examine(db).findings
    except database.DatabaseError as exc:
        raise Refused(f"{source} is damaged: {exc}", hint=UNCHANGED) from exc
    finally:
        for made in part.parent.glob(f"{part.name}.v*.bak"):
            made.unlink()
    if found:
        raise Refused(f"{source} is not sound: {found[0]}", hint=UNCHANGED)


def _copy(source: Path, part: Path, tell: Tell) -> None:
    with (
        closing(database.connect_read_only(source)) as theirs,
        closing(sqlite.connect(str(part), isolation_level=None)) as ours,
    ):
        database.copy_pages(theirs, ours, tell)


def calm(
    part: Path, current: Path | None, reason: str, *, at: str, in_doubt: bool = False
) -> Restored:
    """Let nothing of the copy leave by itself: see the module. `current` is what it replaces,
    where that can be read; `in_doubt` says that it is not the one that sends either."""
    with closing(database.connect(part)) as db:
        compared = current is not None and _attach(db, current)
        try:
            same = compared and db.execute(SAME_LIFE).fetchone() is not None
            with database.immediate(db):
                since = _take_over(db, same=same) if compared else 0
                calmed, queued = copies.calm(db, reason, at=at)
                whereabouts.forget(db)
        finally:
            if compared:
                db.execute(DETACH)
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
    known = same and not in_doubt
    return Restored([campaign.name for campaign in calmed], queued, since, known=known)


def _take_over(db: Connection, *, same: bool) -> int:
    """Keep what the later file knows; how many it knows to have left. `same`: it is the same
    database, so that a row has the same number in both."""
    since = int(db.execute(LEFT_SINCE).rowcount)
    told = (OPTED_OUT_SINCE, SUPPRESSED_SINCE, SLOTS_SINCE, PACE_SINCE, COOLING_SINCE)
    for statement in told:
        db.execute(statement)
    if same:
        for statement in (REACHED_SINCE, NUMBERED_SINCE, NUMBERED_FIRST_SINCE):
            db.execute(statement)
    return since


def _attach(db: Connection, current: Path) -> bool:
    try:
        db.execute(ATTACH, {"path": str(current.absolute())})
    except database.DatabaseError:
        return False
    try:
        sound = bool(db.execute("pragma later.quick_check(1)").fetchone()[0] == "ok")
        db.execute("select max(id) from later.campaign_messages").fetchone()
    except database.DatabaseError:
        sound = False
    if not sound:
        db.execute(DETACH)
    return sound


def put(part: Path, path: Path, *, known: bool) -> Path | None:
    """Make the database at `path` what `part` is; where the old one is kept, if there was one.
    With `known` it is the one that sends from now on.

    Into the living file, in one transaction, so that every process that has it open goes on
    with the new content; a file that is no database any more is moved aside.
    """
    before = _free(path.with_name(path.name + ".before-restore"))
    if not path.exists():
        _move_aside(path, before)  # journals without their file are not the new one's
        part.replace(path)
        return None
    try:
        with closing(database.connect(path)) as living:
            database.backup(living, before)
            _pour(part, living)
            if known:
                whereabouts.belong(living)
    except database.DatabaseError as exc:
        if not database.is_damaged(exc):
            raise
        _move_aside(path, before)
        part.replace(path)
    part.unlink(missing_ok=True)
    return before


def _pour(part: Path, living: Connection) -> None:
    with closing(sqlite.connect(str(part), isolation_level=None)) as source:
        source.backup(living, pages=-1)


def _move_aside(path: Path, before: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.replace(before.with_name(before.name + suffix))


def _free(path: Path) -> Path:
    """`path`, or the first of `path-2`, `path-3` ... that does not exist."""
    found, count = path, 1
    while found.exists():
        count += 1
        found = path.with_name(f"{path.name}-{count}")
    return found


def unfinished(path: Path) -> Iterable[Campaign]:
    """The campaigns of the database at `path` that may be running; none where it is damaged."""
    if not path.exists():
        return []
    try:
        with closing(database.connect_read_only(path)) as db:
            return [c for c in campaigns.listed(db) if c.status not in FINISHED]
    except database.DatabaseError:
        return []
