"""News applied to the ledger: what became of each message, and what follows for people.

What must not break: everything here is done in the caller's one immediate transaction, a
receipt is matched by WhatsApp's id or by our reference and never by a number, and applying the
same news again, in whatever order and grouping, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, assert_never

from wabcast import events as words
from wabcast.clock import parse
from wabcast.delivery import Deferred, Halted, Rejected
from wabcast.events import Event
from wabcast.evidence import RANK_OF, REPLIED, Standing, Taken
from wabcast.receipts import (
    AccountNews,
    Inbound,
    Moved,
    News,
    Person,
    Preference,
    Receipt,
    Ref,
    Status,
    TemplateNews,
    plausible,
)
from wabcast.store import condition, contacts, events, halts, inbox, parked
from wabcast.store.halts import Fault
from wabcast.store.inbox import Heard, Reply
from wabcast.store.parked import stamp
from wabcast.store.personal_data import NAMELESS, PersonalData, erased_id

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection, Row

COLUMNS = """
select m.id, m.status, m.attempts, m.whatsapp_message_id as message_id, m.queued_at, m.sent_at,
       m.delivered_at, m.read_at, m.replied_at, m.failed_at, m.error_code, m.error_message,
       m.pricing, m.contact_id, m.campaign_id, c.id as campaign, c.test_of
"""

BY_MESSAGE_ID = (
    COLUMNS
    + """
  from json_each(:ids) j
  cross join campaign_messages m on m.whatsapp_message_id = j.value
  join campaigns c on c.number = m.campaign_id
 where c.account_id = :account
"""
)

BY_ID = (
    COLUMNS
    + """
  from json_each(:ids) j
  cross join campaign_messages m on m.id = j.value
  join campaigns c on c.number = m.campaign_id
 where c.account_id = :account
"""
)

WRITE = """
update campaign_messages
   set status = :status, whatsapp_message_id = :message_id, sent_at = :sent_at,
       delivered_at = :delivered_at, read_at = :read_at, replied_at = :replied_at,
       failed_at = :failed_at, error_code = :error_code, error_message = :error_message,
       pricing = :pricing
 where id = :id and status = :was and attempts = :attempts
"""

# Most receipts say how far a message has come and nothing else. One statement for all of them,
# which names no column that an index holds but the status: three times as quick.
PROGRESS = """
update campaign_messages as m
   set status = r.value ->> 3, sent_at = r.value ->> 4, delivered_at = r.value ->> 5,
       read_at = r.value ->> 6, replied_at = r.value ->> 7, pricing = r.value ->> 8
  from json_each(:rows) as r
 where m.id = r.value ->> 0 and m.status = r.value ->> 1 and m.attempts = r.value ->> 2
"""

PHONE = """
select c.phone from campaign_messages m join contacts c on c.id = m.contact_id where m.id = :id
"""

TEMPLATE = """
update templates set status = :event, updated_at = :at
 where account_id = :account and name = :name and coalesce(language, '') = :language
"""

REPLY_WINDOW = timedelta(hours=72)
"""How long after a message whatever the person writes is taken for an answer to it."""

_FIELDS = tuple(field.name for field in fields(Standing))
_values = attrgetter(*_FIELDS)
_progress = attrgetter("status", "sent_at", "delivered_at", "read_at", "replied_at", "pricing")
_STATUS, _ATTEMPTS, _ID, _FAILED = map(
    _FIELDS.index, ("status", "attempts", "message_id", "failed_at")
)
_rest = itemgetter(*map(_FIELDS.index, ("message_id", "failed_at", "error_code", "error_message")))
_GONE = frozenset({"sent", "delivered", "read", "replied"})
_STAMPS = (
    ("sent_at", words.MESSAGE_SENT),
    ("delivered_at", words.MESSAGE_DELIVERED),
    ("read_at", words.MESSAGE_READ),
    ("replied_at", words.MESSAGE_REPLIED),
    ("failed_at", words.MESSAGE_FAILED),
)


UNSAYABLE = frozenset({"PAUSED", "DISABLED", "REJECTED", "DELETED", "LOCKED"})
"""News of a template after which nobody gets it: what still says it would only fail."""

SAYABLE = frozenset({"APPROVED", "REINSTATED"})


@dataclass(slots=True)
class Applied:
    """What a batch of news came to. `changed` counts rows of the ledger, the rest news; `nameless`
    are WhatsApp's ids of messages whose person is no contact: what told of them is not kept."""

    receipts: int = 0
    changed: int = 0
    parked: int = 0
    inbound: int = 0
    replies: int = 0
    opted_out: int = 0
    opted_in: int = 0
    nameless: frozenset[str] = frozenset()

    def __add__(self, other: Applied) -> Applied:
        counts = {name: count + getattr(other, name) for name, count in self.to_json().items()}
        return Applied(**counts, nameless=self.nameless | other.nameless)

    def to_json(self) -> dict[str, int]:
        told = asdict(self)
        del told["nameless"]
        return told


def apply(
    db: Connection,
    account: int,
    news: Sequence[News],
    *,
    at: str,
    trace: bool = False,
    reply_window: timedelta = REPLY_WINDOW,
    erased: bool = False,
) -> Applied:
    """Apply what `account` (its id) was told; `at` is now. Inside an immediate transaction.

    Message events are written only with `trace`. With `erased` no words of strangers are kept:
    somebody who is named here was erased while it waited. A time that is far from now is no time:
    a STOP of the year 9999 would else outlast every later wish.
    """
    now = parse(at)
    news = [_dated(item, now) for item in news]
    batch = _Batch(db, account, at, trace=trace, window=reply_window, erased=erased)
    batch.receipts([item for item in news if isinstance(item, Receipt)])
    for item in news:
        if not isinstance(item, Receipt):
            batch.other(item)
    batch.write()
    return batch.applied


def apply_parked(
    db: Connection,
    account: int,
    *,
    at: str,
    trace: bool = False,
    reply_window: timedelta = REPLY_WINDOW,
) -> Applied:
    """Try again what came before its message's id was known. Call it at the end of a run."""
    found = parked.known(db, account)
    return apply(db, account, found, at=at, trace=trace, reply_window=reply_window)


def _dated(item: News, now: datetime) -> News:
    match item:
        case Receipt(at=when) | Inbound(at=when) | Preference(at=when):
            if when is not None and not plausible(when, now):
                return replace(item, at=None)
        case _:
            pass
    return item


def _nameless(
    error: Deferred | Rejected | Halted | None, person: Person
) -> Deferred | Rejected | Halted | None:
    """What a failure means for the others, without the number that it may tell."""
    if error is None or not person.phone:
        return error
    return replace(error, reason=PersonalData(inbox.spellings(person.phone)).scrub(error.reason))


class _Batch:
    """One transaction's news: the rows they are about, read once and written once."""

    def __init__(
        self,
        db: Connection,
        account: int,
        at: str,
        *,
        trace: bool,
        window: timedelta,
        erased: bool = False,
    ) -> None:
        self.applied = Applied()
        self._db = db
        self._account = account
        self._at = at
        self._trace = trace
        self._window = window
        self._erased = erased
        self._rows: dict[int, Row] = {}
        self._now: dict[int, Standing] = {}
        self._replies: list[Reply] = []
        self._before: dict[int, tuple[Any, ...]] = {}
        self._faults: list[tuple[int, str, Deferred | Rejected | Halted]] = []
        self._failed: set[int] = set()

    def receipts(self, receipts: list[Receipt]) -> None:
        if not receipts:
            return
        self.applied.receipts = len(receipts)
        receipts += parked.take(self._db, self._account, [r.message_id for r in receipts])
        places = self._places(receipts)
        early = []
        people: dict[int, str] = {}
        nameless: set[str] = set()
        # Failures last: one is believed once its message is known to be the row's.
        told = sorted(
            zip(receipts, places, strict=True), key=lambda one: one[0].status is Status.FAILED
        )
        for receipt, number in told:
            contact = None if number is None else self._rows[number]["contact_id"]
            erased = number is not None and contact is None
            if erased or (number is None and self._is_nobodys(receipt)):
                nameless.add(receipt.message_id)
            if (number is None or not self._take(number, receipt)) and not erased:
                early.append(receipt)
            if isinstance(receipt.error, Rejected) and receipt.error.opt_out:
                self._opt_out(receipt, receipt.error, contact, erased=erased)
            if receipt.person.bsuid and contact is not None:
                people[contact] = receipt.person.bsuid
        self.applied.nameless |= nameless
        self.applied.parked = parked.park(self._db, self._account, early, at=self._at)
        for contact, bsuid in people.items():
            inbox.learn(self._db, contact, bsuid)

    def _is_nobodys(self, receipt: Receipt) -> bool:
        """It tells of a number that no contact has: of another program's message, or of somebody
        who was erased before the id of what they got was known."""
        return bool(receipt.person) and inbox.find(self._db, receipt.person) is None

    def _places(self, receipts: list[Receipt]) -> list[int | None]:
        """Whose row each is: what our reference says where it is one of ours, else what the id
        says. A number says nothing: WhatsApp rewrites it, and two campaigns may share it."""
        self._read(BY_ID, {one.ref.message_id for one in receipts if one.ref is not None})
        places = [self._place(one.ref) for one in receipts]
        if None not in places:
            return places
        known = list(zip(receipts, places, strict=True))
        named = {one.message_id for one, place in known if place is None}
        found: dict[str, int] = {
            row["message_id"]: row["id"] for row in self._read(BY_MESSAGE_ID, named)
        }
        hashed = {erased_id(message_id): message_id for message_id in named - found.keys()}
        found |= {hashed[row["message_id"]]: row["id"] for row in self._read(BY_MESSAGE_ID, hashed)}
        for one, place in known:  # the id may become known by another receipt of this batch
            if place is not None and self._now[place].message_id is None:
                found.setdefault(one.message_id, place)
        return [found.get(one.message_id) if place is None else place for one, place in known]

    def _place(self, ref: Ref | None) -> int | None:
        if ref is None:
            return None
        row = self._rows.get(ref.message_id)
        return ref.message_id if row is not None and row["campaign"] == ref.campaign_id else None

    def _read(self, statement: str, ids: Iterable[str | int]) -> list[Row]:
        wanted = list(ids)
        if not wanted:
            return []
        given = {"ids": json.dumps(wanted), "account": self._account}
        rows: list[Row] = self._db.execute(statement, given).fetchall()
        for row in rows:
            if row["id"] not in self._rows:
                self._rows[row["id"]] = row
                self._before[row["id"]] = values = row[: len(_FIELDS)]
                self._now[row["id"]] = Standing(*values)
        return rows

    def _take(self, number: int, receipt: Receipt) -> bool:
        """Put a receipt into the row's standing; False where it has to wait."""
        standing = self._now[number]
        erased = self._rows[number]["contact_id"] is None
        message_id = receipt.message_id
        if erased and standing.message_id != message_id:
            message_id = erased_id(message_id)
        when = stamp(receipt.at) if receipt.at is not None else self._at
        if receipt.category or receipt.pricing:
            standing.costs(receipt.category, receipt.pricing)
        rank = RANK_OF.get(receipt.status)
        if rank is not None:
            standing.reach(rank, when, message_id)
            return True
        error = receipt.error
        code, reason = (error.code, error.reason) if error else ("unknown", "it failed")
        if erased:
            reason, error = NAMELESS, _nameless(error, receipt.person)
        attempt = receipt.ref.attempt if receipt.ref is not None else standing.attempts
        taken = standing.fail(when, code, reason, message_id, current=attempt >= standing.attempts)
        if taken is Taken.TAKEN and error is not None:
            self._faults.append((number, when, error))
        return taken is not Taken.EARLY

    def _opt_out(
        self, receipt: Receipt, error: Rejected, contact: int | None, *, erased: bool
    ) -> None:
        when = stamp(receipt.at) if receipt.at is not None else self._at
        if contact is None:
            person = inbox.find(self._db, receipt.person)
            contact = person["id"] if person is not None else None
        if contact is None:
            if erased and receipt.person.phone:
                phones = inbox.spellings(receipt.person.phone)
                contacts.suppress(self._db, phones, reason=error.code, at=when)
            return
        told = f"{error.code} {error.reason}"
        self.applied.opted_out += inbox.stop(self._db, contact, reason=told, at=when)

    def other(self, item: News) -> None:
        """Whatever is not a receipt, in the order it came."""
        match item:
            case Inbound():
                heard = inbox.hear(
                    self._db,
                    self._account,
                    item,
                    at=stamp(item.at) if item.at is not None else self._at,
                    now=self._at,
                    window=self._window,
                    erased=self._erased,
                )
                if heard.nameless:
                    self.applied.nameless |= {item.message_id}
                self._heard(heard)
            case Preference():
                when = stamp(item.at) if item.at is not None else self._at
                self._heard(inbox.prefer(self._db, self._account, item, at=when, now=self._at))
            case Moved():
                inbox.move(self._db, item, at=self._at)
            case TemplateNews():
                self._template(item)
            case AccountNews():
                told = condition.heard(self._db, self._account, item)
                halts.heed(self._db, self._account, told, at=self._at)
                if item.halts:
                    reason = " ".join(filter(None, ("WhatsApp:", item.event, item.detail)))
                    halts.halt_account(self._db, self._account, reason, at=self._at)
            case Receipt():
                raise TypeError("receipts go in a batch")
            case _:
                assert_never(item)

    def _heard(self, heard: Heard) -> None:
        self.applied.inbound += heard.new
        self.applied.opted_out += heard.opted_out
        self.applied.opted_in += heard.opted_in
        if heard.reply is not None:
            self._replies.append(heard.reply)

    def _template(self, item: TemplateNews) -> None:
        named = {"name": item.name, "language": item.language, "account": self._account}
        if ":" not in item.event:
            self._db.execute(TEMPLATE, {**named, "event": item.event, "at": self._at})
        told = {"name": item.name, "language": item.language, "status": item.event}
        told |= {"id": item.template_id, "reason": item.reason}
        events.add(self._db, Event(words.TEMPLATE_STATUS, None, told), at=self._at)
        whose = self._db, self._account, item.name, item.language
        if item.event in UNSAYABLE:
            halts.halt_template(*whose, f"{item.event} {item.reason}", at=self._at)
        elif item.event in SAYABLE:
            halts.free_template(*whose, at=self._at)

    def write(self) -> None:
        """Write what the receipts changed, then what the replies prove on top of it."""
        known, gone = self._write()
        if known or gone:
            self._replies += inbox.relink(self._db, self._account, known, gone, window=self._window)
        if self._replies:
            self._read(BY_ID, {r.message for r in self._replies} - self._rows.keys())
            for reply in self._replies:
                self._now[reply.message].reach(REPLIED, reply.at)
            self.applied.replies = len(self._replies)
            self._write()
        halts.follow(self._db, self._account, self._fresh_faults(), at=self._at)

    def _write(self) -> tuple[list[int], list[int]]:
        """Write the rows that changed; which of them got an id, whom something has reached."""
        moved: list[tuple[Any, ...]] = []
        changed: list[dict[str, Any]] = []
        known, gone = [], []
        for number, standing in self._now.items():
            values, old = _values(standing), self._before[number]
            if values == old:
                continue
            if _rest(old) == _rest(values):
                moved.append((number, old[_STATUS], old[_ATTEMPTS], *_progress(standing)))
            else:
                changed.append({**dict(zip(_FIELDS, values, strict=True)), "was": old[_STATUS]})
            if old[_ID] is None and standing.message_id is not None:
                known.append(number)
            if old[_STATUS] not in _GONE and standing.status in _GONE:
                contact = self._rows[number]["contact_id"]
                if contact is not None:
                    gone.append(contact)
            if self._trace:
                self._tell(Standing(*old), standing)
            if standing.failed_at is not None and old[_FAILED] is None:
                self._failed.add(number)
            self._before[number] = values
        if moved:
            self._db.execute(PROGRESS, {"rows": json.dumps(moved)})
        if changed:
            self._db.executemany(WRITE, changed)
        self.applied.changed += len(moved) + len(changed)
        return known, gone

    def _fresh_faults(self) -> list[Fault]:
        """Failures that were no news of a row do not stop anything a second time."""
        return [
            Fault(self._rows[number]["campaign_id"], when, error)
            for number, when, error in self._faults
            if number in self._failed
        ]

    def _tell(self, before: Standing, now: Standing) -> None:
        row = self._rows[now.id]
        if row["test_of"] is not None:
            return
        found = self._db.execute(PHONE, {"id": now.id}).fetchone()
        data = {
            "campaignId": row["campaign"],
            "messageId": now.id,
            "phone": found[0] if found is not None else None,
            "whatsappMessageId": now.message_id if found is not None else None,
            "error": now.error_code,
        }
        for name, event in _STAMPS:
            if getattr(before, name) is None and getattr(now, name) is not None:
                events.add(self._db, Event(event, row["campaign"], data), at=self._at)
