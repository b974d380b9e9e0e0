"""The two marks around a request: the intent before it leaves, the outcome after it.

All that share a commit share a statement, and what it tells comes in one row: each step of a
statement makes two threads of the run change places, and that cost more than its work. What must
not break: every row is still judged by itself, for the state it is in, the run that holds it, the
opt-out and the number, in the statement that writes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from wabcast.clock import text, to_micros
from wabcast.delivery import SAME_ID, MessageStatus, Settled
from wabcast.evidence import Standing
from wabcast.store import contacts, reach
from wabcast.store.ledger import OWED_BY, Due, is_known, opt_out, skip
from wabcast.store.personal_data import NAMELESS, erased_id
from wabcast.store.reach import Cap, Seen
from wabcast.store.receipts import WRITE

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection

INTEND = """
update campaign_messages as m
   set status = 'queued', attempts = attempts + 1, run_id = :run, queued_at = :at,
       content = i.value ->> 0, error_code = null, error_message = null
  from json_each(:intents) as i
 where m.id = cast(i.key as integer) and m.status = 'pending' and m.attempts = i.value ->> 2
   and exists (select 1 from campaigns
                where number = :campaign and status = 'running' and run_id = :run)
   and exists (select 1 from contacts as c
                where c.id = m.contact_id and c.phone = i.value ->> 1
                  and c.opted_out_at is null and c.blocked_at is null)
"""

# Which of them may go and how often they were tried, where not all may as they were read. Asked in
# the same transaction, just before, so that it is what INTEND will find.
GOING = """
select json_group_object(m.id, m.attempts)
  from json_each(:ids) as i join campaign_messages as m on m.id = i.value ->> 0
 where m.status = 'pending'
   and exists (select 1 from campaigns
                where number = :campaign and status = 'running' and run_id = :run)
   and exists (select 1 from contacts as c
                where c.id = m.contact_id and c.phone = i.value ->> 1
                  and c.opted_out_at is null and c.blocked_at is null)
"""

MARK_SLOT = """
update campaigns set last_slot_at = max(last_slot_at, :slot) where number = :campaign
"""

HOLDS = """
select 1 from campaigns where number = :campaign and status = 'running' and run_id = :run
"""

STANDS = """
select 1
  from campaign_messages as m
  join campaigns as g on g.number = m.campaign_id
  join contacts as c on c.id = m.contact_id
 where m.id = :id and m.status = 'queued' and m.run_id = :run and m.attempts = :attempt
   and g.status = 'running' and g.run_id = :run
   and c.phone = :phone and c.opted_out_at is null and c.blocked_at is null
"""

BARRED = """
select case when opted_out_at is not null then 'opted out' else 'blocked' end
  from contacts where id = :contact and (opted_out_at is not null or blocked_at is not null)
"""

# An id that stands at another row is not this one's, and who was erased has none: see `_weigh`.
SENT = """
update campaign_messages as m
   set status = 'sent', whatsapp_message_id = o.value ->> 2, sent_at = queued_at
  from json_each(:outcomes) as o
 where m.id = o.value ->> 0 and m.run_id = :run and m.attempts = o.value ->> 1
   and m.status = 'queued' and m.contact_id is not null
   and not exists (select 1 from campaign_messages as other
                    where other.whatsapp_message_id = o.value ->> 2)
"""

# The rows of those that SENT did not write, as `evidence.Standing` has them, and whose they are.
ANSWERED = """
select m.id, m.status, m.attempts, m.whatsapp_message_id, m.queued_at, m.sent_at, m.delivered_at,
       m.read_at, m.replied_at, m.failed_at, m.error_code, m.error_message, m.pricing, m.contact_id
  from json_each(:outcomes) as o join campaign_messages as m on m.id = o.value ->> 0
 where m.run_id = :run and m.attempts = o.value ->> 1
"""

ELSEWHERE = """
select 1 from campaign_messages where whatsapp_message_id = :message_id and id <> :id limit 1
"""

FORGET_PARKED = """
update or replace parked_receipts set whatsapp_message_id = :hashed
 where whatsapp_message_id = :message_id and account_id in (select id from accounts)
"""

NOT_SENT = """
update campaign_messages
   set status = :status, error_code = :code,
       error_message = case when contact_id is null then :nameless else :reason end,
       attempts = attempts - :give_back,
       due_at = case :status when 'pending' then :due_at else due_at end,
       queued_at = case when :status in ('pending', 'skipped') then null else queued_at end,
       failed_at = case :status when 'failed' then :at else failed_at end
 where id = :id and run_id = :run and attempts = :attempt and status = 'queued'
"""

OF_WHAT = """
select c.status from campaign_messages m join campaigns c on c.number = m.campaign_id
 where m.id = :id
"""

Said = dict[int, tuple[str, str, int]]
"""By message: its content, the number it goes to, and how often it was tried before."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


_fields = attrgetter(*(field.name for field in fields(Standing)))

TAKEN_ID = Settled(MessageStatus.IN_DOUBT, error_code=SAME_ID.code, error_message=SAME_ID.reason)


class Kept(StrEnum):
    """What became of an outcome."""

    WRITTEN = "written"
    MOVED_ON = "moved on"
    """The row is not this attempt's any more, or knows better."""
    SAME_ID = "same id"
    """The id of the answer belongs to another message: this one is in doubt."""


class Told(StrEnum):
    """What became of an intent."""

    INTENDED = "intended"
    SKIPPED = "skipped"
    CAPPED = "capped"
    GONE = "gone"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Intent:
    """Sends `content` (JSON, as it goes) to the person at `slot`, microseconds, within `cap`."""

    message: Due
    content: str
    slot: int
    cap: Cap | None = None


@dataclass(frozen=True, slots=True)
class Intended:
    """`attempt` counts from 1 where `told` is INTENDED; `asked_at` is when the opt-out and the
    pause were looked at, steady; `until` is when a full day's cap has room again, UTC text."""

    told: Told
    attempt: int = 0
    until: str | None = None
    asked_at: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the `attempt`-th try, and when that was known."""

    message: Due
    settled: Settled
    attempt: int
    at: datetime


def intend(
    db: Connection,
    intents: Sequence[Intent],
    *,
    campaign: int,
    run: str,
    at: datetime,
    asked_at: int = 0,
    seen: Seen | None = None,
) -> list[Intended]:
    """Commit to sending: after this they may be on the wire. What became of each, in their order.

    The opt-out and the pause are checked by the statement itself, in the caller's transaction.
    Who has another number since they were read is GONE, and still pending: to be read again.
    """
    if all(intent.cap is None or intent.cap.people is None for intent in intents):
        return _intend(db, intents, campaign, run, at, asked_at)
    told = []
    for intent in intents:  # each takes a place of the day that the next one has not
        cap, contact = intent.cap, intent.message.contact_id
        full = reach.full(db, cap, contact, at, seen or Seen()) if cap else None
        if full is None:
            told += _intend(db, [intent], campaign, run, at, asked_at)
        else:
            told.append(Intended(Told.CAPPED, until=full))
    return told


def _intend(
    db: Connection,
    intents: Sequence[Intent],
    campaign: int,
    run: str,
    at: datetime,
    asked_at: int,
) -> list[Intended]:
    said = {i.message.id: (i.content, i.message.phone, i.message.attempts) for i in intents}
    wanted = {"campaign": campaign, "run": run, "at": text(at)}
    db.execute("savepoint intents")  # it ends with the caller's transaction
    if db.execute(INTEND, {**wanted, "intents": _encode(said)}).rowcount != len(said):
        db.execute("rollback to intents")
        said = _going(db, said, wanted)
        queued = db.execute(INTEND, {**wanted, "intents": _encode(said)}).rowcount
        if queued != len(said):
            raise RuntimeError(f"{queued} intents of {len(said)} were written")
    attempts = {key: tried + 1 for key, (_, _, tried) in said.items()}
    going = [intent for intent in intents if intent.message.id in attempts]
    if going:
        slot = max(intent.slot for intent in going)
        db.execute(MARK_SLOT, {"campaign": campaign, "slot": slot})
    for account in {intent.cap.account for intent in going if intent.cap}:
        reached = [i.message.contact_id for i in going if i.cap and i.cap.account == account]
        reach.note(db, account, reached, at)
    # Taken out: one that is named twice has one intent, and leaves once.
    return [
        Intended(Told.INTENDED, attempts.pop(intent.message.id), asked_at=asked_at)
        if intent.message.id in attempts
        else _not_intended(db, intent.message, campaign, run)
        for intent in intents
    ]


def stands(db: Connection, message: Due, attempt: int, *, run: str) -> bool:
    """Whether what `intend` asked for still holds of an intent that has not left yet."""
    wanted = {"id": message.id, "attempt": attempt, "run": run, "phone": message.phone}
    return db.execute(STANDS, wanted).fetchone() is not None


def _going(db: Connection, said: Said, wanted: dict[str, Any]) -> Said:
    ids = json.dumps([(key, phone) for key, (_, phone, _) in said.items()])
    found = json.loads(db.execute(GOING, {**wanted, "ids": ids}).fetchone()[0])
    return {int(key): (*said[int(key)][:2], tried) for key, tried in found.items()}


def _not_intended(db: Connection, message: Due, campaign: int, run: str) -> Intended:
    """Why the statement left this one alone; who is barred is skipped."""
    if db.execute(HOLDS, {"campaign": campaign, "run": run}).fetchone() is None:
        return Intended(Told.STOPPED)
    barred = db.execute(BARRED, {"contact": message.contact_id}).fetchone()
    if barred is None:
        return Intended(Told.GONE)
    skip(db, message.id, campaign=campaign, run=run, code="barred", reason=barred[0])
    return Intended(Told.SKIPPED)


def record(db: Connection, outcomes: Sequence[Outcome], *, run: str) -> list[Kept]:
    """Write what became of intents, in their order."""
    accepted = [each for each in outcomes if each.settled.status is MessageStatus.SENT]
    kept = dict.fromkeys(map(_key, accepted), Kept.WRITTEN)
    listed = {
        each.settled.message_id: (each.message.id, each.attempt, each.settled.message_id)
        for each in reversed(accepted)  # of several with one id the first has it
    }
    if accepted:
        wanted = {"run": run, "outcomes": _encode(list(listed.values()))}
        if db.execute(SENT, wanted).rowcount != len(accepted):
            kept |= _weigh(db, accepted, run)
    for outcome in outcomes:
        if outcome.settled.status is not MessageStatus.SENT:
            wrote = _not_sent(db, outcome, outcome.settled, run)
            kept[_key(outcome)] = Kept.WRITTEN if wrote else Kept.MOVED_ON
    return [kept[_key(outcome)] for outcome in outcomes]


def _key(outcome: Outcome) -> tuple[int, int]:
    return outcome.message.id, outcome.attempt


def _weigh(db: Connection, accepted: Sequence[Outcome], run: str) -> dict[tuple[int, int], Kept]:
    """Answers that are not the first news of their message, or whose id is another one's: weighed
    as all evidence is, so that their order does not matter."""
    listed = _encode([_key(outcome) for outcome in accepted])
    rows = {row["id"]: row for row in db.execute(ANSWERED, {"run": run, "outcomes": listed})}
    kept = {}
    for outcome in accepted:
        row, message_id = rows.get(outcome.message.id), outcome.settled.message_id or ""
        if row is None or row["attempts"] != outcome.attempt:
            kept[_key(outcome)] = Kept.MOVED_ON
        elif db.execute(ELSEWHERE, {"message_id": message_id, "id": row["id"]}).fetchone():
            kept[_key(outcome)] = Kept.SAME_ID
            _not_sent(db, outcome, TAKEN_ID, run)
        else:
            kept[_key(outcome)] = Kept.WRITTEN
            *values, contact = row
            standing = Standing(*values)
            if contact is None:
                message_id = _hashed(db, message_id)
            standing.reach(1, text(outcome.at), message_id)
            if _fields(standing) != tuple(values):
                named = {field.name: getattr(standing, field.name) for field in fields(standing)}
                db.execute(WRITE, {**named, "was": row["status"]})
    return kept


def _hashed(db: Connection, message_id: str) -> str:
    """What the row of somebody who was erased has of the id: a hash finds it for a receipt, also
    for those that came before it."""
    hashed = erased_id(message_id)
    db.execute(FORGET_PARKED, {"message_id": message_id, "hashed": hashed})
    return hashed


def _unless_over(db: Connection, outcome: Outcome, settled: Settled) -> Settled:
    """What did not go is owed again, but not by a campaign that is over by now."""
    if settled.status is not MessageStatus.PENDING:
        return settled
    found = db.execute(OF_WHAT, {"id": outcome.message.id}).fetchone()
    over = found and OWED_BY.get(found[0])
    if not over:
        return settled
    code, reason = over
    return replace(settled, status=MessageStatus.SKIPPED, error_code=code, error_message=reason)


def _not_sent(db: Connection, outcome: Outcome, settled: Settled, run: str) -> bool:
    settled, at = _unless_over(db, outcome, settled), text(outcome.at)
    marks = {
        "id": outcome.message.id,
        "run": run,
        "attempt": outcome.attempt,
        "at": at,
        "status": settled.status.value,
        "code": settled.error_code,
        "reason": settled.error_message,
        "nameless": NAMELESS,
        "give_back": int(settled.give_back),
        "due_at": text(to_micros(outcome.at + settled.wait)),
    }
    wrote = db.execute(NOT_SENT, marks).rowcount
    if settled.opt_out:
        told = f"{settled.error_code} {settled.error_message}"
        if not opt_out(db, outcome.message.contact_id, reason=told, at=at):
            _remember(db, outcome, at)
    return bool(wrote)


def _remember(db: Connection, outcome: Outcome, at: str) -> None:
    """Who was erased while it was on the wire, and is not to be written to, stays so by a hash."""
    message = outcome.message
    if not is_known(db, message.contact_id):
        reason = outcome.settled.error_code or "opted out"
        contacts.suppress(db, [message.phone], reason=reason, at=at)
