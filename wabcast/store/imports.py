"""Contacts come in: a chunk at a time, each in a transaction of its own.

What must not break: an import that is killed and run again ends where one that was not killed
would have; memory does not grow with the file; and somebody who opted out comes in opted out,
even when nothing but the hash of their number was left.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.clock import parse, text
from wabcast.failpoints import failpoint
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.contacts import Contact
    from wabcast.store.database import Connection

CHUNK = 2000
"""Contacts in one transaction: the write lock is held for some 30 ms, then others may."""

FIELDS = ("first_name", "last_name", "name", "email", "company", "language", "timezone")
"""The columns that say who somebody is, beside the phone."""

BARRED = ("opted_out_at", "opt_out_reason", "blocked_at")
"""Columns of an export: whoever was opted out or blocked there is so here. Never the reverse."""

Chunk = tuple[list[tuple[str | int, ...]], int]
"""Rows of `incoming`, each number once, and how many contacts were merged into others."""

INCOMING = """
create temp table if not exists incoming (
    phone text not null, number integer not null, phone_hash text not null,
    first_name text, last_name text, name text, email text, company text, language text,
    timezone text, attributes text not null, tags text not null, opted_out_at text,
    opt_out_reason text, blocked_at text, known integer not null default 0
)
"""

# A temporary table would be kept in memory, as this SQLite is built; the numbers that an import
# has met are as many as its rows. So they lie in a file that is gone when it is over.
BESIDE = (
    "attach :file as beside",
    "pragma beside.journal_mode = off",
    "pragma beside.synchronous = off",
    "pragma beside.cache_size = -2000",
    "create table beside.seen (number integer primary key)",
)

EMPTY_INCOMING = "delete from temp.incoming"

# An empty text for what is not there: to bind a None costs pysqlite3 ten times as much.
STAGE = """
insert into temp.incoming
    (phone, number, phone_hash, first_name, last_name, name, email, company, language, timezone,
     attributes, tags, opted_out_at, opt_out_reason, blocked_at)
values (?, ?, ?, nullif(?, ''), nullif(?, ''), nullif(?, ''), nullif(?, ''), nullif(?, ''),
        nullif(?, ''), nullif(?, ''), ?, ?, nullif(?, ''), nullif(?, ''), nullif(?, ''))
"""

# New values replace, empty ones do not erase, attributes are merged and tags are added.
_CHANGED = """
       (c.listed = 0
        or coalesce(i.first_name, c.first_name) is not c.first_name
        or coalesce(i.last_name, c.last_name) is not c.last_name
        or coalesce(i.name, c.name) is not c.name
        or coalesce(i.email, c.email) is not c.email
        or coalesce(i.company, c.company) is not c.company
        or coalesce(i.language, c.language) is not c.language
        or coalesce(i.timezone, c.timezone) is not c.timezone
        or (i.opted_out_at is not null and c.opted_out_at is null)
        or (i.blocked_at is not null and c.blocked_at is null)
        or (i.attributes <> '{}' and i.attributes <> c.attributes
            and json_patch(c.attributes, i.attributes) <> c.attributes)
        or (i.tags <> '[]' and exists (
            select 1 from json_each(i.tags) as t where not exists (
                select 1 from contact_tags as h where h.contact_id = c.id and h.tag = t.value))))
"""

COUNT = (
    """
select coalesce(sum(s.number is not null), 0),
       coalesce(sum(s.number is null and coalesce(c.listed, 0) = 0), 0),
       coalesce(sum(s.number is null and c.listed = 1 and """
    + _CHANGED
    + """), 0),
       coalesce(sum(c.listed = 0), 0)
  from temp.incoming as i
  left join contacts as c on c.phone = i.phone
  left join beside.seen as s on s.number = i.number
"""
)

UPDATE = (
    """
update contacts as c
   set first_name = coalesce(i.first_name, c.first_name),
       last_name = coalesce(i.last_name, c.last_name),
       name = coalesce(i.name, c.name),
       email = coalesce(i.email, c.email),
       company = coalesce(i.company, c.company),
       language = coalesce(i.language, c.language),
       timezone = coalesce(i.timezone, c.timezone),
       attributes = json_patch(c.attributes, i.attributes),
       opt_out_reason = iif(c.opted_out_at is null, i.opt_out_reason, c.opt_out_reason),
       opted_out_at = coalesce(c.opted_out_at, i.opted_out_at),
       blocked_at = coalesce(c.blocked_at, i.blocked_at),
       listed = 1, updated_at = :at
  from temp.incoming as i
 where c.phone = i.phone and (:update or c.listed = 0) and """
    + _CHANGED
)

KNOWN = """
update temp.incoming as i set known = 1
 where exists (select 1 from contacts as c where c.phone = i.phone and c.listed = 1)
"""

INSERT = """
insert into contacts (phone, first_name, last_name, name, email, company, language, timezone,
                      attributes, opted_out_at, opt_out_reason, blocked_at,
                      created_at, updated_at)
select i.phone, i.first_name, i.last_name, i.name, i.email, i.company, i.language, i.timezone,
       i.attributes, coalesce(s.at, i.opted_out_at),
       iif(s.at is null, i.opt_out_reason, s.reason), i.blocked_at, :at, :at
  from temp.incoming as i left join suppressions as s on s.phone_hash = i.phone_hash
 where true
    on conflict (phone) do nothing
"""

TAG = """
insert into contact_tags (contact_id, tag)
select c.id, t.value
  from temp.incoming as i, json_each(i.tags) as t, contacts as c
 where i.known = 0 and i.tags <> '[]' and c.phone = i.phone
    on conflict do nothing
"""

SEE = "insert into beside.seen select number from temp.incoming where true on conflict do nothing"


class OnConflict(StrEnum):
    UPDATE = "update"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the contacts that came; each is counted once.

    A duplicate is the same number again in one import: its values are merged as any others.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.duplicates + other.duplicates,
        )


def upsert(
    db: Connection,
    contacts: Iterable[Contact],
    *,
    at: str,
    on_conflict: OnConflict = OnConflict.UPDATE,
    dry_run: bool = False,
) -> Counts:
    """Take `contacts` in and say what became of them; `dry_run` counts and writes nothing.

    With UPDATE later values win over earlier ones; with SKIP whoever is there stays as they are,
    and the first of several rows wins. The reading happens between the transactions, not in them.
    """
    return take(db, chunks(contacts, on_conflict), at=at, on_conflict=on_conflict, dry_run=dry_run)


def chunks(contacts: Iterable[Contact], on_conflict: OnConflict) -> Iterator[Chunk]:
    """`contacts` made ready for `take`, as far as that needs no database."""
    source = iter(contacts)
    while chunk := list(itertools.islice(source, CHUNK)):
        yield staged(chunk, on_conflict)


def take(
    db: Connection,
    ready: Iterable[Chunk],
    *,
    at: str,
    on_conflict: OnConflict = OnConflict.UPDATE,
    dry_run: bool = False,
) -> Counts:
    """The other half of `upsert`: chunks into the file."""
    counts = Counts()
    with beside(db):
        for rows, merged in ready:
            counts += Counts(duplicates=merged)
            counts += _take(db, rows, at=at, on_conflict=on_conflict, dry_run=dry_run)
            failpoint("in-import")
    return counts


@contextmanager
def beside(db: Connection) -> Iterator[None]:
    """The tables that an import needs for itself, while it lasts. Outside of a transaction."""
    db.execute(INCOMING)
    with tempfile.TemporaryDirectory(prefix="wabcast-") as folder:
        for statement in BESIDE:
            given = {"file": str(Path(folder) / "seen.db")} if ":file" in statement else {}
            db.execute(statement, given)
        try:
            yield
        finally:
            db.execute("detach beside")
            db.execute(EMPTY_INCOMING)


def phone_hash(phone: str) -> str:
    """What is kept of a number whose owner was removed: SHA-256 of the E.164, in hex."""
    return hashlib.sha256(phone.encode()).hexdigest()


def compact(value: object) -> str:
    """JSON as SQLite itself writes it, so that what is equal is equal as text."""
    return _compact(value)


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def staged(chunk: list[Contact], on_conflict: OnConflict) -> Chunk:
    """A chunk's rows, the same number once."""
    people = _folded(chunk, on_conflict)
    return list(map(_staged, people)), len(chunk) - len(people)


def _folded(chunk: list[Contact], on_conflict: OnConflict) -> list[Contact]:
    people: dict[str, Contact] = {}
    for contact in chunk:
        known = people.get(contact.phone)
        if known is None:
            people[contact.phone] = contact
        elif on_conflict is OnConflict.UPDATE:
            people[contact.phone] = _merged(known, contact)
    return list(people.values())


def _merged(earlier: Contact, later: Contact) -> Contact:
    attributes = earlier.attributes | {k: v for k, v in later.attributes.items() if v}
    return replace(
        earlier,
        first_name=later.first_name or earlier.first_name,
        last_name=later.last_name or earlier.last_name,
        name=later.name or earlier.name,
        email=later.email or earlier.email,
        company=later.company or earlier.company,
        language=later.language or earlier.language,
        timezone=later.timezone or earlier.timezone,
        attributes=attributes,
        tags=tuple(dict.fromkeys((*earlier.tags, *later.tags))),
    )


def _take(
    db: Connection,
    rows: list[tuple[str | int, ...]],
    *,
    at: str,
    on_conflict: OnConflict,
    dry_run: bool,
) -> Counts:
    db.execute("begin")  # of the temporary table only: nobody is locked out
    db.execute(EMPTY_INCOMING)
    db.executemany(STAGE, rows)
    db.execute("commit")
    update = on_conflict is OnConflict.UPDATE
    with _looking(db) if dry_run else immediate(db):
        duplicates, inserted, changed, unlisted = db.execute(COUNT).fetchone()
        updated = changed if update else 0
        if not dry_run:
            if not update:
                db.execute(KNOWN)
            # Who is known by a test message only is new to whoever imports them.
            if unlisted or (update and (updated or duplicates)):
                db.execute(UPDATE, {"at": at, "update": update})
            if inserted:
                db.execute(INSERT, {"at": at})
            if inserted or updated or duplicates:
                db.execute(TAG)
        db.execute(SEE)
    unchanged = len(rows) - duplicates - inserted - updated
    return Counts(inserted, updated, unchanged, duplicates)


@contextmanager
def _looking(db: Connection) -> Iterator[None]:
    db.execute("begin")
    try:
        yield
    finally:
        db.execute("commit")


def _staged(contact: Contact) -> tuple[str | int, ...]:
    phone = contact.phone
    attributes = contact.attributes
    barred = ("", "", "")
    if not attributes.keys().isdisjoint(BARRED):
        told = {name: attributes.get(name, "") for name in BARRED}
        attributes = {name: value for name, value in attributes.items() if name not in told}
        opted_out_at = _time(told["opted_out_at"])
        reason = (told["opt_out_reason"] or "imported") if opted_out_at else ""
        barred = (opted_out_at, reason, _time(told["blocked_at"]))
    if attributes and not all(attributes.values()):
        attributes = {name: value for name, value in attributes.items() if value}
    return (
        phone,
        int(phone[1:]),
        phone_hash(phone),
        contact.first_name,
        contact.last_name,
        contact.name,
        contact.email,
        contact.company,
        contact.language or "",
        contact.timezone or "",
        _compact(attributes) if attributes else "{}",
        _compact(contact.tags) if contact.tags else "[]",
        *barred,
    )


def _time(value: str) -> str:
    """A time of ours as it is; anything else that says so, from a time before all others."""
    if not value:
        return ""
    try:
        return text(parse(value))
    except ValueError:
        return "1970-01-01T00:00:00.000Z"
