"""Who is not to be written to, and who is to be forgotten: verbs of `wabcast contact`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import output
from wabcast.cli.contact_words import Phones, Region, now, number
from wabcast.errors import NotFound

if TYPE_CHECKING:
    from wabcast.store.contacts import Changed
    from wabcast.store.database import Connection


def opt_out(
    phones: Phones,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; it is shown with the person.")
    ] = "by hand",
    region: Region = None,
) -> None:
    """Never write to these again, in a running campaign too. The first reason and time stay.

    A number that is nobody's here is remembered, and comes in opted out.
    """
    from wabcast.store import contacts

    numbers = [number(phone, region) for phone in phones]
    with output.open_store() as db:
        done = contacts.opt_out(db, numbers, reason=reason, at=now())
    _say(done, "opted out", "opted out already")
    if done.unknown:
        output.note(f"{done.unknown:,} are not contacts; they are remembered as opted out")


def opt_in(phones: Phones, region: Region = None) -> None:
    """Allow to write to these again, because they said so."""
    from wabcast.store import contacts

    _turn(contacts.opt_in, phones, region, "opted in", "not opted out")


def block(phones: Phones, region: Region = None) -> None:
    """Never choose these for a campaign: our decision, where an opt-out is theirs."""
    from wabcast.store import contacts

    _turn(contacts.block, phones, region, "blocked", "blocked already")


def unblock(phones: Phones, region: Region = None) -> None:
    """Take a block back."""
    from wabcast.store import contacts

    _turn(contacts.unblock, phones, region, "unblocked", "not blocked")


def remove(
    phones: Phones,
    region: Region = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase people: their data, and their names and words in every message and log.

    What is owed to them is skipped, what was sent stays counted. Whoever was opted out or blocked
    stays so by a hash of the number; opt out first, if they asked not to be written to.
    `db vacuum` then clears the file's unused space too.
    """
    from wabcast.clock import Clock
    from wabcast.store import contacts, erasure

    numbers = list(dict.fromkeys(number(phone, region) for phone in phones))
    with output.open_store() as db:
        for phone in numbers:
            contacts.get(db, phone)
        output.confirm(f"Erase {', '.join(numbers)}? This cannot be undone.", yes=yes)
        clock = Clock()
        skipped = sum(erasure.remove(db, phone, at=now(), clock=clock) for phone in numbers)
    if output.options().json:
        output.emit({"removed": len(numbers), "skipped": skipped})
    output.note(
        f"{len(numbers):,} removed" + (f", {skipped:,} messages skipped" if skipped else "")
    )


def _turn(
    change: Callable[..., Changed],
    phones: Iterable[str],
    region: str | None,
    done: str,
    already: str,
) -> None:
    numbers = [number(phone, region) for phone in phones]
    with output.open_store() as db:
        changed = _known(change, db, numbers)
    _say(changed, done, already)


def _known(change: Callable[..., Changed], db: Connection, numbers: list[str]) -> Changed:
    changed = change(db, numbers, at=now())
    if changed.unknown:
        raise NotFound(
            f"{changed.unknown:,} of {len(numbers):,} numbers are no contact's: "
            f"{', '.join(numbers[:5])}",
            hint="wabcast contact list; those that are contacts were changed",
        )
    return changed


def _say(done: Changed, word: str, already: str) -> None:
    if output.options().json:
        output.emit(asdict(done))
    if done.changed:
        output.note(f"{done.changed:,} {word}")
    if done.already:
        output.note(f"{done.already:,} {already}")
