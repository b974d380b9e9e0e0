"""A person is erased: the row, and every place where their name, number or words stand.

What must not break: what was owed or sent stays counted, and whoever was opted out or blocked
stays unreachable by the hash of their number. Their row goes last, with the last of the rest, so
that an erasure that was interrupted is gone on with when it is asked for again. What comes later
of a message that was on the wire names nobody: see `marks`, `receipts` and `applier`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wabcast.events import CONTACT_OPTED_OUT
from wabcast.store import contacts, inbox
from wabcast.store.contacts import SUPPRESS
from wabcast.store.database import immediate
from wabcast.store.imports import phone_hash
from wabcast.store.personal_data import REMOVED, PersonalData, erased_id
from wabcast.store.pieces import in_pieces

if TYPE_CHECKING:
    from wabcast.clock import Clock
    from wabcast.store.contacts import Person
    from wabcast.store.database import Connection

MESSAGES = """
select id, whatsapp_message_id from campaign_messages where contact_id = :id order by id limit :most
"""

SKIP_PENDING = """
update campaign_messages
   set status = 'skipped', error_code = 'removed', error_message = 'contact removed'
 where id in (select value ->> 0 from json_each(:rows)) and status = 'pending'
"""

# They find the row by what it has now.
PARKED_OF = """
select p.id, r.value ->> 2 as message_id
  from json_each(:rows) as r cross join accounts as a
 cross join parked_receipts as p
    on p.account_id = a.id and p.whatsapp_message_id = r.value ->> 1
"""

HASH_PARKED = """
update or replace parked_receipts set whatsapp_message_id = :message_id where id = :id
"""

# Providers like to repeat the number in their errors, and our own words quote what was to be said.
BLANK_MESSAGES = """
update campaign_messages as m
   set contact_id = null, content = null, whatsapp_message_id = r.value ->> 2,
       error_message = case when error_code = 'content' or exists (
               select 1 from json_each(:names) where instr(error_message, value))
           then 'contact removed' else error_message end
  from json_each(:rows) as r
 where m.id = r.value ->> 0
"""

INBOUND = """
select id, whatsapp_message_id from inbound_messages
 where contact_id = :id order by id limit :most
"""

BLANK_INBOUND = """
update inbound_messages as i
   set contact_id = null, content = null, context_id = null,
       whatsapp_message_id = r.value ->> 2
  from json_each(:rows) as r
 where i.id = r.value ->> 0
"""

LARGEST = 4 * 1024 * 1024
"""Bytes that are overwritten in one transaction, about."""

RANGE = 2000
"""Rows that are looked through at once; nobody is locked out meanwhile."""

TAIL = 500
"""Rows that came meanwhile and may be looked through while the lock is held."""

# Only what is applied: a body that waits still has somebody's fate in it.
BLANK_INBOX = """
update webhook_inbox
   set erased = 1, body = case when applied_at is null then body else x'' end,
       error = case when error is not null then 'it named somebody who was erased' end
 where id in (select value from json_each(:ids))
"""

PARKED = "select whatsapp_message_id, receipt from parked_receipts where id = :id"
BLANK_PARKED = """
update or replace parked_receipts
   set whatsapp_message_id = :message_id, receipt = :receipt where id = :id
"""

EVENT = "select event, data from events where id = :id"
BLANK_EVENT = "update events set data = :data where id = :id"

# What they wrote before they were known, by the id that it has.
STRANGER = """
select id, whatsapp_message_id from inbound_messages
 where id in (select value from json_each(:ids)) and contact_id is null
"""

ANSWERS = """
select token_id, key from idempotency_keys
 where exists (select 1 from json_each(:names)
                where instr(cast(body as text), value) or instr(key, value))
"""

BLANK_ANSWER = """
update idempotency_keys
   set key = :hashed, erased_at = :at, headers = null, body = null
 where token_id = :token_id and key = :key
"""

BSUID = "select bsuid from contacts where id = :id"

# The second keeps writers waiting, so it has to find next to nothing left to do.
EMPTY_LOG = ("pragma wal_checkpoint(passive)", "pragma wal_checkpoint(truncate)")

BARRED = "select phone, opt_out_reason, opted_out_at, blocked_at from contacts where id = :id"

REMOVE = "delete from contacts where id = :id"


@dataclass(frozen=True, slots=True)
class _Sweep:
    """A table that is looked through by its ids: `find` has the id, the size and the texts of what
    may name the person, `blank` is called in a transaction."""

    last: str
    find: str
    blank: Callable[[Connection, PersonalData, list[int]], None]


@dataclass(frozen=True, slots=True)
class _Words:
    """A text of few rows; what stands in place of a name keeps it readable for the program."""

    find: str
    read: str
    write: str
    instead: str = REMOVED


def remove(db: Connection, phone: str, *, at: str, clock: Clock) -> int:
    """Erase the contact; how many owed messages were skipped for it. Raises NotFound.

    Pending messages become skipped; whatever is or was on the wire keeps its state without a
    name. In pieces: nobody waits long for the file, however much there is. What is freed is
    overwritten, and the write-ahead log is emptied if nobody needs it; older versions of the row
    that SQLite has moved about stay in unused space until a vacuum.
    """
    person = contacts.get(db, phone)
    db.execute("pragma secure_delete = on")
    try:
        skipped = _Erasure(db, person, at, clock).carry()
        for statement in EMPTY_LOG:
            db.execute(statement).fetchone()
    finally:
        db.execute("pragma secure_delete = fast")
    return skipped


def data_of(db: Connection, person: Person) -> PersonalData:
    """By what the texts of others may name them. WhatsApp spells some numbers in two ways, knows
    people by ids of its own, and hides the number in the ids of messages."""
    bsuid = db.execute(BSUID, {"id": person.id}).fetchone()
    whole = " ".join(filter(None, (person.first_name, person.last_name)))
    names = [name for name in (person.name, whole) if name and " " in name]
    return PersonalData(
        inbox.spellings(person.phone),
        ids=[bsuid[0]] if bsuid and bsuid[0] else [],
        texts=[*names, *([person.email] if person.email else [])],
    )


class _Erasure:
    """One person's, from the rows that are theirs to the texts that name them."""

    def __init__(self, db: Connection, person: Person, at: str, clock: Clock) -> None:
        self._db = db
        self._person = person
        self._data = data_of(db, person)
        self._at = at
        self._clock = clock
        self._skipped = 0
        self._seen = [0] * len(_SWEEPS)

    def carry(self) -> int:
        for piece in (self._messages, self._inbound):
            in_pieces(self._db, piece, clock=self._clock)
        for words in _WORDS:
            self._reword(words)
        self._answers()
        while True:
            for nr, sweep in enumerate(_SWEEPS):
                self._seen[nr] = self._sweep(sweep, self._seen[nr])
            if self._finish():
                return self._skipped

    def _messages(self, most: int) -> int:
        rows = self._rows(MESSAGES, most)
        if rows:
            given = {"rows": json.dumps(rows), "names": self._data.names}
            self._skipped += int(self._db.execute(SKIP_PENDING, given).rowcount)
            for row in self._db.execute(PARKED_OF, given).fetchall():
                self._db.execute(HASH_PARKED, dict(row))
            self._db.execute(BLANK_MESSAGES, given)
        return len(rows)

    def _inbound(self, most: int) -> int:
        rows = self._rows(INBOUND, most)
        if rows:
            self._db.execute(BLANK_INBOUND, {"rows": json.dumps(rows)})
        return len(rows)

    def _rows(self, statement: str, most: int) -> list[tuple[int, str | None, str | None]]:
        found = self._db.execute(statement, {"id": self._person.id, "most": most})
        return [(number, named, named and erased_id(named)) for number, named in found]

    def _sweep(self, sweep: _Sweep, after: int) -> int:
        """Look through what came after the id `after`; up to where that is done."""
        end = int(self._db.execute(sweep.last).fetchone()[0])
        while after < end:
            until = min(after + RANGE, end)
            found = deque(self._named(sweep, after, until))

            def blank(most: int, found: deque[tuple[int, int]] = found) -> int:
                part: list[int] = []
                size = 0
                while found and len(part) < most and size < LARGEST:
                    number, length = found.popleft()
                    part.append(number)
                    size += length
                sweep.blank(self._db, self._data, part)
                return most if found else len(part)

            if found:
                in_pieces(self._db, blank, clock=self._clock)
            after = until
        return end

    def _named(self, sweep: _Sweep, after: int, until: int) -> list[tuple[int, int]]:
        """The ids and sizes of those that name the person, each looked at when its turn comes."""
        wanted = {"after": after, "until": until}
        given = {**wanted, "names": self._data.names, "codes": self._data.codes}
        return [
            (number, size)
            for number, size, *texts in self._db.execute(sweep.find, given)
            if any(self._data.names_in(_text(text)) for text in texts if text)
        ]

    def _reword(self, words: _Words) -> None:
        """Texts of few rows, each in a transaction of its own: an audience may be large."""
        for (key,) in self._db.execute(words.find, {"names": self._data.names}).fetchall():
            with immediate(self._db):
                row = self._db.execute(words.read, {"key": key}).fetchone()
                if row is None:
                    continue
                texts = {
                    name: row[name] and self._data.scrub(row[name], words.instead)
                    for name in row.keys()  # noqa: SIM118  # a row iterates over its values
                }
                self._db.execute(words.write, {**texts, "key": key})

    def _answers(self) -> None:
        found = self._db.execute(ANSWERS, {"names": self._data.names}).fetchall()
        for row in found:
            with immediate(self._db):
                hashed = erased_id(row["key"])  # whoever asks names it, and may name a person by it
                self._db.execute(BLANK_ANSWER, {**dict(row), "hashed": hashed, "at": self._at})

    def _finish(self) -> bool:
        """What came meanwhile, and the row itself; False where too much came for one turn."""
        db, person = self._db, self._person
        with immediate(db):
            tails = [
                (sweep, seen, int(db.execute(sweep.last).fetchone()[0]))
                for sweep, seen in zip(_SWEEPS, self._seen, strict=True)
            ]
            if sum(last - seen for _, seen, last in tails) > TAIL:
                return False
            for sweep, seen, last in tails:
                sweep.blank(db, self._data, [one for one, _ in self._named(sweep, seen, last)])
            if self._messages(TAIL) == TAIL or self._inbound(TAIL) == TAIL:
                return False  # what was done is done
            row = db.execute(BARRED, {"id": person.id}).fetchone()
            if row is not None:  # else another erasure was a moment earlier
                self._suppress(*row)
                db.execute(REMOVE, {"id": person.id})
        return True

    def _suppress(
        self, phone: str, why: str | None, opted_out_at: str | None, blocked_at: str | None
    ) -> None:
        reason = why or ("opted out" if opted_out_at else "")
        # In their own words it would say more of them than that they want no more.
        reason = "wrote to stop" if reason.startswith("wrote ") else self._data.scrub(reason)
        reason = reason or ("blocked" if blocked_at else "")
        if reason:
            since = opted_out_at or blocked_at or self._at
            self._db.execute(SUPPRESS, {"hash": phone_hash(phone), "reason": reason, "at": since})


def _text(told: str | bytes) -> str:
    return told if isinstance(told, str) else told.decode("utf-8", "replace")


def _with_ids(statement: str) -> Callable[[Connection, PersonalData, list[int]], None]:
    def run(db: Connection, data: PersonalData, ids: Sequence[int]) -> None:
        del data
        if ids:
            db.execute(statement, {"ids": json.dumps(ids)})

    return run


def _blank_events(db: Connection, data: PersonalData, ids: list[int]) -> None:
    """What happened stays told, but not to whom, nor in whose words."""
    for number in ids:
        row = db.execute(EVENT, {"id": number}).fetchone()
        if row is None:
            continue
        told: dict[str, Any] = data.scrub_all(json.loads(row["data"]))
        if "whatsappMessageId" in told:
            told["whatsappMessageId"] = None
        if row["event"] == CONTACT_OPTED_OUT and "reason" in told:
            told["reason"] = REMOVED
        said = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        db.execute(BLANK_EVENT, {"id": number, "data": said})


def _blank_parked(db: Connection, data: PersonalData, ids: list[int]) -> None:
    """It still has somebody's fate in it, if the row's id becomes known."""
    for number in ids:
        row = db.execute(PARKED, {"id": number}).fetchone()
        if row is None:
            continue
        message_id = row["whatsapp_message_id"]
        told = {
            "id": number,
            "message_id": erased_id(message_id) if data.names_in(message_id) else message_id,
            "receipt": data.scrub(row["receipt"]),
        }
        db.execute(BLANK_PARKED, told)


def _blank_strangers(db: Connection, data: PersonalData, ids: list[int]) -> None:
    del data
    found = db.execute(STRANGER, {"ids": json.dumps(ids)}).fetchall()
    rows = [(row[0], row[1], erased_id(row[1])) for row in found]
    if rows:
        db.execute(BLANK_INBOUND, {"rows": json.dumps(rows)})


_SWEEPS = (
    _Sweep(
        "select coalesce(max(id), 0) from webhook_inbox",
        """
select id, length(body), body, error from webhook_inbox
 where id > :after and id <= :until and erased = 0
   and exists (select 1 from json_each(:names)
                where instr(cast(body as text), value) or instr(error, value))
""",
        _with_ids(BLANK_INBOX),
    ),
    _Sweep(
        "select coalesce(max(id), 0) from events",
        """
select id, length(data), data from events
 where id > :after and id <= :until
   and exists (select 1 from json_each(:names) where instr(data, value))
""",
        _blank_events,
    ),
    _Sweep(
        "select coalesce(max(id), 0) from parked_receipts",
        """
select id, length(receipt), whatsapp_message_id, receipt from parked_receipts
 where id > :after and id <= :until
   and exists (select 1 from json_each(:names)
                where instr(whatsapp_message_id, value) or instr(receipt, value))
""",
        _blank_parked,
    ),
    _Sweep(
        "select coalesce(max(id), 0) from inbound_messages",
        """
select id, coalesce(length(content), 0), whatsapp_message_id, context_id
  from inbound_messages
 where id > :after and id <= :until and contact_id is null
   and exists (select 1 from json_each(:codes)
                where instr(whatsapp_message_id, value) or instr(context_id, value))
""",
        _blank_strangers,
    ),
)

_WORDS = (
    _Words(
        """
select number from campaigns
 where exists (select 1 from json_each(:names)
                where instr(audience, value) or instr(description, value) or instr(reason, value))
""",
        "select audience, description, reason from campaigns where number = :key",
        """
update campaigns set audience = :audience, description = :description, reason = :reason
 where number = :key
""",
    ),
    _Words(
        """
select id from segments
 where exists (select 1 from json_each(:names) where instr(expression, value))
""",
        "select expression from segments where id = :key",
        "update segments set expression = :expression where id = :key",
        instead="0",  # it stays an expression, quoted or not, and means nobody
    ),
    _Words(
        """
select id from accounts
 where exists (select 1 from json_each(:names)
                where instr(halted_reason, value) or instr(cooling_reason, value))
""",
        "select halted_reason, cooling_reason from accounts where id = :key",
        """
update accounts set halted_reason = :halted_reason, cooling_reason = :cooling_reason
 where id = :key
""",
    ),
    _Words(
        """
select id from hooks
 where exists (select 1 from json_each(:names) where instr(last_error, value))
""",
        "select last_error from hooks where id = :key",
        "update hooks set last_error = :last_error where id = :key",
    ),
)
