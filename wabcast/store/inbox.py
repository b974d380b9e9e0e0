"""What comes in: the bodies of webhooks as they came, and what people wrote.

What must not break: a body is kept before it is answered and marked in the transaction of what
it did, so that nothing is lost and nothing counts twice. A message from a stranger makes no
contact of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast import optout
from wabcast.clock import parse, text
from wabcast.receipts import Inbound, Moved, Person, Preference, Wish
from wabcast.store import contacts, ledger
from wabcast.store.personal_data import erased_id

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Row

# All that share a commit share a statement: each of its own makes two threads change places. The
# bodies come as one blob, since JSON holds no bytes.
KEEP = """
insert into webhook_inbox (account_id, received_at, body, digest)
select b.value ->> 0, :at, substr(:bodies, b.value ->> 1, b.value ->> 2), b.value ->> 3
  from json_each(:listed) as b
"""

WAITING = """
select id, account_id, body, digest, erased from webhook_inbox
 where applied_at is null and id > :after and (:account is null or account_id = :account)
 order by id limit :limit
"""

COUNT_WAITING = "select count(*) from webhook_inbox where applied_at is null"

# The plus keeps SQLite from walking all that waits, once for each body.
DONE = """
update webhook_inbox as i set applied_at = :at, error = b.value ->> 1
  from json_each(:bodies) as b
 where i.id = b.value ->> 0 and +i.applied_at is null
returning id
"""

# Behind an erasure nothing is kept that names somebody.
FORGET = """
update webhook_inbox
   set body = x'', error = case when error is not null then 'it named somebody who was erased' end
 where id in (select value from json_each(:ids))
"""

BLAME = "update webhook_inbox set error = :error where id = :id"

SEEN = """
select 1 from webhook_inbox
 where account_id = :account and digest = :digest and applied_at is not null and id <> :id limit 1
"""

PRUNE = """
delete from webhook_inbox
 where id in (select id from webhook_inbox
               where id <= (select max(id) from webhook_inbox where received_at < :before)
                 and applied_at < :before limit :limit)
"""

BY_PHONE = "select id, opted_out_at from contacts where phone = :phone"
BY_BSUID = "select id, opted_out_at from contacts where bsuid = :bsuid"
BY_ID = "select id, opted_out_at from contacts where id = :id"

ANSWERED = """
select m.id, m.contact_id from campaign_messages m join campaigns c on c.number = m.campaign_id
 where m.whatsapp_message_id in (:context, :hashed) and c.account_id = :account
 order by m.id desc limit 1
"""

# What a reply without a quotation answers. A failed message answers to nobody.
NEWEST = """
select m.id from campaign_messages m join campaigns c on c.number = m.campaign_id
 where m.contact_id = :contact and c.account_id = :account
   and m.status in ('sent', 'delivered', 'read', 'replied')
   and m.sent_at > :since and m.sent_at <= :until
 order by m.sent_at desc, m.id desc limit 1
"""

HEAR = """
insert or ignore into inbound_messages (account_id, contact_id, campaign_message_id,
    whatsapp_message_id, kind, content, context_id, received_at)
select :account, :contact, :message, :message_id, :kind, :content, :context, :at
 where not exists (select 1 from inbound_messages
                    where account_id = :account and whatsapp_message_id = :hashed)
"""

UNLINKED = """
select id, whatsapp_message_id, received_at from inbound_messages
 where contact_id = :contact and account_id = :account and campaign_message_id is null
   and kind not in ('preference', 'reaction')
"""

LINK = """
update inbound_messages set campaign_message_id = :message
 where id = :id and campaign_message_id is null
"""

# A quotation that came before the id of what it quotes was known.
QUOTING = """
select i.id, m.id as message, i.received_at
  from json_each(:ids) j
  cross join campaign_messages m on m.id = j.value
  join inbound_messages i on i.contact_id = m.contact_id and i.account_id = :account
   and i.context_id = m.whatsapp_message_id
 where i.campaign_message_id is not m.id
"""

RELINK = "update inbound_messages set campaign_message_id = :message where id = :id"

LATER = """
select content, kind from inbound_messages where contact_id = :contact and received_at > :at
"""

OPT_IN = """
update contacts set opted_out_at = null, opt_out_reason = null, updated_at = :at
 where id = :contact and opted_out_at is not null and opted_out_at <= :said
"""

LEARN_BSUID = """
update or ignore contacts set bsuid = :bsuid where id = :contact and bsuid is null
"""

MOVE_BSUID = "update or ignore contacts set bsuid = :bsuid, updated_at = :at where id = :contact"
MOVE_PHONE = "update or ignore contacts set phone = :phone, updated_at = :at where id = :contact"
WHY_OUT = "select opt_out_reason from contacts where id = :contact and opted_out_at is not null"

PREFERENCE = "preference"
"""The kind under which a wish told to WhatsApp itself stands among a person's messages."""

AT_ONCE = 4 * 1024 * 1024
"""Bytes of bodies, about, that are held twice while they are put by."""

CLOCKS = timedelta(minutes=5)
"""How far WhatsApp's clock and ours may differ: a reply may seem older than what it answers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message of ours was answered, at `at` (UTC text)."""

    message: int
    at: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What an inbound message did: `new` is False the second time; `nameless`: it is of somebody
    who was erased, and nothing of it is kept but that there was an answer."""

    new: bool
    nameless: bool = False
    reply: Reply | None = None
    opted_out: bool = False
    opted_in: bool = False


def keep(db: Connection, account: int, body: bytes, *, at: str) -> int:
    """Put a webhook's raw body by; its id. In the caller's transaction."""
    keep_all(db, [(account, body)], at=at)
    return int(db.execute("select last_insert_rowid()").fetchone()[0])


def keep_all(db: Connection, bodies: Sequence[tuple[int, bytes]], *, at: str) -> None:
    """Put raw bodies by, each with its account, in their order. In the caller's transaction."""
    listed: list[tuple[int, int, int, str]] = []
    together = bytearray(1)  # of nothing at all SQLite would make a null
    for account, body in bodies:
        digest = hashlib.sha256(body).hexdigest()
        listed.append((account, len(together) + 1, len(body), digest))
        together += body
        if len(together) > AT_ONCE:
            _keep(db, listed, together, at)
            listed, together = [], bytearray(1)
    _keep(db, listed, together, at)


def _keep(
    db: Connection, listed: Sequence[tuple[int, int, int, str]], together: bytearray, at: str
) -> None:
    db.execute(KEEP, {"at": at, "bodies": together, "listed": json.dumps(listed)})


def waiting(
    db: Connection, *, account: int | None = None, after: int = 0, limit: int = 100
) -> Generator[Row, None, None]:
    """Bodies not yet applied, in the order they came: `id, account_id, body, digest, erased`.
    Each is read when it is asked for, as it may be large and be enough. Close it before the file
    is written."""
    wanted = {"account": account, "after": after, "limit": limit}
    with closing(db.execute(WAITING, wanted)) as rows:
        yield from rows


def count_waiting(db: Connection) -> int:
    return int(db.execute(COUNT_WAITING).fetchone()[0])


def done(db: Connection, body: int, *, at: str, error: str | None = None) -> bool:
    """Mark a body as applied; False where another process was faster."""
    return bool(done_all(db, [(body, error)], at=at))


def done_all(db: Connection, bodies: Sequence[tuple[int, str | None]], *, at: str) -> set[int]:
    """Mark bodies as applied, each with what was wrong with it; the ids of those that were not
    yet."""
    given = {"at": at, "bodies": json.dumps(bodies)}
    return {row[0] for row in db.execute(DONE, given).fetchall()}


def forget(db: Connection, bodies: Sequence[int]) -> None:
    """Keep nothing of bodies that were applied but that they were."""
    if bodies:
        db.execute(FORGET, {"ids": json.dumps(bodies)})


def blame(db: Connection, body: int, error: str) -> None:
    """Note what could not be applied of a body; it stays, and is not tried again."""
    db.execute(BLAME, {"id": body, "error": error[:2000]})


def seen(db: Connection, row: Row) -> bool:
    """Whether the same body was applied before: some news has no name to be known again by."""
    wanted = {"account": row["account_id"], "digest": row["digest"], "id": row["id"]}
    return db.execute(SEEN, wanted).fetchone() is not None


def prune(db: Connection, *, before: str, limit: int = 1000) -> int:
    """Forget at most `limit` bodies that were applied before `before`; how many."""
    return int(db.execute(PRUNE, {"before": before, "limit": limit}).rowcount)


def find(db: Connection, who: Person) -> Row | None:
    """The contact that this is (`id, opted_out_at`), by number, then by BSUID."""
    for phone in spellings(who.phone) if who.phone else ():
        if row := db.execute(BY_PHONE, {"phone": phone}).fetchone():
            return row
    if who.bsuid:
        return db.execute(BY_BSUID, {"bsuid": who.bsuid}).fetchone()
    return None


def spellings(phone: str) -> list[str]:
    """`phone` and the other way WhatsApp may write it (PROVIDERS 1.2): Brazil, Mexico, Argentina.

    Whoever says STOP from +55 11 8765-4321 is the contact that was imported with a ninth digit.
    """
    found = [phone]
    rest = phone[3:]
    match phone[:3], len(phone):
        case "+55", 13 if rest[2] in "6789":
            found.append(f"+55{rest[:2]}9{rest[2:]}")
        case "+55", 14 if rest[2] == "9":
            found.append(f"+55{rest[:2]}{rest[3:]}")
        case ("+52", 13) if rest:
            found.append(f"+521{rest}")
        case "+52", 14 if rest[0] == "1":
            found.append(f"+52{rest[1:]}")
        case "+54", 14 if rest[0] == "9":
            found.append(f"+54{rest[1:]}")
        case "+54", 13:
            found.append(f"+549{rest}")
    return found


def learn(db: Connection, contact: int, bsuid: str) -> None:
    """Note Meta's id of a person; another contact that has it keeps it."""
    db.execute(LEARN_BSUID, {"contact": contact, "bsuid": bsuid})


def hear(
    db: Connection,
    account: int,
    said: Inbound,
    *,
    at: str,
    now: str,
    window: timedelta,
    erased: bool = False,
) -> Heard:
    """Store what a person wrote, link it to what it answers, and do what it wishes. With `erased`
    a stranger is taken for somebody who was erased."""
    quoted = said.context_id or (said.payload if said.kind == "reaction" else None)
    answered = None
    if quoted:
        wanted = {"context": quoted, "hashed": erased_id(quoted), "account": account}
        answered = db.execute(ANSWERED, wanted).fetchone()
    contact = find(db, said.person)
    if contact is None and answered is not None and answered["contact_id"] is not None:
        contact = db.execute(BY_ID, {"id": answered["contact_id"]}).fetchone()
    who = contact["id"] if contact is not None else None
    message = answered["id"] if answered is not None else None
    if message is None and who is not None and said.kind != "reaction":
        message = _newest(db, account, who, at, window)
    hashed = erased_id(said.message_id)
    # An answer to a message of ours whose person was erased can only be theirs.
    nameless = who is None and (erased or message is not None)
    row = {
        "account": account,
        "contact": who,
        "message": message,
        "message_id": hashed if nameless else said.message_id,
        "hashed": hashed,
        "kind": said.kind,
        # Half an emoji, cut off by somebody, is no text that can be stored.
        "content": (said.text or said.payload).encode(errors="replace").decode() or None,
        "context": quoted,
        "at": at,
    }
    if nameless:
        row |= {"content": None, "context": None}
    if not db.execute(HEAR, row).rowcount:
        return Heard(new=False, nameless=nameless)
    reply = Reply(message, at) if message is not None else None
    if who is None:
        if nameless and said.person.phone and optout.wish(said.text, said.payload) is Wish.STOP:
            phones = spellings(said.person.phone)
            contacts.suppress(db, phones, reason="wrote to stop", at=at)
        return Heard(new=True, nameless=nameless, reply=reply)
    if said.person.bsuid:
        learn(db, who, said.person.bsuid)
    wish = None if said.kind == "reaction" else optout.wish(said.text, said.payload)
    told = f"wrote {said.text or said.payload!r}"[:120]
    out = wish is Wish.STOP and stop(db, who, reason=told, at=at)
    back = wish is Wish.RESUME and resume(db, who, at=at, now=now)
    return Heard(new=True, reply=reply, opted_out=out, opted_in=back)


def _newest(db: Connection, account: int, contact: int, at: str, window: timedelta) -> int | None:
    when = parse(at)
    wanted = {
        "account": account,
        "contact": contact,
        "since": text(when - window),
        "until": text(when + CLOCKS),
    }
    row = db.execute(NEWEST, wanted).fetchone()
    return row["id"] if row is not None else None


def relink(
    db: Connection,
    account: int,
    messages: Sequence[int],
    contacts: Sequence[int],
    *,
    window: timedelta,
) -> list[Reply]:
    """What was answered before it was known to have left: `messages` whose id became known,
    `contacts` who were sent something as it now turns out."""
    replies = []
    wanted = {"ids": json.dumps(messages), "account": account}
    for row in db.execute(QUOTING, wanted).fetchall():
        db.execute(RELINK, {"id": row["id"], "message": row["message"]})
        replies.append(Reply(row["message"], row["received_at"]))
    for contact in contacts:
        given = {"contact": contact, "account": account}
        for row in db.execute(UNLINKED, given).fetchall():
            message = _newest(db, account, contact, row["received_at"], window)
            if message is not None:
                db.execute(LINK, {"id": row["id"], "message": message})
                replies.append(Reply(message, row["received_at"]))
    return replies


def prefer(db: Connection, account: int, wish: Preference, *, at: str, now: str) -> Heard:
    """Do what a person asked of WhatsApp itself. It stands among their messages, once."""
    contact = find(db, wish.person)
    if contact is None:
        return Heard(new=False)
    row = {
        "account": account,
        "contact": contact["id"],
        "message": None,
        "message_id": f"{PREFERENCE}:{contact['id']}:{wish.wish.value}:{at}",
        "hashed": None,
        "kind": PREFERENCE,
        "content": wish.wish.value,
        "context": None,
        "at": at,
    }
    if not db.execute(HEAR, row).rowcount:
        return Heard(new=False)
    if wish.wish is Wish.RESUME:
        return Heard(new=True, opted_in=resume(db, contact["id"], at=at, now=now))
    told = "stopped marketing messages in WhatsApp"
    return Heard(new=True, opted_out=stop(db, contact["id"], reason=told, at=at))


def stop(db: Connection, contact: int, *, reason: str, at: str) -> bool:
    """Opt out, unless the person has asked for messages since `at`."""
    if Wish.RESUME in _wishes_after(db, contact, at):
        return False
    return ledger.opt_out(db, contact, reason=reason, at=at)


def resume(db: Connection, contact: int, *, at: str, now: str) -> bool:
    """Opt in again, unless an opt-out came later than `at`."""
    if Wish.STOP in _wishes_after(db, contact, at):
        return False
    return bool(db.execute(OPT_IN, {"contact": contact, "said": at, "at": now}).rowcount)


def _wishes_after(db: Connection, contact: int, at: str) -> set[Wish | None]:
    rows = db.execute(LATER, {"contact": contact, "at": at})
    return {optout.wish(row["content"] or "") for row in rows if row["kind"] != "reaction"}


def move(db: Connection, moved: Moved, *, at: str) -> None:
    """A person has another number or id. Their opt-out goes with them, whoever had it before."""
    contact = find(db, moved.before)
    if contact is None:
        return
    if moved.after.bsuid:
        db.execute(MOVE_BSUID, {"contact": contact["id"], "bsuid": moved.after.bsuid, "at": at})
    if not moved.after.phone:
        return
    other = find(db, Person(moved.after.phone))
    if other is None:
        db.execute(MOVE_PHONE, {"contact": contact["id"], "phone": moved.after.phone, "at": at})
        return
    why = db.execute(WHY_OUT, {"contact": contact["id"]}).fetchone()
    if why is not None and other["id"] != contact["id"]:
        ledger.opt_out(db, other["id"], reason=f"{why[0]} (under another number)", at=at)
