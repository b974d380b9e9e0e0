"""Test messages: each the one recipient of a campaign of its own, which nobody lists or counts.

So that a test takes the way of any message: opt-out, slots, caps, ledger, receipts, doubts.
Invariant: `campaigns.test_of` is the campaign that is tested; with that one its tests are deleted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from wabcast.audience import Audience, AudienceKind
from wabcast.campaign import Campaign, RecipientsState, refused
from wabcast.errors import Refused
from wabcast.store import campaigns
from wabcast.store.database import immediate
from wabcast.store.imports import phone_hash
from wabcast.store.ledger import AT_ONCE

if TYPE_CHECKING:
    from wabcast.store.database import Connection

WHO = "select id, opted_out_at, blocked_at from contacts where phone = :phone"

SUPPRESSED = "select reason from suppressions where phone_hash = :hash"

# Known by the test alone: chosen by no audience, listed nowhere, until somebody imports them.
STRANGER = """
insert into contacts (phone, listed, created_at, updated_at) values (:phone, 0, :at, :at)
"""

CREATE = """
insert into campaigns (id, name, account_id, content, trusted, variables, missing, audience, rate,
    batch_size, batch_delay, concurrency, jitter, test_of, total_recipients, pending, created_at,
    updated_at)
values (:id, :name, :account_id, :content, :trusted, :variables, :missing, :audience, 'max',
    1, 0, 1, '0ms', :test_of, 1, 1, :at, :at)
"""

OWE = """
insert into campaign_messages (campaign_id, contact_id, due_at)
select number, :contact, :at_once from campaigns where id = :id
"""

OPEN = (
    campaigns.SELECT
    + """
 where c.test_of is not null and c.status in ('draft', 'running', 'paused') order by c.number
"""
)

DOUBTS = """
select coalesce(t.name, c.name) as campaign, m.queued_at
  from campaign_messages m
  join contacts p on p.id = m.contact_id
  join campaigns c on c.number = m.campaign_id
  left join campaigns t on t.id = c.test_of
 where p.phone = :phone and m.status = 'in_doubt' and c.test_of is not null
 order by m.id
"""

OUTCOME = """
select m.status, m.content, m.whatsapp_message_id, m.error_code, m.error_message, c.reason
  from campaigns c join campaign_messages m on m.campaign_id = c.number
 where c.id = :id
"""

FORGET = "delete from campaigns where id = :id and test_of is not null and status = 'draft'"

FORGET_STRANGER = """
delete from contacts
 where phone = :phone and listed = 0 and opted_out_at is null and blocked_at is null
   and not exists (select 1 from campaign_messages where contact_id = contacts.id)
   and not exists (select 1 from inbound_messages where contact_id = contacts.id)
"""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An earlier test that may have arrived: of which campaign, and when, UTC text."""

    campaign: str
    at: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a test: the state of its message, what it said (JSON, if it was tried) and
    why; `reason` is why its run stopped, where it did."""

    status: str
    content: str | None
    message_id: str | None
    code: str | None
    error: str | None
    reason: str | None


def create(db: Connection, tested: Campaign, phone: str, *, id_: str, at: str) -> Campaign:
    """Owe `phone` (E.164) one message that says what the campaign says now, at no pace but the
    account's. Refused for whoever is opted out or blocked."""
    with immediate(db):
        now = campaigns.by_id(db, tested.id)
        if now.recipients_state is RecipientsState.DELETING:
            raise refused("test", now)
        contact = _reachable(db, phone, at)
        row = {field.name: getattr(now, field.name) for field in fields(now)}
        row |= {
            name: json.dumps(row[name], ensure_ascii=False) for name in ("content", "variables")
        }
        row |= {
            "id": id_,
            "name": f"{now.name} (test {id_})",
            "audience": json.dumps(Audience(AudienceKind.PHONES).to_json()),
            "test_of": now.id,
            "at": at,
        }
        db.execute(CREATE, row)
        db.execute(OWE, {"id": id_, "contact": contact, "at_once": AT_ONCE})
        return campaigns.by_id(db, id_)


def _reachable(db: Connection, phone: str, at: str) -> int:
    """The contact's id; one that only tests know for a number that is nobody's."""
    row = db.execute(WHO, {"phone": phone}).fetchone()
    if row is None:
        barred = db.execute(SUPPRESSED, {"hash": phone_hash(phone)}).fetchone()
        if barred is None:
            return int(db.execute(STRANGER, {"phone": phone, "at": at}).lastrowid or 0)
    elif row["opted_out_at"] is None and row["blocked_at"] is None:
        return int(row["id"])
    blocked = row is not None and row["opted_out_at"] is None
    raise Refused(
        f"{phone} is blocked" if blocked else f"{phone} wants no messages (opted out)",
        hint="a test is a message as any other; choose another number",
    )


def unfinished(db: Connection) -> list[Campaign]:
    """Tests whose run has not come to an end, or not begun."""
    return campaigns.found(db, OPEN, {})


def doubts(db: Connection, phone: str) -> list[Doubt]:
    """Earlier tests to the number of which nobody knows whether they arrived."""
    rows = db.execute(DOUBTS, {"phone": phone}).fetchall()
    return [Doubt(row["campaign"], row["queued_at"]) for row in rows]


def outcome(db: Connection, test: Campaign) -> Outcome | None:
    """What became of it; None where the tested campaign was deleted meanwhile."""
    row = db.execute(OUTCOME, {"id": test.id}).fetchone()
    return None if row is None else Outcome(*row)


def forget(db: Connection, test: Campaign, phone: str) -> None:
    """Undo a test that was refused before it began."""
    with immediate(db):
        db.execute(FORGET, {"id": test.id})
        db.execute(FORGET_STRANGER, {"phone": phone})
