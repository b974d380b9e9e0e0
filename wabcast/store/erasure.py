"""A person is erased: the row, and every place where their name, number or words stand.

What must not break: what was owed or sent stays counted, and whoever was opted out or blocked
stays unreachable by the hash of their number.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wabcast.store import contacts, inbox
from wabcast.store.contacts import SUPPRESS
from wabcast.store.database import immediate
from wabcast.store.imports import phone_hash

if TYPE_CHECKING:
    from wabcast.store.database import Connection

SKIP_PENDING = """
update campaign_messages
   set status = 'skipped', error_code = 'removed', error_message = 'contact removed'
 where contact_id = :id and status = 'pending'
"""

# Providers like to repeat the number in their errors, our own words quote what was to be said, and
# WhatsApp hides the number in its ids.
BLANK_MESSAGES = """
update campaign_messages
   set contact_id = null, content = null, whatsapp_message_id = null,
       error_message = iif(error_code = 'content'
               or exists (select 1 from json_each(:names) where instr(error_message, value)),
           'contact removed', error_message)
 where contact_id = :id
"""

BLANK_INBOUND = (
    "update inbound_messages set contact_id = null, content = null where contact_id = :id"
)

# WhatsApp spells some numbers in two ways, and knows people by ids of its own. Only what is
# applied: a body that waits still has somebody's fate in it.
BLANK_INBOX = """
update webhook_inbox set body = x''
 where applied_at is not null
   and exists (select 1 from json_each(:names) where instr(cast(body as text), value))
"""

FORGET_PARKED = """
delete from parked_receipts
 where whatsapp_message_id in (select whatsapp_message_id from campaign_messages
                                where contact_id = :id and whatsapp_message_id is not null)
"""

BLANK_EVENTS = """
update events set data = replace(data, :phone, 'removed') where instr(data, :phone)
"""

BLANK_AUDIENCES = """
update campaigns set audience = replace(audience, '"' || :phone || '"', '"removed"')
 where instr(audience, :phone)
"""

BSUID = "select bsuid from contacts where id = :id"

REMOVE = "delete from contacts where id = :id"


def remove(db: Connection, phone: str, *, at: str) -> int:
    """Erase the contact; how many owed messages were skipped for it. Raises NotFound.

    Pending messages become skipped; whatever is or was on the wire keeps its state without a
    name. What is freed is overwritten, and the write-ahead log is emptied if nobody needs it;
    older versions of the row that SQLite has moved about stay in unused space until a vacuum.
    """
    db.execute("pragma secure_delete = on")
    try:
        with immediate(db):
            person = contacts.get(db, phone)
            names = [spelt[1:] for spelt in inbox.spellings(phone)]
            names += db.execute(BSUID, {"id": person.id}).fetchone()
            named = json.dumps([name for name in names if name])
            given = {"id": person.id, "phone": phone, "names": named}
            reason = person.opt_out_reason or ("opted out" if person.opted_out_at else "")
            if person.blocked_at:
                reason = reason or "blocked"
            if reason:
                since = person.opted_out_at or person.blocked_at or at
                db.execute(SUPPRESS, {"hash": phone_hash(phone), "reason": reason, "at": since})
            skipped = int(db.execute(SKIP_PENDING, given).rowcount)
            for statement in (
                FORGET_PARKED,
                BLANK_MESSAGES,
                BLANK_INBOUND,
                BLANK_INBOX,
                BLANK_EVENTS,
            ):
                db.execute(statement, given)
            db.execute(BLANK_AUDIENCES, given)
            db.execute(REMOVE, given)
        db.execute("pragma wal_checkpoint(truncate)").fetchone()
    finally:
        db.execute("pragma secure_delete = fast")
    return skipped
