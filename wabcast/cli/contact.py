"""`wabcast contact`: the people. Files of them are read and written in `contact_files`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import Verbs, contact_consent, output
from wabcast.cli.contact_words import Phone, Region, now
from wabcast.cli.contact_words import number as one
from wabcast.cli.pairs import pairs
from wabcast.errors import UsageError

if TYPE_CHECKING:
    from wabcast.store.contacts import Person

EXAMPLES = (
    "wabcast contact import people.csv --region DE --tag spring --rejects bad.csv\n"
    "wabcast contact list --where \"city = 'Berlin' and tag('vip')\"\n"
    "wabcast contact show +4915123456789\n"
    "wabcast contact opt-out +4915123456789 --reason 'asked by phone'"
)

app = Verbs("The people: import, look up, tag, opt out, export, erase.", examples=EXAMPLES)

SHOWN = 100
"""Rows of a table when nobody says how many."""

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="first_name, last_name, name, email, company, language, timezone or any attribute;"
        " may be repeated.",
    ),
]
AnyTag = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="T", help="Only people with this tag; repeated: any of them."),
]
Where = Annotated[
    str | None,
    typer.Option(metavar="EXPR", help="Only people for whom it holds: \"city = 'Berlin'\"."),
]
SegmentName = Annotated[
    str | None, typer.Option("--segment", metavar="NAME", help="Only people of this segment.")
]
OptedOut = Annotated[bool, typer.Option("--opted-out", help="Only people who opted out.")]


@app.verb("import", json=True, examples=EXAMPLES.splitlines()[0])
def import_contacts(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="CSV, TSV, JSON, NDJSON or XLSX; - is stdin."),
    ],
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=HEADER",
            help="Which column is phone, first_name, last_name, name, email, company, language,"
            " timezone or tags, where the guess is wrong; may be repeated.",
        ),
    ] = None,
    region: Region = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="T", help="A tag for everybody in the file; may be repeated."),
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            metavar="update|skip", help="Whether people who are here already take new values."
        ),
    ] = "update",
    rejects: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the rows that were not taken here, with reasons."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="The file's encoding (else by its content).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and count, write nothing to the database.")
    ] = False,
) -> None:
    """Import people. The same file twice changes nothing; one bad row never stops the rest.

    Every column that is no field becomes an attribute. An opt-out is never lifted by an import.
    """
    from wabcast.cli import contact_import

    contact_import.run(
        file,
        columns=map_ or (),
        region=region,
        tags=_tags(tag or ()),
        on_conflict=on_conflict,
        rejects=rejects,
        encoding=encoding,
        dry_run=dry_run,
    )


@app.verb("add", json=True, examples="wabcast contact add +4915123456789 --set first_name=Ann")
def add(phone: Phone, set_: Sets = None, region: Region = None) -> None:
    """Add one person. Who is here already takes the values that are given."""
    from wabcast.contacts import Contact
    from wabcast.store import contacts

    number = one(phone, region)
    told = _settable(pairs(set_, "--set"))
    _checked(told)
    if "phone" in told:
        raise UsageError("--set phone: the number is PHONE itself")
    with output.open_store() as db:
        counts = contacts.upsert(db, [Contact(number)], at=now())
        changed = bool(told) and contacts.edit(db, number, told, at=now())
        person = contacts.get(db, number)
    if output.options().json:
        output.emit(person.to_json())
    what = "added" if counts.inserted else "updated" if changed else "is here already"
    output.note(f"{number} {what}")
    if person.opted_out_at:
        output.warn(f"{number} is opted out: {person.opt_out_reason}")


@app.verb("list", json=True, examples=EXAMPLES.splitlines()[1])
def list_contacts(
    tag: AnyTag = None,
    where: Where = None,
    segment: SegmentName = None,
    opted_out: OptedOut = False,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most so many (100; with --json all; 0: all)."),
    ] = None,
) -> None:
    """Show people, in the order they came."""
    from itertools import islice

    from wabcast.store import contacts

    if limit is not None and limit < 0:
        raise UsageError(f"--limit is a count, not {limit}")
    shown = limit or None
    if limit is None and not output.options().json:
        shown = SHOWN
    with output.open_store() as db:
        people = contacts.each(
            db,
            tags=tag or (),
            where=_given(where, "--where"),
            segment=segment or "",
            opted_out=True if opted_out else None,
            limit=shown and shown + 1,
        )
        if output.options().json:
            output.emit_all(person.to_json() for person in islice(people, shown))
            return
        rows = (_row(person) for person in islice(people, shown))
        output.table(["phone", "name", "company", "tags", "state"], rows)
        if limit is None and next(people, None):
            output.note(f"the first {SHOWN}; --limit 0 shows all")


@app.verb("show", json=True)
def show(phone: Phone, region: Region = None) -> None:
    """Show a person, with every message to and from them."""
    from wabcast.store import contacts

    number = one(phone, region)
    with output.open_store() as db:
        person = contacts.get(db, number)
        messages = contacts.history(db, number)
    told = person.to_json()
    if output.options().json:
        output.emit(told | {"messages": messages})
        return
    attributes = told.pop("attributes")
    told["tags"] = ", ".join(told["tags"]) or None
    output.fields({name: value for name, value in (told | attributes).items() if value})
    if messages:
        output.line()
        output.table(
            ["", "at", "campaign", "status", "content"],
            (
                (
                    "to" if message["direction"] == "out" else "from",
                    message["at"],
                    f"test of {message['campaign']}" if message["test"] else message["campaign"],
                    message["status"],
                    message["error_message"] or message["content"],
                )
                for message in messages
            ),
        )


@app.verb("edit", json=True, examples="wabcast contact edit +4915123456789 --set city=Bonn")
def edit(
    phone: Phone,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A field, an attribute, or phone; without a value it is erased. Repeatable.",
        ),
    ] = None,
    region: Region = None,
) -> None:
    """Change what is known of a person."""
    from wabcast.store import contacts

    number = one(phone, region)
    if not set_:
        raise UsageError("nothing to change", hint="--set first_name=Ann, or --set city=")
    erased = [word.rstrip()[:-1].strip() for word in set_ if word.rstrip().endswith("=")]
    kept = [word for word in set_ if not word.rstrip().endswith("=")]
    told = _settable(pairs(kept, "--set") | dict.fromkeys(erased, ""))
    _checked(told)
    if told.get("phone"):
        told["phone"] = one(told["phone"], region)
    with output.open_store() as db:
        changed = contacts.edit(db, number, told, at=now())
        person = contacts.get(db, told.get("phone") or number)
    if output.options().json:
        output.emit(person.to_json())
    output.note(f"{person.phone} {'changed' if changed else 'is so already'}")


@app.verb("tag", json=True, examples="wabcast contact tag +4915123456789 vip berlin")
def tag(
    phone: Phone,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="The tags to give.")],
    region: Region = None,
) -> None:
    """Give a person tags."""
    from wabcast.store import contacts

    _retag(contacts.tag, phone, tags, region)


@app.verb("untag", json=True)
def untag(
    phone: Phone,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="The tags to take away.")],
    region: Region = None,
) -> None:
    """Take tags from a person."""
    from wabcast.store import contacts

    _retag(contacts.untag, phone, tags, region)


@app.verb("export", json=True, examples="wabcast contact export vips.csv --tag vip")
def export(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Where to; - is stdout.")] = "-",
    tag: AnyTag = None,
    where: Where = None,
    segment: SegmentName = None,
    opted_out: OptedOut = False,
) -> None:
    """Write people as CSV (or a JSON array) that `import` reads back, opt-outs too.

    A cell that a spreadsheet would run as a formula gets an apostrophe, which `import` takes off.
    """
    import sys

    from wabcast.cli.contact_files import export_csv, exported, written
    from wabcast.store import contacts, segments

    with output.open_store() as db:
        people = contacts.each(
            db,
            tags=tag or (),
            where=_given(where, "--where"),
            segment=segment or "",
            opted_out=True if opted_out else None,
        )
        if output.options().json:
            if file != "-":
                raise UsageError("--json goes to stdout", hint="leave FILE out, or --json")
            output.emit_all(exported(person) for person in people)
        elif file == "-":
            export_csv(sys.stdout, people, segments.attributes(db))
        else:
            with written(file) as out:
                count = export_csv(out, people, segments.attributes(db))
            output.note(f"{count:,} contacts written to {file}")


app.verb("opt-out", json=True, examples=EXAMPLES.splitlines()[3])(contact_consent.opt_out)
app.verb("opt-in", json=True)(contact_consent.opt_in)
app.verb("block", json=True)(contact_consent.block)
app.verb("unblock", json=True)(contact_consent.unblock)
app.verb("remove", json=True)(contact_consent.remove)


def _given(value: str | None, option: str) -> str:
    """An option's text; an empty one, as of an unset variable, must not mean everybody."""
    if value is not None and not value.strip():
        raise UsageError(f"{option} is empty", hint="leave it out to mean everybody")
    return value or ""


def _tags(words: Sequence[str]) -> list[str]:
    from wabcast.contacts import split_tags

    for word in words:
        if split_tags(word) != (word,):
            raise UsageError(f"{word!r} cannot be a tag", hint="no commas, semicolons or bars")
    return list(words)


def _settable(told: dict[str, str]) -> dict[str, str]:
    """Refuse what has a verb of its own; take firstName for first_name."""
    from wabcast.store.imports import BARRED

    names = {"firstName": "first_name", "lastName": "last_name"}
    for name in told:
        if name in BARRED or name in ("tags", "created_at", "updated_at", "id"):
            raise UsageError(
                f"--set {name}: it is not set by hand",
                hint="wabcast contact tag, opt-out, opt-in, block",
            )
    return {names.get(name, name): value for name, value in told.items()}


def _checked(told: dict[str, str]) -> None:
    if zone := told.get("timezone"):
        from zoneinfo import available_timezones

        if zone not in available_timezones():
            raise UsageError(f"there is no time zone {zone!r}", hint="as in Europe/Berlin")


def _row(person: Person) -> tuple[object, ...]:
    state = "opted out" if person.opted_out_at else "blocked" if person.blocked_at else None
    name = person.name or " ".join(filter(None, (person.first_name, person.last_name))) or None
    return person.phone, name, person.company, ", ".join(person.tags) or None, state


def _retag(change: Callable[..., int], phone: str, tags: Sequence[str], region: str | None) -> None:
    from wabcast.store import contacts

    number = one(phone, region)
    with output.open_store() as db:
        changed = change(db, [number], _tags(tags), at=now())
        person = contacts.get(db, number)
    if output.options().json:
        output.emit(person.to_json())
    has = ", ".join(person.tags) or "none"
    output.note(f"{number} {'changed' if changed else 'is so already'}; tags: {has}")
