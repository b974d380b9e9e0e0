"""The people: who they are, who is chosen, and who is not to be written to.

What must not break: an opt-out is in the file when the call returns, the first reason and time
stay, and no statement that chooses people chooses one who is opted out or blocked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wabcast.audience import Audience, AudienceKind
from wabcast.contacts import folded
from wabcast.errors import NotFound, Refused, UsageError
from wabcast.events import CONTACT_OPTED_OUT, Event
from wabcast.store import events, segments
from wabcast.store.database import immediate
from wabcast.store.imports import FIELDS, Counts, OnConflict, compact, phone_hash, upsert

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Cursor, Row

__all__ = ["Counts", "OnConflict", "Person", "upsert"]

PAGE = 1000

_PERSON = """
select id, phone, first_name, last_name, name, email, company, language, timezone, attributes,
       (select json_group_array(tag order by tag) from contact_tags where contact_id = contacts.id)
           as tags,
       opted_out_at, opt_out_reason, blocked_at, created_at, updated_at
  from contacts
"""

ONE = _PERSON + " where phone = :phone"

# `{condition}` is what `segments.condition` returned, or `true`.
_EACH = """
 where id > :after
   and (:tags is null or exists (
        select 1 from contact_tags
         where contact_id = contacts.id and tag in (select value from json_each(:tags))))
   and (:opted_out is null or (opted_out_at is not null) = :opted_out)
   and (listed = 1 or opted_out_at is not null or blocked_at is not null)
   and ({condition})
 order by id limit :page
"""

EACH = _PERSON + _EACH

# Whom an audience means. Only the one for conditions has a hole.
PICKED = {
    AudienceKind.ALL: "true",
    AudienceKind.TAGS: """contacts.id in (
        select contact_id from contact_tags where tag in (select value from json_each(:tags)))""",
    AudienceKind.SEGMENT: "({condition})",
    AudienceKind.WHERE: "({condition})",
    AudienceKind.PHONES: "contacts.phone in (select value from json_each(:phones))",
}

_WITHOUT_TAGS = """
   and contacts.id not in (
        select contact_id from contact_tags
         where tag in (select value from json_each(:exclude_tags)))
"""

_WITHOUT_PHONES = """
   and contacts.phone not in (select value from json_each(:exclude_phones))
"""

_REACHABLE = """
  from contacts
 where contacts.opted_out_at is null and contacts.blocked_at is null and contacts.listed = 1
   and {picked}
"""

COUNT = "select count(*)" + _REACHABLE

CHOOSE = "select contacts.id" + _REACHABLE
IN_ORDER = " order by contacts.id"

EDIT = """
update contacts
   set phone = :phone, first_name = :first_name, last_name = :last_name, name = :name,
       email = :email, company = :company, language = :language, timezone = :timezone,
       attributes = :attributes, listed = 1, updated_at = :at
 where id = :id
"""

TAG = """
insert into contact_tags (contact_id, tag) select :id, value from json_each(:tags) where true
    on conflict do nothing
"""

UNTAG = """
delete from contact_tags where contact_id = :id and tag in (select value from json_each(:tags))
"""

TOUCH = "update contacts set listed = 1, updated_at = :at where id = :id"

OPT_OUT = """
update contacts set opted_out_at = :at, opt_out_reason = :reason, updated_at = :at
 where phone = :phone and opted_out_at is null
"""

SUPPRESS = """
insert into suppressions (phone_hash, reason, at) values (:hash, :reason, :at)
    on conflict (phone_hash) do nothing
"""

ALLOW = "delete from suppressions where phone_hash = :hash"

OPT_IN = """
update contacts set opted_out_at = null, opt_out_reason = null, updated_at = :at
 where phone = :phone and opted_out_at is not null
"""

BLOCK = """
update contacts set blocked_at = :at, updated_at = :at where phone = :phone and blocked_at is null
"""

UNBLOCK = """
update contacts set blocked_at = null, updated_at = :at
 where phone = :phone and blocked_at is not null
"""

HISTORY = """
select 'out' as direction, coalesce(m.queued_at, m.failed_at, m.due_at) as at,
       coalesce(t.name, c.name) as campaign, c.test_of is not null as test,
       m.status, m.content, null as kind, m.error_code, m.error_message,
       m.queued_at, m.sent_at, m.delivered_at, m.read_at, m.replied_at, m.failed_at,
       m.whatsapp_message_id
  from campaign_messages as m join campaigns as c on c.number = m.campaign_id
  left join campaigns as t on t.id = c.test_of
 where m.contact_id = :id
union all
select 'in', i.received_at, coalesce(t.name, c.name), c.test_of is not null,
       'received', i.content, i.kind, null, null,
       null, null, null, null, null, null, i.whatsapp_message_id
  from inbound_messages as i
  left join campaign_messages as m on m.id = i.campaign_message_id
  left join campaigns as c on c.number = m.campaign_id
  left join campaigns as t on t.id = c.test_of
 where i.contact_id = :id
 order by 2
"""


@dataclass(frozen=True, slots=True)
class Person:
    """A contact as it is stored. Times are UTC text; what is not known is None."""

    id: int
    phone: str
    first_name: str | None
    last_name: str | None
    name: str | None
    email: str | None
    company: str | None
    language: str | None
    timezone: str | None
    attributes: dict[str, str]
    tags: tuple[str, ...]
    opted_out_at: str | None
    opt_out_reason: str | None
    blocked_at: str | None
    created_at: str
    updated_at: str

    def to_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__slots__ if name != "id"}
        return told | {"tags": list(self.tags)}


@dataclass(frozen=True, slots=True)
class Changed:
    """Of the numbers given: how many changed, were so already, and are nobody's here."""

    changed: int = 0
    already: int = 0
    unknown: int = 0


def get(db: Connection, phone: str) -> Person:
    """The contact with this E.164 number. Raises NotFound."""
    row = db.execute(ONE, {"phone": phone}).fetchone()
    if row is None:
        raise NotFound(f"no contact {phone}", hint=f"wabcast contact add {phone}")
    return _person(row)


def each(
    db: Connection,
    *,
    tags: Iterable[str] = (),
    where: str = "",
    segment: str = "",
    opted_out: bool | None = None,
    limit: int | None = None,
    after: int = 0,
) -> Iterator[Person]:
    """Contacts in the order they came, a page at a time; all that is given must hold.

    `tags` is any of them; `after` is an id. No transaction is held between pages. Faults of
    `where` and `segment` are raised before the first contact.
    """
    parts = [segments.condition(db, where)] if where else []
    parts += [segments.condition_of(db, segment)] if segment else []
    sql = EACH.replace("{condition}", " and ".join(f"({part})" for part in parts) or "true")
    tags = list(tags)
    given: dict[str, Any] = {"tags": compact(tags) if tags else None, "opted_out": opted_out}
    return _pages(db, sql, given, limit, after)


def _pages(
    db: Connection, sql: str, given: dict[str, Any], left: int | None, after: int
) -> Iterator[Person]:
    while left is None or left > 0:
        page = PAGE if left is None else min(PAGE, left)
        rows = db.execute(sql, given | {"after": after, "page": page}).fetchall()
        for row in rows:
            yield _person(row)
        if len(rows) < page:
            return
        after = rows[-1]["id"]
        left = None if left is None else left - page


def count(db: Connection, audience: Audience) -> int:
    """How many would be chosen now."""
    return int(db.execute(*_chosen(db, COUNT, audience)).fetchone()[0])


def chosen(db: Connection, audience: Audience) -> Cursor:
    """The ids of those who are meant now, in the order they came; all of the moment of this call.

    Numbers of a list must be contacts already.
    """
    sql, given = _chosen(db, CHOOSE, audience)
    return db.execute(sql + IN_ORDER, given)


def _chosen(db: Connection, sql: str, audience: Audience) -> tuple[str, dict[str, Any]]:
    sql = sql.replace("{picked}", PICKED[audience.kind])
    if audience.exclude_tags:
        sql += _WITHOUT_TAGS
    if audience.exclude_phones:
        sql += _WITHOUT_PHONES
    match audience.kind:
        case AudienceKind.SEGMENT:
            sql = sql.replace("{condition}", segments.condition_of(db, audience.segment))
        case AudienceKind.WHERE:
            sql = sql.replace("{condition}", segments.condition(db, audience.where))
        case AudienceKind.ALL | AudienceKind.TAGS | AudienceKind.PHONES:
            pass
    lists = ("tags", "phones", "exclude_tags", "exclude_phones")
    return sql, {name: compact(getattr(audience, name)) for name in lists}


def edit(db: Connection, phone: str, changes: Mapping[str, str], *, at: str) -> bool:
    """Set fields (`FIELDS`, `phone` in E.164) and attributes; an empty value erases.

    False where nothing was to change. Raises NotFound, and Refused where the new phone is
    somebody else's.
    """
    with _writing(db):
        person = get(db, phone)
        told = {name: getattr(person, name) for name in ("phone", *FIELDS)}
        attributes = dict(person.attributes)
        for name, value in changes.items():
            if name in told:
                told[name] = value or None
            else:
                spelled = [key for key in attributes if folded(key) == folded(name)]
                key = name if name in attributes or not spelled else spelled[0]
                attributes[key] = value
                if not value:
                    del attributes[key]
        if "name" not in changes and person.name == _whole(person.first_name, person.last_name):
            told["name"] = _whole(told["first_name"], told["last_name"])
        if not told["phone"]:
            raise UsageError("a contact cannot be without a phone", hint="contact remove")
        if told["phone"] != phone and db.execute(ONE, {"phone": told["phone"]}).fetchone():
            raise Refused(
                f"{told['phone']} is another contact's number", hint="remove one of the two first"
            )
        same = all(getattr(person, name) == value for name, value in told.items())
        if same and attributes == person.attributes:
            return False
        told |= {"id": person.id, "attributes": compact(attributes), "at": at}
        db.execute(EDIT, told)
        return True


def tag(db: Connection, phones: Iterable[str], tags: Iterable[str], *, at: str) -> int:
    """Give `tags` to contacts; how many did not have them all. Raises NotFound, then none has."""
    return _retag(db, TAG, phones, tags, at)


def untag(db: Connection, phones: Iterable[str], tags: Iterable[str], *, at: str) -> int:
    """Take `tags` from contacts; how many had one. Raises NotFound, then all keep them."""
    return _retag(db, UNTAG, phones, tags, at)


def _retag(db: Connection, sql: str, phones: Iterable[str], tags: Iterable[str], at: str) -> int:
    listed, changed = compact(list(tags)), 0
    with _writing(db):
        for phone in phones:
            person = get(db, phone)
            if db.execute(sql, {"id": person.id, "tags": listed}).rowcount > 0:
                db.execute(TOUCH, {"id": person.id, "at": at})
                changed += 1
    return changed


def opt_out(db: Connection, phones: Iterable[str], *, reason: str, at: str) -> Changed:
    """From now on nothing goes to these; who was opted out keeps the first reason and time.

    A number that is no contact is remembered by its hash, and comes in opted out. In the
    caller's transaction if there is one, with a `contact:opted_out` for each that changed.
    """
    changed = already = unknown = 0
    with _writing(db):
        for phone in phones:
            if db.execute(OPT_OUT, {"phone": phone, "reason": reason, "at": at}).rowcount:
                told = {"phone": phone, "reason": reason}
                events.add(db, Event(CONTACT_OPTED_OUT, None, told), at=at)
                changed += 1
            elif db.execute(ONE, {"phone": phone}).fetchone():
                already += 1
            else:
                db.execute(SUPPRESS, {"hash": phone_hash(phone), "reason": reason, "at": at})
                unknown += 1
    return Changed(changed, already, unknown)


def suppress(db: Connection, phones: Iterable[str], *, reason: str, at: str) -> None:
    """Remember by a hash that nothing is to go to these numbers, which are no contacts'. In the
    caller's transaction."""
    for phone in phones:
        db.execute(SUPPRESS, {"hash": phone_hash(phone), "reason": reason, "at": at})


def opt_in(db: Connection, phones: Iterable[str], *, at: str) -> Changed:
    """They may be written to again; also forgets the hash of a number that was removed."""
    phones = list(phones)
    with _writing(db):
        forgotten = sum(
            db.execute(ALLOW, {"hash": phone_hash(phone)}).rowcount
            for phone in phones
            if not db.execute(ONE, {"phone": phone}).fetchone()
        )
        done = _turned(db, OPT_IN, phones, at)
        for phone in phones:
            db.execute(ALLOW, {"hash": phone_hash(phone)})
    return Changed(done.changed + forgotten, done.already, done.unknown - forgotten)


def block(db: Connection, phones: Iterable[str], *, at: str) -> Changed:
    """Never choose these. An operator's decision; an opt-out is the person's own."""
    with _writing(db):
        return _turned(db, BLOCK, phones, at)


def unblock(db: Connection, phones: Iterable[str], *, at: str) -> Changed:
    with _writing(db):
        return _turned(db, UNBLOCK, phones, at)


def _turned(db: Connection, sql: str, phones: Iterable[str], at: str) -> Changed:
    changed = already = unknown = 0
    for phone in phones:
        if db.execute(sql, {"phone": phone, "at": at}).rowcount:
            changed += 1
        elif db.execute(ONE, {"phone": phone}).fetchone():
            already += 1
        else:
            unknown += 1
    return Changed(changed, already, unknown)


def history(db: Connection, phone: str) -> list[dict[str, Any]]:
    """Every message to and from the contact, oldest first. Raises NotFound."""
    rows = db.execute(HISTORY, {"id": get(db, phone).id})
    return [{**dict(row), "test": bool(row["test"])} for row in rows]


def _whole(first: str | None, last: str | None) -> str | None:
    return " ".join(filter(None, (first, last))) or None


def _person(row: Row) -> Person:
    told = dict(row)
    told["attributes"] = json.loads(told["attributes"])
    told["tags"] = tuple(json.loads(told["tags"]))
    return Person(**told)


def _writing(db: Connection) -> AbstractContextManager[object]:
    """The caller's transaction if there is one, else one of our own."""
    return nullcontext() if db.in_transaction else immediate(db)
