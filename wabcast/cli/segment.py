"""`wabcast segment`: sentences that pick contacts, under a name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from wabcast.cli import Verbs, output

EXAMPLES = (
    "wabcast segment create berliners \"city = 'Berlin' and tag('vip')\"\n"
    "wabcast segment create regulars '\"Loyalty Points\" >= 100 and email is not null'\n"
    "wabcast segment show berliners --count\n"
    "wabcast contact list --segment berliners"
)

app = Verbs("Saved sentences that pick contacts.", examples=EXAMPLES)

Name = Annotated[str, typer.Argument(help="The segment's name.", show_default=False)]


@app.verb("create", json=True, examples=EXAMPLES.splitlines()[0])
def create(
    name: Name,
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPR",
            help="A SQL condition over columns, attributes and tag('...'). Texts stand in single"
            ' quotes, names with blanks in double quotes: "Loyalty Points" > 100.',
            show_default=False,
        ),
    ],
) -> None:
    """Save EXPR under NAME. Whom it picks is found out anew each time it is used."""
    from wabcast.audience import Audience, AudienceKind
    from wabcast.clock import Clock, text
    from wabcast.store import contacts, segments

    with output.open_store() as db:
        made = segments.create(db, name, expression, at=text(Clock().now()))
        count = contacts.count(db, Audience(AudienceKind.SEGMENT, segment=name))
    if output.options().json:
        output.emit(asdict(made))
    output.note(f"segment {name}: {count:,} people now")


@app.verb("list", json=True)
def list_segments() -> None:
    """Show all segments."""
    from wabcast.store import segments

    with output.open_store() as db:
        every = list(segments.every(db))
    if output.options().json:
        output.emit_all(asdict(one) for one in every)
    elif every:
        output.table(["name", "expression"], [(one.name, one.expression) for one in every])
    else:
        output.note("no segments; `wabcast segment create NAME EXPR` makes one")


@app.verb("show", json=True)
def show(
    name: Name,
    count: Annotated[
        bool,
        typer.Option("--count", help="Also count whom it picks, without opted out and blocked."),
    ] = False,
) -> None:
    """Show one segment."""
    from wabcast.audience import Audience, AudienceKind
    from wabcast.store import contacts, segments

    with output.open_store() as db:
        told: dict[str, object] = asdict(segments.get(db, name))
        if count:
            told["count"] = contacts.count(db, Audience(AudienceKind.SEGMENT, segment=name))
    if output.options().json:
        output.emit(told)
    else:
        output.fields(told)


@app.verb("remove", json=True)
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a segment; the contacts stay. Refused while a draft or scheduled campaign uses it."""
    from wabcast.store import segments

    with output.open_store() as db:
        found = segments.get(db, name)
        output.confirm(f"Remove the segment {name} ({found.expression})?", yes=yes)
        segments.remove(db, name)
    if output.options().json:
        output.emit({"removed": name})
    output.note(f"segment {name} removed")
