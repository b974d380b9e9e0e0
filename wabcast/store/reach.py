"""Whom an account has reached in the last 24 hours: what its daily cap counts.

What must not break: the count is made in the transaction that commits the intent, whose time is
taken there, so that no two processes, and no restart, can both take the last place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.clock import parse, text

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection

DAY = timedelta(days=1)

VALID = timedelta(seconds=2)
"""How long a count serves as an upper bound: counting anew costs time with the cap's size."""

MARGIN = timedelta(seconds=1)
"""A clock that is corrected by less than this hides nobody from the bound."""

REACHED = """
select 1 from account_reach where account_id = :account and contact_id = :contact and at > :since
"""

COUNT = "select count(*) from account_reach where account_id = :account and at > :since"

FREES = """
select at from account_reach where account_id = :account and at > :since
 order by at limit 1 offset :before
"""

NOTE = """
insert into account_reach (account_id, contact_id, at)
select :account, value, :at from json_each(:contacts) where true
    on conflict (account_id, contact_id) do update set at = excluded.at
"""

FIRST_USE = "update accounts set first_used_at = :at where id = :account and first_used_at is null"

# Noted by a clock that was ahead: they count for a day from now on, not until it comes round.
MEND = "update account_reach set at = :at where account_id = :account and at > :ahead"


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `people` different ones in a rolling 24 hours on an account; None: no cap, but
    who is reached is noted, for the day somebody sets one."""

    account: int
    people: int | None = None


@dataclass(slots=True)
class Seen:
    """The last count of an account, and when: with what came after, never less than there are."""

    account: int = 0
    people: int = 0
    at: datetime | None = None

    def bound(self, db: Connection, account: int, now: datetime) -> int | None:
        """At least as many as were reached; None where the count is too old to tell."""
        if self.at is None or self.account != account or not self.at <= now <= self.at + VALID:
            return None
        later = {"account": account, "since": text(self.at - MARGIN)}
        return self.people + int(db.execute(COUNT, later).fetchone()[0])


def full(db: Connection, cap: Cap, contact: int, now: datetime, seen: Seen) -> str | None:
    """When a cap that is used up has room again, for a tenth of it (UTC text); None: it has now.

    Whoever was reached already in these 24 hours may be reached again. Inside the transaction
    that commits the intent.
    """
    if cap.people is None:
        return None
    bound = seen.bound(db, cap.account, now)
    if bound is not None and bound < cap.people:
        return None
    window = {"account": cap.account, "since": text(now - DAY)}
    if db.execute(REACHED, {**window, "contact": contact}).fetchone():
        return None
    reached = people(db, cap.account, now)
    seen.account, seen.people, seen.at = cap.account, reached, now
    if reached < cap.people:
        return None
    room = max(1, cap.people // 10)
    before = reached - cap.people + room - 1
    frees = db.execute(FREES, {**window, "before": before}).fetchone()[0]
    return text(parse(frees) + DAY + timedelta(milliseconds=1))


def people(db: Connection, account: int, now: datetime) -> int:
    """How many an account has reached in the 24 hours before `now`."""
    return int(db.execute(COUNT, {"account": account, "since": text(now - DAY)}).fetchone()[0])


def note(db: Connection, account: int, contacts: Sequence[int], at: datetime) -> None:
    """These are reached by the account now; the first one begins the account's use."""
    told = {"account": account, "contacts": json.dumps(contacts), "at": text(at)}
    db.execute(NOTE, told)
    db.execute(FIRST_USE, told)


def mend(db: Connection, account: int, now: datetime) -> None:
    """Undo what a clock that was a day or more ahead has noted."""
    db.execute(MEND, {"account": account, "at": text(now), "ahead": text(now + DAY)})
