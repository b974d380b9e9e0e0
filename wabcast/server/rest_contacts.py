"""/contacts: the people, one and many; who is not to be written to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Query, UploadFile

from wabcast import bounded_reader, tables
from wabcast.contacts import Contact, guess, read_rows
from wabcast.errors import UsageError
from wabcast.phones import known_region
from wabcast.server.desk import Desk, cursor, may, position
from wabcast.server.models import (
    Answer,
    ContactAsked,
    ContactChange,
    ContactTold,
    Imported,
    OptOutAsked,
    Page,
    PhonesAsked,
    Reject,
    Removed,
    TagsAsked,
    Turned,
)
from wabcast.server.people import number, numbers
from wabcast.store import contacts, erasure, imports
from wabcast.store.database import immediate
from wabcast.tables import BadRow

router = APIRouter(prefix="/contacts", tags=["contacts"])

Reads = Annotated[Desk, Depends(may("contacts:read"))]
Writes = Annotated[Desk, Depends(may("contacts:write"))]
Erases = Annotated[Desk, Depends(may("contacts:delete"))]

LARGEST = 64 * 1024 * 1024
"""Bytes of an upload."""

SHOWN = 100
"""So many bad rows are told."""


@router.get("", summary="In the order they came; all that is given must hold")
def listed(
    desk: Reads,
    tag: Annotated[list[str] | None, Query(max_length=100)] = None,
    where: Annotated[str, Query(max_length=10_000)] = "",
    segment: Annotated[str, Query(max_length=200)] = "",
    opted_out: bool | None = None,  # noqa: FBT001  # a query's own words
    cursor_: Annotated[str | None, Query(alias="cursor", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Answer[Page[ContactTold]]:
    found = list(
        contacts.each(
            desk.db,
            tags=tag or (),
            where=where,
            segment=segment,
            opted_out=opted_out,
            limit=limit,
            after=position(cursor_) or 0,
        )
    )
    items = [ContactTold(**person.to_json()) for person in found]
    last = found[-1].id if len(found) == limit else None
    return Answer(data=Page(items=items, next=cursor(last)))


@router.post("", status_code=201, summary="Add one, or change the one who has the number")
def add(asked: ContactAsked, desk: Writes) -> Answer[ContactTold]:
    row = {"phone": number(asked.phone, asked.region), **asked.fields}
    people = read_rows([tables.Row(1, row)], guess(row), tags=asked.tags)
    imports.upsert(desk.db, _only_good(people), at=desk.at)
    return _person(desk, row["phone"], "Contact saved")


@router.post(
    "/import",
    summary="Take in a file: CSV, TSV, JSON, NDJSON, XLSX, told apart by content",
    max_body_size=LARGEST,
)
def take_in(
    desk: Writes,
    file: Annotated[UploadFile, File()],
    region: Annotated[str | None, Form(max_length=2)] = None,
    tag: Annotated[list[str] | None, Form()] = None,
    columns: Annotated[str | None, Form(description='{"phone": "Mobile"}: field, header')] = None,
    on_conflict: Annotated[imports.OnConflict, Form()] = imports.OnConflict.UPDATE,
    encoding: Annotated[str | None, Form(max_length=40)] = None,
    dry_run: Annotated[bool, Form()] = False,  # noqa: FBT002  # a form's own words
) -> Answer[Imported]:
    if dry_run:
        desk.need("contacts:read")  # what would change tells what is known
    with bounded_reader.upload(
        file.file,
        columns=_columns(columns),
        region=known_region(region) if region else None,
        tags=tag or (),
        encoding=encoding or None,
        on_conflict=on_conflict,
        shown=SHOWN,
    ) as read:
        counts = imports.take(
            desk.db, read.chunks, at=desk.at, on_conflict=on_conflict, dry_run=dry_run
        )
    taken = counts.inserted + counts.updated + counts.unchanged + counts.duplicates
    told = Imported(
        read=taken + read.rejected,
        inserted=counts.inserted,
        updated=counts.updated,
        unchanged=counts.unchanged,
        duplicates=counts.duplicates,
        rejected=read.rejected,
        rejects=[Reject(line=line, reason=reason) for line, reason in read.rejects],
        notes=read.notes,
    )
    return Answer(message="Contacts imported", data=told)


@router.post("/opt-out", summary="Never write to these again; who is nobody's here is remembered")
def opt_out(asked: OptOutAsked, desk: Writes) -> Answer[Turned]:
    phones = numbers(asked.phones, asked.region)
    return _turned(contacts.opt_out(desk.db, phones, reason=asked.reason, at=desk.at))


@router.post("/opt-in", summary="They may be written to again, because they said so")
def opt_in(asked: PhonesAsked, desk: Writes) -> Answer[Turned]:
    return _turned(contacts.opt_in(desk.db, numbers(asked.phones, asked.region), at=desk.at))


@router.post("/block", summary="Never choose these: our decision")
def block(asked: PhonesAsked, desk: Writes) -> Answer[Turned]:
    return _turned(contacts.block(desk.db, numbers(asked.phones, asked.region), at=desk.at))


@router.post("/unblock", summary="Take a block back")
def unblock(asked: PhonesAsked, desk: Writes) -> Answer[Turned]:
    return _turned(contacts.unblock(desk.db, numbers(asked.phones, asked.region), at=desk.at))


@router.post("/tag", summary="Give tags; 404 where one is no contact, then nobody has them")
def tag(asked: TagsAsked, desk: Writes) -> Answer[Turned]:
    phones = numbers(asked.phones, asked.region)
    changed = contacts.tag(desk.db, phones, asked.tags, at=desk.at)
    return Answer(data=Turned(changed=changed, already=len(phones) - changed))


@router.post("/untag", summary="Take tags; 404 where one is no contact, then all keep them")
def untag(asked: TagsAsked, desk: Writes) -> Answer[Turned]:
    phones = numbers(asked.phones, asked.region)
    changed = contacts.untag(desk.db, phones, asked.tags, at=desk.at)
    return Answer(data=Turned(changed=changed, already=len(phones) - changed))


@router.get("/{phone}", summary="One person")
def show(phone: str, desk: Reads) -> Answer[ContactTold]:
    return _person(desk, number(phone, None), "OK")


@router.patch("/{phone}", summary="Change fields and attributes; an empty value erases")
def edit(phone: str, asked: ContactChange, desk: Writes) -> Answer[ContactTold]:
    changes = dict(asked.fields)
    if changes.get("phone"):
        changes["phone"] = number(changes["phone"], None)
    e164 = number(phone, None)
    with immediate(desk.db):
        contacts.edit(desk.db, e164, changes, at=desk.at)
    return _person(desk, changes.get("phone") or e164, "Contact saved")


@router.delete("/{phone}", summary="Erase a person, and blank them in every record")
def erase(phone: str, desk: Erases) -> Answer[Removed]:
    e164 = number(phone, None)
    contacts.get(desk.db, e164)
    skipped = erasure.remove(desk.db, e164, at=desk.at, clock=desk.clock)
    return Answer(data=Removed(removed=1, skipped=skipped))


def _person(desk: Desk, phone: str, told: str) -> Answer[ContactTold]:
    """The person; to who may not read people, no more than the number it named."""
    person = contacts.get(desk.db, phone).to_json()
    if not desk.caller.may("contacts:read"):
        hidden = dict.fromkeys(("name", "opted_out_at", "blocked_at"))
        person = {"phone": phone, "attributes": {}, "tags": [], **hidden}
    return Answer(message=told, data=ContactTold(**person))


def _turned(done: contacts.Changed) -> Answer[Turned]:
    return Answer(data=Turned(changed=done.changed, already=done.already, unknown=done.unknown))


def _only_good(people: Iterable[Contact | BadRow]) -> Iterator[Contact]:
    for person in people:
        if isinstance(person, BadRow):
            raise UsageError(person.reason)
        yield person


def _columns(given: str | None) -> dict[str, str]:
    if not given:
        return {}
    try:
        told = json.loads(given)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise UsageError('columns is a JSON object of field and header: {"phone": "Mobile"}')
    return told
